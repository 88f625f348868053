"""Names of answers: UUIDs of version 7 (RFC 9562), which sort by time, also when the clock steps back.

48 bits  milliseconds since 1970
4 + 12   version 7, and a count within the millisecond (section 6.2, method 1)
2 + 54   variant, and random bits
8 bits   0; the exposures of one answer count on from here
"""

from __future__ import annotations

import random

MOST_EXPOSURES = 256  # of one answer, whose ids must differ
_VERSION, _VARIANT = 7 << 76, 2 << 62
_COUNTS = 1 << 12
_RANDOM_BITS = 54


class EventIds:
    """Ids of one process: each is larger than the last."""

    def __init__(self) -> None:
        self._draw = random.Random()  # of the system's entropy: processes that were forked of one differ
        self._millisecond = self._count = 0

    def next(self, microseconds: int) -> bytes:
        """The id of an answer at this moment since 1970; of an earlier one than the last, it counts on from that."""
        millisecond = microseconds // 1000
        if millisecond > self._millisecond:
            self._millisecond, self._count = millisecond, 0
        else:
            self._count += 1
            if self._count == _COUNTS:
                self._millisecond, self._count = self._millisecond + 1, 0
        time = self._millisecond << 80 | _VERSION | self._count << 64
        return (time | _VARIANT | self._draw.getrandbits(_RANDOM_BITS) << 8).to_bytes(16, "big")
