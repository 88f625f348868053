"""Clocks of places against zoneinfo: every hour of days on which clocks change, in every zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swrec_prod.zones import HOUR_US, NEVER, clock_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = sorted(available_timezones())
KNOWN = st.integers(631_152_000, 2_208_988_799)  # 1990 to 2039


def local_hours(moment_us: int, zone: str) -> int:
    there = (EPOCH + timedelta(microseconds=moment_us)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return (there - datetime(1970, 1, 1)) // timedelta(hours=1)


@settings(deadline=None)
@given(st.sampled_from(ZONES), KNOWN)
def test_hours_are_those_of_the_place(zone: str, second: int) -> None:
    clock, moment = clock_of(zone), second * 1_000_000
    piece = int(np.searchsorted(np.array(clock.begins), moment, side="right")) - 1
    found, there = int(clock.hours(np.array([moment]))[0]), local_hours(moment, zone)
    assert found == there or (clock.floors[piece] != NEVER and there < found <= there + 2)
    assert clock.day(moment) == found // 24


@settings(deadline=None)
@given(st.sampled_from(ZONES), st.integers(0, 200))
def test_hours_and_days_never_fall(zone: str, which: int) -> None:
    clock = clock_of(zone)
    change = clock.begins[1:][which % (len(clock.begins) - 1)] if len(clock.begins) > 1 else 10**15
    moments = change + np.arange(-30 * HOUR_US, 30 * HOUR_US, HOUR_US // 60)
    hours = clock.hours(moments)
    assert (np.diff(hours) >= 0).all()
    exact = [local_hours(int(moment), zone) for moment in moments[::7]]
    assert (hours[::7] >= exact).all() and (hours[::7] == exact).mean() > 0.9


@settings(deadline=None)
@given(st.sampled_from(ZONES), st.dates(date(1991, 1, 1), date(2038, 12, 31)))
def test_days_begin_at_midnight(zone: str, day: date) -> None:
    """Or, where a clock leaves midnight out, at the first moment of the day."""
    number = (day - date(1970, 1, 1)).days
    found = int(clock_of(zone).midnights(np.array([number]))[0])
    there = (EPOCH + timedelta(microseconds=found)).astimezone(ZoneInfo(zone))
    before = (EPOCH + timedelta(microseconds=found - 1)).astimezone(ZoneInfo(zone))
    assert there.date() >= day > before.date() and clock_of(zone).day(found - 1) < number


@pytest.mark.parametrize(
    ("zone", "day", "length"),
    [
        ("America/New_York", datetime(2024, 3, 10), 23),
        ("America/New_York", datetime(2024, 11, 3), 25),
        ("Europe/Berlin", datetime(2024, 10, 27), 25),
        ("America/Sao_Paulo", datetime(2018, 2, 17), 25),  # back from 00:00 to 23:00
        ("Australia/Lord_Howe", datetime(2024, 4, 7), 24.5),
        ("Asia/Shanghai", datetime(2024, 3, 10), 24),
        ("+05:30", datetime(2024, 3, 10), 24),
    ],
)
def test_a_day_may_have_more_or_fewer_hours(zone: str, day: datetime, length: float) -> None:
    clock, number = clock_of(zone), (day - datetime(1970, 1, 1)).days
    moments = (number - 1) * 24 * HOUR_US + np.arange(0, 72 * HOUR_US, HOUR_US // 60)
    days = clock.hours(moments) // 24
    assert (days == number).sum() == length * 60
    assert clock.day(int(moments[0])) == days[0]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("Asia/Shangai", "did you mean Asia/Shanghai"),
        ("new_york", "America/New_York"),
        ("asia/tokyo", "did you mean Asia/Tokyo"),
        ("+8", "'\\+8' is neither an offset such as \\+08:00 nor a time zone; zones are called as Asia/Shanghai"),
        ("+15:00", "neither an offset"),
    ],
)
def test_an_unknown_place_is_told(place: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        clock_of(place)
