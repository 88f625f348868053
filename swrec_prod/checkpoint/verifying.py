"""Whether a checkpoint is what was written: every file against checksums.txt."""

from __future__ import annotations

import sys
from pathlib import Path

import torch.distributed as dist
import torch.distributed.checkpoint as dcp

from swrec_prod.checkpoint.checksums import CHECKSUMS_FILE, Checksum, from_text, problems
from swrec_prod.checkpoint.state import CHECKED, read_state
from swrec_prod.errors import CheckpointError

WHAT_HELPS = "copy it again, or train again with --overwrite"
UNVERIFIED = "saved without checksums, by an earlier version: it cannot be verified"


def verify(path: Path, *, ranks: bool = False) -> bool:
    """Compare every file of a checkpoint with its checksums; False where it was saved before there were any.

    ranks: all ranks call this, and each reads its part of the files.
    Raises CheckpointError, on every rank, naming what is damaged or missing.
    """
    checksums = _checksums(path)
    if checksums is None:
        _check_sizes(path)
        return False
    rank, count = (dist.get_rank(), dist.get_world_size()) if ranks else (0, 1)
    wrong = problems(path, sorted(checksums)[rank::count], checksums)
    if count > 1:
        everyone: list[list[str]] = [[]] * count
        dist.all_gather_object(everyone, wrong)
        wrong = [line for lines in everyone for line in lines]
    if wrong:
        more = f" (and {len(wrong) - 1} more files)" if len(wrong) > 1 else ""
        raise CheckpointError(f"{path}: damaged: {wrong[0]}{more}; {WHAT_HELPS}")
    return True


def _check_sizes(path: Path) -> None:
    """What can be said of a checkpoint without checksums: whether its files are as long as .metadata says.

    Raises CheckpointError when one is not.
    """
    try:
        written = dcp.FileSystemReader(path).read_metadata().storage_data or {}
    except Exception as failure:  # a damaged pickle raises anything
        raise CheckpointError(f"{path}: damaged: .metadata: {failure}; {WHAT_HELPS}") from failure
    for piece in written.values():
        file = path / piece.relative_path
        size = file.stat().st_size if file.is_file() else 0
        if size < piece.offset + piece.length:
            expected = f"{size} bytes, expected {piece.offset + piece.length} or more"
            raise CheckpointError(f"{path}: damaged: {file.name}: {expected}; {WHAT_HELPS}")


def say_unverified(path: Path) -> None:
    """One line for a checkpoint of before."""
    print(f"{path}: {UNVERIFIED}", file=sys.stderr, flush=True)


def _checksums(path: Path) -> dict[str, Checksum] | None:
    """checksums.txt; None where there was none to be. Raises CheckpointError when it is damaged or gone."""
    file = path / CHECKSUMS_FILE
    try:
        return from_text(file.read_text())
    except FileNotFoundError:
        if CHECKED in read_state(path):
            raise CheckpointError(f"{path}: damaged: no {CHECKSUMS_FILE}; {WHAT_HELPS}") from None
        return None
    except (ValueError, OSError) as failure:  # not UTF-8, not its format, or the disk gives it no more
        raise CheckpointError(f"{file}: damaged: {failure}; {WHAT_HELPS}") from None
