"""The process that turns finished segments into Parquet, beside the server and behind it in everything.

    python -m swrec_prod.exposures.converter DIR

It ends when its standard input does, so that it outlives no server, after a last look for what workers have finished.
What it does not get done then, it or another one does at the next start.
"""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

from swrec_prod.errors import DataError
from swrec_prod.exposures.bounds import WAITING, usable
from swrec_prod.exposures.convert import convert
from swrec_prod.exposures.write_ahead import NEW, Taken, waiting

LOOK = 1.0  # seconds between two looks for finished segments
LAST = 5.0  # seconds that it goes on after its input has ended
NICE = 19


def convert_finished(folder: Path, until: float = float("inf")) -> int:
    """Convert the finished segments of the log in `folder`; returns how many rows.

    until: on the monotonic clock, when not to begin another one. Raises OSError for a disk that is full or broken.
    """
    rows = 0
    for path in waiting(folder / WAITING):
        if time.monotonic() > until:
            break
        if taken := Taken.of(path):
            rows += _converted(taken, folder)
    return rows


def _converted(taken: Taken, folder: Path) -> int:
    try:
        rows = convert(taken.table(), taken.path.stem, folder)
    except OSError:
        taken.give_back()
        raise
    except Exception as failure:  # of one file: the others are not to wait for it
        what = failure if isinstance(failure, DataError) else f"{type(failure).__name__}: {failure}"
        print(f"exposures: {what}; kept as {taken.set_aside()}", file=sys.stderr, flush=True)
        return 0
    taken.remove()
    return rows


def remove_unbegun(folder: Path) -> None:
    """Remove segments whose writers were killed before they wrote anything."""
    for path in (folder / WAITING).glob(f"*{NEW}"):
        if taken := Taken.of(path):
            taken.remove()


def main() -> None:
    """The process."""
    folder = Path(sys.argv[1])
    os.nice(NICE)
    usable(folder)
    remove_unbegun(folder)
    complained = False
    while not _input_ends(LOOK):
        complained = _try(folder, float("inf"), complained)
    _try(folder, time.monotonic() + LAST, complained)


def _try(folder: Path, until: float, complained: bool) -> bool:
    """Convert; whether it could not, which is said once."""
    try:
        convert_finished(folder, until)
    except OSError as failure:
        if not complained:
            print(f"exposures: {folder}: {failure.strerror or failure}; trying again", file=sys.stderr, flush=True)
        return True
    return False


def _input_ends(seconds: float) -> bool:
    """Whether standard input ends within so many seconds."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1024)


if __name__ == "__main__":
    main()
