"""The relational expressions on both engines, against naive loops."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swrec_prod.behaviours import windowed as behaviours
from swrec_prod.computed import fitted_values
from swrec_prod.engine.contract import Engine
from swrec_prod.prepare import etl
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.profile import Profile
from swrec_prod.schema import FeatureSchema

pytestmark = pytest.mark.engine

START = datetime(2024, 5, 1, tzinfo=UTC)
SCHEMA = {
    "name": "events",
    "time": "at",
    "user": "who",
    "weight": "w",
    "labels": [{"name": "click", "column": "clicked"}, {"name": "buy", "column": "bought"}],
    "features": [
        {"name": "item", "kind": "id", "side": "item", "encoder": "vocab"},
        {"name": "near", "kind": "bag", "side": "item", "shared_with": "item"},
        {"name": "price", "kind": "dense", "side": "item", "encoder": "standard"},
        {"name": "seen", "kind": "sequence", "side": "user", "item": "item", "max_length": 2},
        {"name": "clicks", "kind": "sequence", "side": "user", "item": "item", "where": "click", "max_length": 3},
        {"name": "buys", "kind": "sequence", "side": "user", "item": "item", "where": "buy"},
    ],
}
Both = tuple[Engine, Engine]
Row = dict[str, Any]


def data_file(**changes: Any) -> DataFile:
    return DataFile.model_validate({"source": "parquet", "schema": SCHEMA, **changes})


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def events(rows: int, seed: int) -> pa.Table:
    """Three days of events: few users and moments, so that many times are equal;
    some values are missing, some rows are twice there.
    """
    draw = np.random.default_rng(seed)
    items, prices = ["a", "b", "c", None], [1.0, 2.5, None, float("nan")]
    near = [["a"], ["b", None], [None, "b"], [], None, ["b"], ["b", "a"], ["b", "c"], [None]]
    columns = {
        "at": [START + timedelta(minutes=30 * int(i)) for i in draw.integers(0, 144, rows)],
        "who": draw.integers(0, 4, rows),
        "scenario": [["home", "cart"][i] for i in draw.integers(0, 2, rows)],
        "clicked": draw.integers(0, 2, rows).astype(np.int8),
        "bought": draw.random(rows) < 0.3,
        "item": [items[i] for i in draw.integers(0, 4, rows)],
        "near": pa.array([near[i] for i in draw.integers(0, len(near), rows)], pa.list_(pa.string())),
        "price": pa.array([prices[i] for i in draw.integers(0, 4, rows)], pa.float64()),
        "w": np.ones(rows),
    }
    table = pa.table(columns)
    return table.take(pa.array(draw.permutation(np.concatenate([np.arange(rows), draw.integers(0, rows, rows // 4)]))))


def standard(engine: Engine, table: pa.Table, file: DataFile | None = None) -> pa.Table:
    found = etl.standard(engine, engine.from_arrow(table), file or data_file())
    return engine.arrow(found.order_by([etl.DAY, etl.ROW]))


def rank(value: Any) -> tuple[Any, ...]:
    """Sorts as engines must: missing values last, NaN before them."""
    if isinstance(value, list):
        return (0, [rank(element) for element in value])
    if value is None:
        return (2, 0)
    return (1, 0) if isinstance(value, float) and math.isnan(value) else (0, value)


def in_order(rows: list[Row]) -> list[Row]:
    """By time, then by all other columns in order of their names."""
    return sorted(rows, key=lambda r: (r["at"], [rank(r[name]) for name in sorted(r) if name != "at"]))


def same(left: list[Row], right: list[Row]) -> bool:
    return repr(left) == repr(right)  # NaN is NaN


@pytest.mark.parametrize("zone", [UTC, None, timezone(timedelta(hours=9))])
@pytest.mark.parametrize(("offset", "hours"), [("+00:00", 0.0), ("+08:00", 8.0), ("-02:30", -2.5)])
def test_time_is_microseconds_and_days_begin_at_midnight_of_the_offset(
    local_engine: Engine, zone: Any, offset: str, hours: float
) -> None:
    moments = [START + timedelta(minutes=7 * i, microseconds=i) for i in range(0, 700, 3)]
    kind = pa.timestamp("us", None if zone is None else "UTC" if zone is UTC else "Asia/Tokyo")
    at = pa.array([m.replace(tzinfo=None) if zone is None else m for m in moments], kind)
    table = events(len(moments), 0).slice(0, len(moments)).set_column(0, "at", at)
    found = standard(local_engine, table, data_file(utc_offset=offset))
    assert sorted(found["at"].to_pylist()) == [micros(m) for m in moments]
    for at_us, day, hour in zip(
        found["at"].to_pylist(), found[etl.DAY].to_pylist(), found[etl.HOUR].to_pylist(), strict=True
    ):
        there = datetime(1970, 1, 1) + timedelta(microseconds=at_us) + timedelta(hours=hours)
        assert (day, hour) == (
            (there - datetime(1970, 1, 1)).days,
            (there - datetime(1970, 1, 1)) // timedelta(hours=1),
        )


def test_whole_numbers_are_microseconds_and_equal_timestamps(each_engine: Engine) -> None:
    table = events(50, 1)
    numbers = table.set_column(0, "at", pa.array([micros(m) for m in table["at"].to_pylist()]))
    assert same(standard(each_engine, numbers).to_pylist(), standard(each_engine, table).to_pylist())


def test_rows_are_numbered_day_by_day_by_time_and_then_by_all_columns(each_engine: Engine) -> None:
    found = standard(each_engine, events(400, 2)).to_pylist()
    for day in {row[etl.DAY] for row in found}:
        rows = [row for row in found if row[etl.DAY] == day]
        assert [row[etl.ROW] for row in rows] == [day * 2**32 + i for i in range(len(rows))]
        bare = [
            {name: value for name, value in row.items() if name not in (etl.DAY, etl.HOUR, etl.ROW)} for row in rows
        ]
        assert same(bare, in_order(bare))


def test_numbers_of_a_day_do_not_depend_on_other_days_or_on_the_order_of_rows(local_engine: Engine) -> None:
    table = events(300, 3)
    whole = standard(local_engine, table)
    for day in set(whole[etl.DAY].to_pylist()):
        begin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
        of_day = [begin <= moment < begin + timedelta(days=1) for moment in table["at"].to_pylist()]
        alone = table.filter(pa.array(of_day))
        alone = alone.take(pa.array(np.random.default_rng(day).permutation(len(alone))))
        expected = whole.filter(pa.array([found == day for found in whole[etl.DAY].to_pylist()]))
        assert same(standard(local_engine, alone).to_pylist(), expected.to_pylist())


def test_a_row_column_of_the_source_stays(each_engine: Engine) -> None:
    table = events(40, 4)
    rows = list(range(1000, 1000 + len(table)))
    table = table.append_column("number", pa.array(rows))
    found = each_engine.arrow(etl.standard(each_engine, each_engine.from_arrow(table), data_file(), row="number"))
    assert sorted(found[etl.ROW].to_pylist()) == rows


@pytest.mark.parametrize("keys", [["who", "item"], ["who", "at"], ["who", "at", "near"]])
def test_of_duplicates_of_a_day_the_first_by_time_and_then_by_all_columns_stays(
    each_engine: Engine, keys: list[str]
) -> None:
    table = events(300, 5)
    found = standard(each_engine, table, data_file(deduplicate=keys)).drop([etl.HOUR, etl.ROW]).to_pylist()
    kept: dict[str, Row] = {}
    for row in in_order([r | {"at": micros(r["at"])} for r in table.select(found[0].keys() - {etl.DAY}).to_pylist()]):
        kept.setdefault(repr([row["at"] // 86_400_000_000, *(row[key] for key in keys)]), row)
    names = sorted(found[0].keys() - {etl.DAY})
    assert same([{n: r[n] for n in names} for r in found], [{n: r[n] for n in names} for r in kept.values()])


EVENTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 5), st.booleans(), st.booleans(), st.booleans()),
    min_size=1,
    max_size=30,
)
Event = tuple[int, int, bool, bool, bool]


def windowed(engine: Engine, drawn: list[Event], split: bool) -> pa.Table:
    """behaviours.windowed of (user, time, clicked, bought, is it a training row), by position."""
    who, at, clicked, bought, train = (list(column) for column in zip(*drawn, strict=True))
    columns = {"who": who, "at": at, "clicked": clicked, "bought": bought, "row": list(range(len(drawn)))}
    columns |= {etl.SPLIT: ["train" if t else "test" for t in train]} if split else {}
    found = behaviours.windowed(engine.from_arrow(pa.table(columns)), FeatureSchema.model_validate(SCHEMA))
    return engine.arrow(found.order_by("row"))


def naive_windows(drawn: list[Event], split: bool) -> dict[str, list[int]]:
    counts: dict[str, list[int]] = {"seen": [], "clicks": [], "buys": []}
    for user, time, *_ in drawn:
        earlier = [e for e in drawn if e[0] == user and e[1] < time and (e[4] or not split)]
        counts["seen"].append(len(earlier))
        counts["clicks"].append(sum(e[2] for e in earlier))
        counts["buys"].append(sum(e[3] for e in earlier))
    return counts


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=EVENTS, split=st.booleans())
def test_a_row_counts_behaviours_strictly_before_it(local_engine: Engine, drawn: list[Event], split: bool) -> None:
    found = windowed(local_engine, drawn, split)
    for name, expected in naive_windows(drawn, split).items():
        assert found[f"_before_{name}"].to_pylist() == expected


@pytest.mark.parametrize("split", [False, True])
def test_both_engines_count_behaviours_strictly_before(engines: Both, split: bool) -> None:
    draw = np.random.default_rng(6)
    drawn = [
        (int(u), int(t), *map(bool, flags))
        for u, t, *flags in zip(*(draw.integers(0, n, 300) for n in (5, 40, 2, 2, 2)), strict=True)
    ]
    local, cluster = (windowed(engine, drawn, split) for engine in engines)
    assert local.equals(cluster)
    for name, expected in naive_windows(drawn, split).items():
        assert (
            local[f"_before_{name}"].to_pylist() == expected
            and local.schema.field(f"_before_{name}").type == pa.int64()
        )


def test_the_profile_counts_rows_labels_and_missing_values(each_engine: Engine) -> None:
    table = events(300, 7)
    bad = {
        "clicked": [None, 2, 1, 0] * 100,
        "w": [1.0, -1.0, None, float("nan"), float("inf")] * 80,
        "who": [1, 2, 3, 4, None] * 80,
    }
    for name, values in bad.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values[: len(table)]))
    click, buy = SCHEMA["labels"]
    schema = FeatureSchema.model_validate(SCHEMA | {"labels": [click, buy | {"after": "click"}]})
    found = each_engine.arrow(
        etl.profile(etl.standard(each_engine, each_engine.from_arrow(table), data_file()), schema)
    )
    naive: dict[tuple[int, str], Counter[str]] = {}
    columns = etl.checked(schema)
    for row in table.to_pylist():
        count = naive.setdefault((micros(row["at"]) // 3_600_000_000, row["scenario"]), Counter())
        count["rows"] += 1
        count["positives_click"] += row["clicked"] == 1
        count["positives_buy"] += row["bought"]
        count["early_buy"] += row["bought"] and row["clicked"] == 0
        count["unusable_click"] += row["clicked"] not in (0, 1)
        count["unusable_weight"] += row["w"] is None or not 0 <= row["w"] < math.inf
        for i, name in enumerate(columns):
            count[f"missing_{i}"] += name != etl.ROW and (row[name] is None or row[name] != row[name])
    for row in found.to_pylist():
        expected = naive.pop((row.pop(etl.HOUR), row.pop("scenario")))
        firsts = {name: row.pop(name) for name in list(row) if name.startswith(("when_", "shown_"))}
        assert set(firsts.values()) == {None}, "no value is unusable, so there is no first one"
        assert row == {name: expected[name] for name in row}
    assert not naive


@pytest.mark.parametrize("limit", [1, 40, 10_000])
def test_chunks_are_whole_hours_and_cover_every_row_once(local_engine: Engine, limit: int) -> None:
    schema = FeatureSchema.model_validate(SCHEMA)
    rows = standard(local_engine, events(400, 8))
    profile = Profile(local_engine.arrow(etl.profile(local_engine.from_arrow(rows), schema)), schema)
    hours = rows[etl.HOUR].to_pylist()
    days = profile.days[1:]
    end = min(h for h in hours if h // 24 == (days[0] - datetime(1970, 1, 1).date()).days)
    for first, last, count in profile.chunks(days, limit):
        inside = [h for h in hours if first <= h < last]
        assert not [h for h in hours if end <= h < first] and count == len(inside)
        assert count <= limit or len(set(inside)) == 1
        end = last
    assert end == max(hours) + 1


def test_values_of_features_that_share_a_table_are_counted_together(each_engine: Engine) -> None:
    table, schema = events(200, 9), FeatureSchema.model_validate(SCHEMA)
    found = each_engine.arrow(
        fitted_values.counts(each_engine.from_arrow(table), [schema.feature("item"), schema.feature("near")])
    )
    values = [v for v in table["item"].to_pylist() if v] + [
        v for near in table["near"].to_pylist() for v in near or [] if v
    ]
    assert dict(zip(found["value"].to_pylist(), found["count"].to_pylist(), strict=True)) == Counter(values)


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_moments_leave_out_what_is_no_number(each_engine: Engine, kind: pa.DataType) -> None:
    known = [1.0, 2.0, 4.5, -3.0]
    values = pa.array([*known, None, float("nan"), float("inf"), -float("inf")], kind)
    found = each_engine.arrow(
        fitted_values.moments(each_engine.from_arrow(pa.table({"x": values})), ["x"])
    ).to_pylist()[0]
    assert found["unusable"] == 2
    moments = [found[name] for name in ("mean", "std", "min", "max")]
    assert moments == pytest.approx([np.mean(known), np.std(known), min(known), max(known)])


def test_there_may_be_no_number_at_all(each_engine: Engine) -> None:
    nothing = pa.table({"x": pa.array([None, float("nan")], pa.float64())})
    found = each_engine.arrow(fitted_values.moments(each_engine.from_arrow(nothing), ["x"])).to_pylist()[0]
    assert found == {"mean": None, "std": None, "min": None, "max": None, "unusable": 0}


@pytest.mark.parametrize("name", ["seen", "clicks", "buys"])
@pytest.mark.parametrize("split", [False, True])
def test_the_latest_behaviours_of_prepared_days(each_engine: Engine, name: str, split: bool) -> None:
    draw = np.random.default_rng(10)
    schema = FeatureSchema.model_validate(SCHEMA)
    feature = schema.feature(name)
    columns = {
        "user": [f"u{i}" for i in draw.integers(0, 5, 200)],
        "time": draw.integers(0, 30, 200),
        "row": draw.permutation(200),
    }
    columns |= {"scenario": draw.integers(0, 3, 200), "item": draw.integers(0, 9, 200)}
    columns |= {f"label_{task}": draw.integers(0, 2, 200) for task in ("click", "buy")}
    columns |= {"split": [["train", "valid"][i] for i in draw.integers(0, 2, 200)]} if split else {}
    table = pa.table(columns)
    found = each_engine.arrow(behaviours.latest(each_engine.from_arrow(table), schema, feature)).select(
        ["_user", "_time", "_row", "item", "_scenario"]
    )
    expected = []
    for user in set(columns["user"]):
        mine = [
            r for r in table.to_pylist() if r["user"] == user and (not feature.where or r[f"label_{feature.where}"])
        ]
        mine = sorted((r for r in mine if not split or r["split"] == "train"), key=lambda r: (r["time"], r["row"]))
        expected += mine if feature.max_length is None else mine[-feature.max_length :]
    assert sorted(map(tuple, (r.values() for r in found.to_pylist()))) == sorted(
        (r["user"], r["time"], r["row"], r["item"], r["scenario"]) for r in expected
    )
