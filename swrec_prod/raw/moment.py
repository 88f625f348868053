"""Moments of a log as microseconds since 1970, from the numbers on its calendar and clock:
integer arithmetic, alike on every engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from swrec_prod.zones import DAY_US, HOUR_US, Clock

if TYPE_CHECKING:
    import ibis.expr.types as ir

SECOND = 1_000_000  # microseconds
DAY = 86_400 * SECOND


def civil_micros(
    year: ir.IntegerColumn, month: ir.IntegerColumn, day: ir.IntegerColumn, second_of_day: ir.IntegerColumn
) -> ir.IntegerColumn:
    """Microseconds since 1970-01-01 00:00 of a moment after it, in the Gregorian calendar.

    The year is taken to begin in March, so that the leap day is its last one and the months 3..14 have (153 n + 2) // 5
    days before them.
    """
    early = (month <= 2).ifelse(1, 0)
    years, months = year - early, month + 12 * early - 3
    days = years * 365 + years // 4 - years // 100 + years // 400 + (153 * months + 2) // 5 + day - 1
    return (days - 719_468) * DAY + second_of_day * SECOND  # 719,468 days from 0000-03-01 to 1970-01-01


def digits_micros(text: ir.StringColumn) -> ir.IntegerColumn:
    """Microseconds of `20181207093000` or `2018-12-07 09:30:00`.

    What is neither fails when it is evaluated, or is no sensible moment.
    """
    number = text.re_replace("[^0-9]", "").cast("int64")
    date, clock = number // 1_000_000, number % 1_000_000
    seconds = clock // 10_000 * 3600 + clock // 100 % 100 * 60 + clock % 100
    return civil_micros(date // 10_000, date // 100 % 100, date % 100, seconds)


def local_hours(moment: ir.IntegerValue, clock: Clock) -> ir.IntegerValue:
    """Clock.hours as an expression. moment: microseconds since 1970 UTC."""
    hours = (moment + _piecewise(moment, clock.begins, clock.offsets)) // HOUR_US
    if len(set(clock.floors)) == 1:
        return hours
    least = _piecewise(moment, clock.begins, clock.floors)
    return (hours < least).ifelse(least, hours)


def midnights(days: ir.IntegerValue, clock: Clock) -> ir.IntegerValue:
    """Clock.midnights as an expression. days: since 1970."""
    local = days * DAY_US
    return local - _piecewise(local, clock.local_begins, clock.offsets)


def _piecewise(moment: ir.IntegerValue, begins: Sequence[int], values: Sequence[int]) -> ir.IntegerValue:
    """The value of the last piece that begins not after `moment`: a tree, so that few of its branches are evaluated."""
    import ibis

    if len(set(values)) == 1:
        return ibis.literal(values[0], "int64")
    middle = len(values) // 2
    before, after = (_piecewise(moment, begins[part], values[part]) for part in (slice(middle), slice(middle, None)))
    return (moment < begins[middle]).ifelse(before, after)
