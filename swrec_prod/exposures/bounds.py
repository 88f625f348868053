"""Where an exposure log is, and how much it may hold. Without Arrow, as the supervisor checks it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from swrec_prod.errors import ConfigError, nearest

WAITING = "wal"  # folder of the segments that wait to be converted
MEBI = 1 << 20


class Bounds(NamedTuple):
    """How much the log may hold, MiB. buffer_mb: of answers that are not written yet, in each worker; segment_mb,
    segment_seconds: when a segment is finished, whichever is first; waiting_mb: of all segments on the disk, beyond
    which answers are dropped until some have been converted.
    """

    buffer_mb: float = 64.0
    segment_mb: float = 64.0
    segment_seconds: float = 60.0
    waiting_mb: float = 4096.0

    @classmethod
    def parsed(cls, texts: Sequence[str]) -> Bounds:
        """Of texts NAME=NUMBER; the others are as they are by default. Raises ConfigError."""
        given = {}
        for text in texts:
            name, _, number = text.partition("=")
            try:
                given[name] = float(number)
            except ValueError:
                raise ConfigError(f"exposures bound {text!r}: expected NAME=NUMBER, such as buffer_mb=64") from None
            if name not in cls._fields:
                raise ConfigError(f"exposures bound {name!r} is unknown; {nearest(name, cls._fields)}")
        return cls(**given)


def usable(folder: Path) -> Path:
    """The folder of write-ahead segments of the log in `folder`, made if need be. Raises ConfigError."""
    inside = folder / WAITING
    try:
        inside.mkdir(parents=True, exist_ok=True)
        probe = inside / ".probe"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as failure:
        raise ConfigError(f"exposures {folder}: cannot be written to: {failure.strerror}; give a folder") from None
    return inside
