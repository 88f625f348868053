"""Behaviours that the log brings itself, in list columns, against a naive loop; what they may not be."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dated_log import MIDNIGHT, SCHEMA, contents, data_file, day, prepared_rows, rows_of_day, write_day, write_users
from rich_behaviours import HOUR, Reference, Row, bags, bucket, hashed, raw_rows, vocabulary
from test_behaviour_fields import assert_encoded_alike

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare

pytestmark = pytest.mark.engine

MINE: dict[str, Any] = {
    "name": "mine",
    "kind": "sequence",
    "side": "user",
    "item": "item",
    "max_length": 3,
    "age": [HOUR, 48 * HOUR],
    "fields": ["author", {"name": "kin", "kind": "bag", "encoder": "vocab"}, {"name": "paid", "shared_with": "price"}],
    "columns": {"item": "b_item", "scenario": "b_where", "time": "b_at", "author": "b_author", "kin": "b_kin"}
    | {"paid": "b_paid"},
}
BARE = {"name": "bare", "kind": "sequence", "side": "user", "item": "item", "columns": {"item": "b_item"}}
LISTS = {
    "b_item": pa.list_(pa.string()),
    "b_where": pa.list_(pa.string()),
    "b_at": pa.large_list(pa.timestamp("ms", "UTC")),
    "b_author": pa.list_(pa.int32()),
    "b_kin": pa.list_(pa.list_(pa.string())),
    "b_paid": pa.list_(pa.float32()),
}


def file(**changes: Any) -> DataFile:
    plain = [feature for feature in SCHEMA["features"] if feature["kind"] != "sequence"]
    return data_file(schema={"features": [*plain, MINE, BARE]}, **changes)


def behaviour(draw: np.random.Generator, before: int) -> list[Any]:
    """One element of each list, at least a moment before `before` (hours after the log began)."""
    at = MIDNIGHT + timedelta(hours=float(before) - float(draw.uniform(0.1, 90)))
    known = [["a", "b", "zz", None][draw.integers(4)], ["home", "moon", None][draw.integers(3)]]
    known += [None if draw.random() < 0.2 else at.replace(microsecond=0), int(draw.integers(9))]
    return [*known, [None, [], ["x"], ["x", "y"]][draw.integers(4)], [None, 1.5, 2.5][draw.integers(3)]]


def day_with_lists(number: int) -> pa.Table:
    table, draw = rows_of_day(number), np.random.default_rng(100 + number)
    hours = [(at - MIDNIGHT).total_seconds() / 3600 for at in table["time"].to_pylist()]
    drawn = [[behaviour(draw, hour) for _ in range(draw.integers(0, 6))] for hour in hours]
    for i, (name, kind) in enumerate(LISTS.items()):
        lists = [[one[i] for one in mine] if mine or n % 2 else None for n, mine in enumerate(drawn)]
        table = table.append_column(name, pa.array(lists, kind))
    return table


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brought") / "raw"
    write_users(folder)
    for number in (1, 2, 3):
        write_day(folder, number, day_with_lists(number))
    return folder


@pytest.fixture(scope="module")
def out(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "out"
    prepare(file(), raw, folder)
    return folder


def test_lists_of_the_log_are_encoded_as_they_are(raw: Path, out: Path) -> None:
    rows, prepared = raw_rows(raw), prepared_rows(out).to_pylist()
    reference = Reference(rows)
    training = [row for row in rows if row["time"].date() <= day(2)]
    seen = [row["item"] for row in training] + [item for row in training for item in row["near"] or ()]
    items = vocabulary(seen + [item for row in training for item in row["b_item"] or ()])
    kin = vocabulary([value for row in training for bag in row["b_kin"] or () for value in bag or ()])
    paid = [row["price"] for row in training] + [number for row in training for number in row["b_paid"] or ()]
    paid = [number for number in paid if number is not None]
    reference.mean, reference.std = np.mean(paid), np.std(paid)  # a shared scaler is fitted on all that it scales
    for row, mine in zip(prepared, rows, strict=True):
        latest: Row = {name: (mine[name] or [])[-3:] for name in LISTS}
        assert row["bare.item"] == [items.get(item, 0) for item in mine["b_item"] or ()]
        assert row["bare.scenario"] == [3] * len(row["bare.item"]) and {at.year for at in row["bare.time"]} <= {1970}
        assert row["mine.item"] == [items.get(item, 0) for item in latest["b_item"]]
        assert row["mine.scenario"] == [reference.scenario.get(where, 4) - 1 for where in latest["b_where"]]
        assert row["mine.age"] == [bucket((HOUR, 48 * HOUR), mine["time"], at) if at else 0 for at in latest["b_at"]]
        assert row["mine.author"] == [hashed(author) for author in latest["b_author"]]
        for part, values in bags("kin", latest["b_kin"], kin).items():
            assert row[f"mine.{part}"] == values
        assert np.allclose(row["mine.paid"], [reference.standard(paid) for paid in latest["b_paid"]], atol=1e-6)


def test_clients_send_the_lists_as_they_are(out: Path) -> None:
    assert_encoded_alike(Encoders.load(out), pq.read_table(out / "requests.parquet"), prepared_rows(out))


def test_both_engines_write_the_same_bytes(cluster_engine: Engine, raw: Path, out: Path, tmp_path: Path) -> None:
    prepare(file(deduplicate=["user_id", "item", "time"]), raw, tmp_path / "local")
    prepare(file(deduplicate=["user_id", "item", "time"]), raw, tmp_path / "cluster", engine="cluster")
    assert contents(tmp_path / "local") == contents(tmp_path / "cluster")


def broken(name: str, row: int, value: Any) -> pa.Table:
    """Day 3 with another list in one row."""
    table = day_with_lists(3)
    lists = table[name].to_pylist()
    lists[row] = value
    return table.set_column(table.column_names.index(name), name, pa.array(lists, LISTS[name]))


def test_lists_of_unequal_lengths_are_refused_by_row(each_engine: Engine, raw: Path, tmp_path: Path) -> None:
    write_users(tmp_path / "raw")
    for number in (1, 2):
        write_day(tmp_path / "raw", number, day_with_lists(number))
    lengths = [len(items or ()) for items in day_with_lists(3)["b_item"].to_pylist()]
    path = write_day(tmp_path / "raw", 3, broken("b_paid", lengths.index(2), [1.0, 2.0, 3.0]))
    with pytest.raises(DataError) as failure:
        prepare(file(), tmp_path / "raw", tmp_path / "out", engine=each_engine.name)
    message = str(failure.value)
    assert message.startswith(f"{path}: row ") and "column 'b_item' has 2 behaviours and column 'b_paid' 3" in message
    assert message.endswith("write one element a behaviour into each, null where it is not known")


def test_a_behaviour_at_the_moment_of_its_row_is_refused(each_engine: Engine, raw: Path, tmp_path: Path) -> None:
    write_users(tmp_path / "raw")
    table = day_with_lists(2)
    lengths = [len(items or ()) for items in table["b_item"].to_pylist()]
    row = lengths.index(2)
    at = table["time"][row].as_py()
    write_day(tmp_path / "raw", 1, day_with_lists(1))
    write_day(tmp_path / "raw", 2, table)
    moments = day_with_lists(3)
    row = [len(items or ()) for items in moments["b_item"].to_pylist()].index(1)
    at = moments["time"][row].as_py()
    path = write_day(tmp_path / "raw", 3, broken("b_at", row, [at]))
    with pytest.raises(DataError) as failure:
        prepare(file(), tmp_path / "raw", tmp_path / "out", engine=each_engine.name)
    assert str(failure.value).startswith(f"{path}: row ")
    told = f"column 'b_at' has a behaviour at {at:%Y-%m-%dT%H:%M}"
    assert told in str(failure.value) and "which is not before the row's" in str(failure.value)


@pytest.mark.parametrize(
    ("part", "column", "message"),
    [
        ("item", "b_items", "column 'b_items' (behaviours of 'mine') is missing; did you mean b_item"),
        ("item", "visits", "column 'visits' is int64, expected a list (behaviours of 'mine')"),
        ("item", "b_author", "values are int32, expected string as in 'item'"),
        ("time", "b_item", "column 'b_item' is array<string>, expected lists of timestamps"),
        ("kin", "b_item", "column 'b_item' is string, expected a list (feature 'mine.kin' is bag)"),
        ("paid", "b_item", "column 'b_item' is string, expected numbers"),
    ],
)
def test_columns_that_hold_no_such_lists_are_refused(
    raw: Path, tmp_path: Path, part: str, column: str, message: str
) -> None:
    plain = [feature for feature in SCHEMA["features"] if feature["kind"] != "sequence"]
    mine = MINE | {"columns": MINE["columns"] | {part: column}}
    with pytest.raises(DataError) as failure:
        prepare(data_file(schema={"features": [*plain, mine]}), raw, tmp_path / "out")
    assert message in str(failure.value)
