r"""Derived columns: one function each, for prepare and for the server alike. See schema/derived.py for what they mean.

Columns come in as raw values (raw_values.py) and go out as Arrow arrays of N rows. A moment is a timestamp, without a
zone UTC, or int64 microseconds since 1970. A date is a date, text such as 2022-05-01, or a moment, which is of the day
that it is of in `zone`. A missing value of any input makes a missing value.

    hour, weekday, month_day, days_since   int64      bucketize            int64
    ratio, difference                      float64    lookup               as the table has it
    cross                                  string: the ids with | between them; a | or \ in an id has a \ before it
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.encoding.lookup_table import LookupTable
from swrec_prod.encoding.raw_values import (
    Values,
    check_strings,
    flat,
    floats,
    integers,
    is_string,
    strings,
    wrong_type,
)
from swrec_prod.errors import DataError
from swrec_prod.schema import Derived, FeatureSchema

MICROS = pa.timestamp("us", "UTC")
DAY_US = 86_400_000_000
HAS_ZONE = r"(Z|[+-]\d\d(:?\d\d)?)$"
LENGTH_OF_DATE = len("2022-05-01")


class Given(NamedTuple):
    """An input column. name: for messages."""

    name: str
    values: Values


@dataclass(frozen=True)
class DerivedColumns:
    """The derived columns of a schema, in their order. lookups: the tables of those that look up, by name."""

    schema: FeatureSchema
    lookups: Mapping[str, LookupTable] = field(default_factory=dict)

    def __call__(self, columns: Mapping[str, Values], wanted: Set[str] | None = None) -> dict[str, pa.Array]:
        """Every derived column whose inputs are there: in `columns`, N rows each, or derived themselves. wanted: those
        to compute alone.

        Raises DataError naming a column and its first value that cannot be used.
        """
        made: dict[str, pa.Array] = {}
        for derived in self.schema.derived:
            given = {**columns, **made}
            is_wanted = wanted is None or derived.name in wanted
            if is_wanted and all(name in given for name in derived.reads(self.schema.time)):
                made[derived.name] = self.column(derived, given)
        return made

    def column(self, derived: Derived, columns: Mapping[str, Values]) -> pa.Array:
        """One derived column of N rows; `columns` holds its inputs."""
        given = [Given(name, columns[name]) for name in derived.reads(self.schema.time)]
        if derived.function == "lookup":
            return self.lookups[derived.name](given[0].values, given[0].name)
        return FUNCTIONS[derived.function](derived, given)

    def type_of(self, derived: Derived) -> pa.DataType:
        """The Arrow type of a derived column."""
        return self.lookups[derived.name].values.type if derived.function == "lookup" else TYPES[derived.function]


def hour(derived: Derived, given: Sequence[Given]) -> pa.Array:
    """0 to 23 in the zone."""
    return pc.hour(_local(given[0], derived.zone)).cast(pa.int64())


def weekday(derived: Derived, given: Sequence[Given]) -> pa.Array:
    """0 (Monday) to 6 in the zone."""
    return pc.day_of_week(_local(given[0], derived.zone)).cast(pa.int64())


def month_day(derived: Derived, given: Sequence[Given]) -> pa.Array:
    """1 to 31 in the zone."""
    return pc.day(_local(given[0], derived.zone)).cast(pa.int64())


def days_since(derived: Derived, given: Sequence[Given]) -> pa.Array:
    """Midnights in the zone between the first column's date and the second's; below 0 where the first is later."""
    since, until = (_day_numbers(column, derived.zone) for column in given)
    return pc.subtract(until, since)


def cross(derived: Derived, given: Sequence[Given]) -> pa.Array:
    """The ids as one text; no two combinations share one."""
    return pc.binary_join_element_wise(*(_escaped(_texts(column)) for column in given), "|")


def ratio(derived: Derived, given: Sequence[Given]) -> pa.Array:
    """first / second; missing where the second is 0."""
    first, second = (floats(column.values, column.name) for column in given)
    return _finite(derived, first, second, np.divide, second == 0)


def difference(derived: Derived, given: Sequence[Given]) -> pa.Array:
    """first - second."""
    first, second = (floats(column.values, column.name) for column in given)
    return _finite(derived, first, second, np.subtract, np.zeros(len(first), bool))


def bucketize(derived: Derived, given: Sequence[Given]) -> pa.Array:
    """How many boundaries are <= value: 0 to len(boundaries)."""
    numbers = floats(given[0].values, given[0].name)
    buckets = np.searchsorted(derived.boundaries, numbers, side="right")
    return pa.array(buckets.astype(np.int64), mask=np.isnan(numbers))


FUNCTIONS: dict[str, Callable[[Derived, Sequence[Given]], pa.Array]] = {
    "hour": hour, "weekday": weekday, "month_day": month_day, "days_since": days_since, "cross": cross, "ratio": ratio,
    "difference": difference, "bucketize": bucketize,
}  # fmt: skip
TYPES = {
    name: pa.string() if name == "cross" else pa.float64() if name in ("ratio", "difference") else pa.int64()
    for name in FUNCTIONS
}


def _finite(
    derived: Derived, first: np.ndarray, second: np.ndarray, operation: np.ufunc, missing: np.ndarray
) -> pa.Array:
    """`operation` of two float64 [N]. Raises DataError where it is more than float64 holds."""
    with np.errstate(all="ignore"):
        result = operation(first, second)
    missing = missing | np.isnan(result)
    if too_large := np.flatnonzero(np.isinf(result) & ~missing).tolist():
        values = f"{first[too_large[0]]} and {second[too_large[0]]}"
        raise DataError(f"derived {derived.name!r}: the {derived.function} of {values} is more than a float64 holds")
    return pa.array(result, mask=missing)


def _moments(column: Given) -> pa.Array:
    """timestamp[us, UTC] [N]."""
    if isinstance(column.values, (pa.Array, pa.ChunkedArray)):
        array = flat(column.values)
        if pa.types.is_timestamp(array.type):
            return array.cast(MICROS, safe=False)
        if not (pa.types.is_int64(array.type) or pa.types.is_null(array.type)):
            raise wrong_type(column.name, array, "a timestamp, or int64 microseconds since 1970")
    micros, missing = integers(column.values, column.name)
    return pa.array(micros, pa.int64(), mask=missing).cast(MICROS)


def _local(column: Given, zone: str) -> pa.Array:
    """timestamp[us] [N]: what clocks in the zone show."""
    moments = _moments(column)
    if zone == "UTC":
        return moments.cast(pa.timestamp("us"))
    try:
        return pc.local_timestamp(moments.cast(pa.timestamp("us", zone)))
    except pa.ArrowInvalid as failure:  # the schema knows the zone, Arrow reads the machine's own database
        reason = " ".join(str(failure).split())
        raise DataError(f"zone {zone!r}: {reason}; install the system's time zone database (tzdata)") from None


def _day_numbers(column: Given, zone: str) -> pa.Array:
    """Days since 1970, int64 [N]."""
    values = column.values
    array = flat(values) if isinstance(values, (pa.Array, pa.ChunkedArray)) else None
    if array is not None and pa.types.is_date32(array.type):
        return array.cast(pa.int32()).cast(pa.int64())
    if is_text(values):
        return _days_of_text(column, zone)
    local = _local(column, zone).cast(pa.int64())
    missing = local.is_null().to_numpy(zero_copy_only=False)
    return pa.array(local.fill_null(0).to_numpy() // DAY_US, mask=missing)


def _days_of_text(column: Given, zone: str) -> pa.Array:
    """Of dates as they are, and of moments with or without a zone, which may stand in one column."""
    texts = _texts(column)
    is_date = pc.equal(pc.utf8_length(texts), LENGTH_OF_DATE)
    zoned = pc.if_else(pc.match_substring_regex(texts, HAS_ZONE), texts, pc.binary_join_element_wise(texts, "Z", ""))
    nothing = pa.nulls(len(texts), pa.string())
    try:
        dates = pc.if_else(is_date, texts, nothing).cast(pa.date32())
        moments = pc.if_else(is_date, nothing, zoned).cast(MICROS)
    except pa.ArrowInvalid as failure:
        bad = re.findall(r"'(.*?)Z?'", str(failure))
        raise DataError(f"column {column.name!r} has the value {bad[0]!r}, expected a date as 2022-05-01") from None
    days = dates.cast(pa.int32()).cast(pa.int64())
    return pc.coalesce(days, _day_numbers(Given(column.name, moments), zone))


def is_text(values: Values) -> bool:
    """Whether the values are strings: by their type, or the first that is not missing."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        return is_string(kind)
    return isinstance(next((value for value in values if value is not None), None), str)


def _texts(column: Given) -> pa.Array:
    """string [N] of ids: strings as they are, integers in digits."""
    if is_text(column.values):
        texts = strings(column.values, column.name)
        if isinstance(texts, list):
            check_strings(texts, column.name)
        return texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())
    numbers, missing = integers(column.values, column.name)
    return pa.array(numbers, pa.int64(), mask=missing).cast(pa.string())


def _escaped(texts: pa.Array) -> pa.Array:
    for character in ("\\", "|"):
        texts = pc.replace_substring(texts, character, f"\\{character}")
    return texts
