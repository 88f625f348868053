"""Clocks of places: a fixed offset from UTC, or an IANA time zone as the table of its changes of clocks.

Tables instead of an engine's own functions: all engines, and all machines with the same tz database, then agree.
"""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import numpy as np

SECOND_US = 1_000_000
HOUR_US, DAY_US = 3600 * SECOND_US, 86_400 * SECOND_US
OFFSET = re.compile(r"([+-])(0\d|1[0-4]):([0-5]\d)")
FIRST_YEAR, LAST_YEAR = 1990, 2040  # of changes that are known: no log is older, and none is of the future
NEVER = -(2**62)


class Clock(NamedTuple):
    """begins: from which moments on an offset holds, microseconds since 1970 UTC [K], rising. offsets: of the place
    from UTC, microseconds [K].

    floors: the least hour since 1970 of each piece [K]. Where clocks go back, an hour comes twice; where that is more
    than one hour, or not at its end, the hours after the change would be earlier than those before it. There they stay
    at the last one, so that hours and days never fall: a moment is then up to an hour off the place's clock.
    """

    begins: tuple[int, ...]
    offsets: tuple[int, ...]
    floors: tuple[int, ...]

    def hours(self, moments: np.ndarray) -> np.ndarray:
        """The place's hours since 1970-01-01 00:00 there, int64 [N]; 24 a day, also where one of them comes twice.

        moments: microseconds since 1970 UTC [N].
        """
        piece = np.searchsorted(np.array(self.begins), moments, side="right") - 1
        return np.maximum((moments + np.array(self.offsets)[piece]) // HOUR_US, np.array(self.floors)[piece])

    def midnights(self, days: np.ndarray) -> np.ndarray:
        """When days begin at the place, microseconds since 1970 UTC, int64 [N]. days: since 1970 [N]."""
        local = days * DAY_US
        return local - np.array(self.offsets)[np.searchsorted(np.array(self.local_begins), local, side="right") - 1]

    @property
    def local_begins(self) -> tuple[int, ...]:
        """From when on each offset holds by the place's own clock [K]: of what it shows twice the first counts, and a
        day whose midnight it leaves out begins where it goes on.
        """
        changes = zip(self.begins[1:], self.offsets, self.offsets[1:], strict=False)
        return (NEVER, *(begin + before + (after > before) for begin, before, after in changes))

    def day(self, moment: int) -> int:
        """The place's days since 1970-01-01."""
        return int(self.hours(np.array([moment]))[0]) // 24


@cache
def clock_of(place: str) -> Clock:
    """The clock of an offset such as +08:00, or of an IANA zone such as Asia/Shanghai.

    Raises ValueError naming the nearest zones.
    """
    if offset := OFFSET.fullmatch(place):
        sign, hours, minutes = offset.groups()
        return Clock(
            (NEVER,), ((-1 if sign == "-" else 1) * (int(hours) * 60 + int(minutes)) * 60 * SECOND_US,), (NEVER,)
        )
    if place not in available_timezones():
        raise ValueError(f"{place!r} is neither an offset such as +08:00 nor a time zone; {_nearest_zones(place)}")
    return _clock(ZoneInfo(place))


def _nearest_zones(word: str) -> str:
    zones = sorted(available_timezones())
    names = {zone.rpartition("/")[2].lower(): zone for zone in zones} | {zone.lower(): zone for zone in zones}
    close = dict.fromkeys(names[name] for name in difflib.get_close_matches(word.lower(), names, n=4))
    return f"did you mean {' or '.join(close)}?" if close else "zones are called as Asia/Shanghai or America/New_York"


def _clock(zone: ZoneInfo) -> Clock:
    first = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
    days = (datetime(LAST_YEAR, 1, 1, tzinfo=UTC) - first).days
    begins, offsets, floors = [NEVER], [_offset(zone, first)], [NEVER]
    for before in (first + timedelta(days=i) for i in range(days)):
        after = before + timedelta(days=1)
        if (offset := _offset(zone, after)) != offsets[-1]:
            begins.append(_micros(_change(zone, before, after)))
            last_hour = (begins[-1] + offsets[-1] - 1) // HOUR_US
            floors.append(last_hour if (begins[-1] + offset) // HOUR_US < last_hour else NEVER)
            offsets.append(offset)
    return Clock(tuple(begins), tuple(offsets), tuple(floors))


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second of the offset that holds `after`, which another one holds `before`."""
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        before, after = (middle, after) if _offset(zone, middle) == _offset(zone, before) else (before, middle)
    return after


def _offset(zone: ZoneInfo, moment: datetime) -> int:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None, "a moment in a zone has an offset"
    return offset // timedelta(microseconds=1)


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
