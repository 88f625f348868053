"""Derived columns: each function against an independent one, and what is told of wrong ones."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swrec_prod.computed.columns import derived_types
from swrec_prod.encoding.derived import DerivedColumns
from swrec_prod.encoding.lookup_table import LookupTable
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.schema import FeatureSchema
from swrec_prod.strict import parse

ZONES = ("UTC", "Asia/Shanghai", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)
before_2038 = st.integers(631_152_000_000_000, 2_145_000_000_000_000)  # Arrow knows no change of clocks later
# an hour before and after the clocks change in Berlin, New York and on Lord Howe (by half an hour)
changes = st.sampled_from([1711846800, 1729990800, 1710054000, 1730613600, 1712415600, 1728142200])
moments = st.one_of(
    before_2038, st.builds(lambda at, by: (at + by) * 10**6, changes, st.integers(-3600, 3600)), st.none()
)


def schema_of(*derived: dict[str, Any], **changes: Any) -> FeatureSchema:
    """A schema with these derived columns, and a feature that reads the last of them."""
    last = derived[-1]["name"]
    plain = {
        "name": "some",
        "time": "at",
        "user": "who",
        "labels": [{"name": "click", "column": "clicked"}],
        "derived": list(derived),
        "features": [{"name": last, "kind": "id", "side": "item", "encoder": {"kind": "hash", "buckets": 9}}],
    }
    return parse(FeatureSchema, plain | changes, "some.yaml")


def derived(columns: dict[str, Any], lookups: dict[str, LookupTable] | None = None, **one: Any) -> list[Any]:
    """The values of one derived column."""
    schema = schema_of({"name": "made", **one})
    return DerivedColumns(schema, lookups or {})(columns)["made"].to_pylist()


def as_given(micros: list[int | None], how: str) -> Any:
    """Moments as a request has them (int64 microseconds), and as logs have them."""
    kinds = {"zoned": pa.timestamp("us", "America/Lima"), "naive": pa.timestamp("us"), "int64": pa.int64()}
    return micros if how == "list" else pa.chunked_array([pa.array(micros, pa.int64()).cast(kinds[how])])


@settings(max_examples=60, deadline=None)
@given(st.lists(moments, min_size=1, max_size=20), st.sampled_from(ZONES), st.sampled_from(["list", "zoned", "naive"]))
def test_parts_of_a_moment_are_those_of_its_zone(micros: list[int | None], zone: str, how: str) -> None:
    local = [None if m is None else (EPOCH + m * MICRO).astimezone(ZoneInfo(zone)) for m in micros]
    columns = {"t": as_given(micros, how)}
    for function, part in (("hour", "hour"), ("month_day", "day")):
        made = derived(columns, function=function, of="t", zone=zone)
        assert made == [at and getattr(at, part) for at in local]
    assert derived(columns, function="weekday", of="t", zone=zone) == [at and at.weekday() for at in local]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.dates(date(1990, 1, 1), date(2045, 1, 1)) | st.none(), moments), min_size=1, max_size=20),
       st.sampled_from(ZONES), st.sampled_from(["date", "text", "moment"]))  # fmt: skip
def test_days_since_counts_midnights_of_the_zone(
    rows: list[tuple[date | None, int | None]], zone: str, how: str
) -> None:
    dates, until = [one for one, _ in rows], [one for _, one in rows]
    days = [None if m is None else (EPOCH + m * MICRO).astimezone(ZoneInfo(zone)).date() for m in until]
    expected = [(b - a).days if a and b else None for a, b in zip(dates, days, strict=True)]
    noon = [None if d is None else datetime(d.year, d.month, d.day, 12, tzinfo=ZoneInfo(zone)) for d in dates]
    born = {
        "date": pa.array(dates, pa.date32()),
        "text": [d and d.isoformat() for d in dates],
        "moment": [at and (at - EPOCH) // MICRO for at in noon],
    }
    columns = {"born": born[how], "at": until}
    assert derived(columns, function="days_since", of="born", zone=zone) == expected
    assert derived(columns, function="days_since", of=["born", "at"], zone=zone) == expected
    assert derived(columns, function="days_since", of=["at", "born"], zone=zone) == [n and -n for n in expected]


def test_dates_in_text_may_have_a_time_and_a_zone() -> None:
    at = int(datetime(2024, 5, 3, tzinfo=UTC).timestamp()) * 10**6
    texts = ["2024-05-01", "2024-05-01 23:00:00", "2024-05-01T23:00:00Z", "2024-05-02T04:00:00+05:00", None]
    assert derived({"a": texts, "at": [at] * 5}, function="days_since", of="a") == [2, 2, 2, 2, None]
    shanghai = derived({"a": texts, "at": [at] * 5}, function="days_since", of="a", zone="Asia/Shanghai")
    assert shanghai == [2, 1, 1, 1, None], "a moment is of the day that it is of there; a date is of itself"


ids = st.text("ab|\\1:", max_size=4)


@settings(max_examples=200, deadline=None)
@given(st.tuples(ids, ids, ids), st.tuples(ids, ids, ids))
def test_no_two_combinations_cross_to_one(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    columns = {name: [one[i], other[i]] for i, name in enumerate("abc")}
    first, second = derived(columns, function="cross", of=["a", "b", "c"])
    assert (first == second) == (one == other)


def test_a_cross_is_of_strings_and_integers_and_missing_where_one_is() -> None:
    columns = {"a": np.array([1, -2, 3]), "b": ["x", None, "|y"]}
    assert derived(columns, function="cross", of=["a", "b"]) == ["1|x", None, "3|\\|y"]
    arrow = {"a": pa.array([1, -2, 3], pa.int16()), "b": pa.array(["x", None, "|y"]).dictionary_encode()}
    assert derived(arrow, function="cross", of=["a", "b"]) == ["1|x", None, "3|\\|y"]


numbers = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32), st.just(0.0), st.integers(-9, 9).map(float))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30))
def test_arithmetic_is_that_of_sql(rows: list[tuple[float | None, float | None]]) -> None:
    table = pa.table(
        {"a": pa.array([a for a, _ in rows], pa.float64()), "b": pa.array([b for _, b in rows], pa.float64())}
    )
    columns = dict(zip("ab", table.columns, strict=True))
    buckets = "(a >= -1)::INT + (a >= 0)::INT + (a >= 2.5)::INT"
    with duckdb.connect() as con:
        con.register("given", table)
        sql = f"SELECT a / nullif(b, 0) AS ratio, a - b AS difference, {buckets} AS bucketize FROM given"
        expected = con.sql(sql).to_arrow_table()
    assert derived(columns, function="ratio", of=["a", "b"]) == expected["ratio"].to_pylist()
    assert derived(columns, function="difference", of=["a", "b"]) == expected["difference"].to_pylist()
    made = derived(columns, function="bucketize", of="a", boundaries=[-1, 0, 2.5])
    assert made == expected["bucketize"].to_pylist()


def test_what_is_more_than_a_float_holds_is_refused() -> None:
    columns = {"a": [1e308, 2.0], "b": [-1e308, 1e-320]}
    with pytest.raises(DataError, match=r"derived 'made': the difference of 1e\+308 and -1e\+308 is more than"):
        derived(columns, function="difference", of=["a", "b"])
    with pytest.raises(DataError, match=r"derived 'made': the ratio of 1e\+308 and 1e-320 is more than a float64"):
        derived({"a": [1e308], "b": [1e-320]}, function="ratio", of=["a", "b"])


LOOKUP = {"function": "lookup", "of": "item", "file": "items.csv", "key": "id", "value": "brand"}


def lookup_of(**columns: Any) -> LookupTable:
    schema = schema_of({"name": "made", **LOOKUP})
    return LookupTable.of(schema.derived[0], pa.table(columns), "items.csv")


@given(st.dictionaries(st.integers(-5, 60), st.none() | st.text(max_size=3)), st.lists(st.none() | st.integers(-9, 70)))
def test_a_lookup_is_a_dictionary(known: dict[int, str | None], asked: list[int | None]) -> None:
    table = lookup_of(id=pa.array(list(known), pa.int32()), brand=pa.array(list(known.values()), pa.string()))
    made = derived({"item": pa.array(asked, pa.int64())}, {"made": table}, **LOOKUP)
    assert made == [None if key is None else known.get(key) for key in asked]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"id": ["a", "b", "a"], "brand": [1, 2, 3]},
            "key column 'id' has 'a' in 2 rows; keep one row a key",
        ),
        ({"id": ["a", None], "brand": [1, 2]}, "key column 'id' has 1 missing values"),
        ({"id": [1.5], "brand": [1]}, "key column 'id' is double, expected string or integer"),
        ({"ids": [1], "brand": [1]}, "column 'id' (derived 'made') is missing; did you mean ids?"),
    ],
)
def test_a_table_without_one_row_a_key_is_refused(columns: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"items.csv: {said}")):
        lookup_of(**columns)


def test_a_lookup_may_give_dates_numbers_and_lists() -> None:
    values = [date(2024, 1, 1)], pa.array([3], pa.int8()), [["a", "b"]]
    kinds = [lookup_of(id=["k"], brand=one).values for one in values]
    assert [str(kind.type) for kind in kinds] == ["date32[day]", "int64", "list<item: string>"]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (
            {"function": "hour", "of": "t", "zone": "Asia/Shangai"},
            "zone 'Asia/Shangai' is no IANA time zone; did you mean Asia/Shanghai",
        ),
        (
            {"function": "hour", "of": "t", "zone": "shanghai"},
            "zone 'shanghai' is no IANA time zone; did you mean Asia/Shanghai?",
        ),
        (
            {"function": "hour", "of": "t", "zone": "+08:00"},
            "zone '+08:00' is no IANA time zone; write it as Asia/Shanghai or UTC",
        ),
        ({"function": "cross", "of": ["a", "b"], "zone": "UTC"}, "cross takes no zone"),
        ({"function": "cross", "of": "a"}, "cross takes 2 to 3 columns, not ['a']"),
        ({"function": "bucketize", "of": "a", "boundaries": [3, 1]}, "boundaries must rise, not [3.0, 1.0]"),
        ({"function": "lookup", "of": "a", "file": "x.csv", "key": "id"}, "lookup needs value"),
        ({"function": "ratio", "of": ["a", "b"], "file": "x.csv"}, "ratio takes no file"),
        (
            {"function": "ratio", "of": ["a", "made"]},
            "derived 'made' is computed of 'made', which has to stand before it",
        ),
        (
            {"function": "ratio", "of": ["clicked", "b"]},
            "feature 'made' reads column 'made', computed of 'clicked', which is the label 'click'",
        ),
        (
            {"function": "ratio", "of": ["a", "day"]},
            "column 'day', which derived features are computed of, has the name of a column that every request has",
        ),
        ({"function": "hours", "of": "a"}, "derived.0.function: input should be 'hour', 'weekday'"),
        ({"function": "hour", "of": "a", "zon": "UTC"}, "derived.0.zon: unknown key; did you mean zone?"),
    ],
)
def test_a_wrong_derived_column_is_told_in_one_line(one: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as told:
        schema_of({"name": "made", **one})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        ({"function": "cross", "of": ["itme", "who"]}, "derived 'made': column 'itme' is missing; did you mean item?"),
        ({"function": "cross", "of": ["item", "born"]}, "column 'born' is date, cross takes string or integer"),
        ({"function": "ratio", "of": ["price", "item"]}, "column 'item' is string, ratio takes integer or floating"),
        ({"function": "hour", "of": "born"}, "column 'born' is date, hour takes a timestamp, or int64 microseconds"),
        ({"function": "days_since", "of": "price"}, "column 'price' is float64, days_since takes a date, text such"),
    ],
)
def test_inputs_of_another_type_are_refused_by_name(one: dict[str, Any], said: str) -> None:
    types = {"at": "timestamp", "who": "int64", "item": "string", "price": "float64", "born": "date"}
    columns = {name: ibis.dtype(kind) for name, kind in types.items()}
    with pytest.raises(DataError, match=r"^log: derived 'made': ") as told:
        derived_types(DerivedColumns(schema_of({"name": "made", **one})), columns, "log")
    assert said in str(told.value)


def test_a_request_carries_what_derived_features_are_computed_of() -> None:
    schema = schema_of(
        {"name": "hour", "function": "hour", "of": "at"},
        {"name": "item_hour", "function": "cross", "of": ["item", "hour", "page"]},
        {"name": "age", "function": "days_since", "of": "released"},
        {"name": "spare", "function": "ratio", "of": ["price", "paid"]},
        scenario={"column": "page"},
        features=[
            {"name": "thing", "column": "item", "kind": "id", "side": "item", "encoder": "vocab"},
            {"name": "ih", "column": "item_hour", "kind": "id", "side": "item", "encoder": "vocab"},
            {"name": "days", "column": "age", "kind": "dense", "side": "item", "encoder": "standard"},
        ],
    )
    assert [(given.name, given.column, given.side) for given in schema.inputs] == [
        ("thing", "item", "item"),
        ("item", "item", "item"),
        ("time", "at", "user"),
        ("released", "released", "item"),
    ]
    assert [d.name for d in schema.select(("days",)).derived] == ["age"]
