"""Whole prepares against a naive loop: the same bytes on both engines and however rows are cut into chunks;
histories reach over days.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dated_log import (
    MIDNIGHT,
    contents,
    data_file,
    day,
    day_files,
    manifest_of,
    prepared_rows,
    write_day,
    write_log,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from swrec_prod.behaviours.lists import Behaviours, LatestBehaviours, sequence
from swrec_prod.data.day_writer import Written
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.engine.contract import Engine
from swrec_prod.engine.local import LocalEngine
from swrec_prod.prepare.events import Events
from swrec_prod.prepare.run import prepare
from swrec_prod.prepare.write_local import stream_days
from swrec_prod.schema import Feature

pytestmark = pytest.mark.engine

SEQUENCES = {"seen": (None, 4), "clicks": ("click", 3), "buys": ("buy", None)}
DUPLICATES = ["user_id", "item", "time"]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("dated") / "raw", 5)


@pytest.fixture(scope="module")
def out(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared by the local engine in one chunk."""
    folder = tmp_path_factory.mktemp("prepared") / "out"
    prepare(data_file(deduplicate=DUPLICATES), raw, folder)
    return folder


def raw_rows(raw: Path) -> list[Row]:
    """The rows with their users' attributes in order, without duplicates."""
    users = {row["user_id"]: row for row in pq.read_table(raw / "users.parquet").to_pylist()}
    rows = [row for path in sorted((raw / "log").rglob("*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()]
    rows = sorted(({"city": None, "age": None} | row | users.get(row["user_id"], {}) for row in rows), key=order)
    kept: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        kept.setdefault(tuple(row[name] for name in DUPLICATES), row)
    return list(kept.values())


def order(row: Row) -> Any:
    """By time, then by all columns in order of their names, missing values last."""
    return [row["time"], *(rank(row[name]) for name in sorted(row))]


def rank(value: Any) -> Any:
    return (value is None, [rank(element) for element in value] if isinstance(value, list) else value)


def test_rows_are_those_of_the_log_and_histories_those_of_a_loop(raw: Path, out: Path) -> None:
    items = [None, *pq.read_table(out / "vocab" / "item.parquet")["value"].to_pylist()]
    scenarios = Encoders.load(out).schema.scenario.values
    rows, prepared = raw_rows(raw), prepared_rows(out).to_pylist()
    assert len(prepared) == len(rows) == manifest_of(out)["rows"] < 300
    assert [(r["time"], r["row"]) for r in prepared] == sorted((r["time"], r["row"]) for r in prepared)
    for row, source in zip(prepared, rows, strict=True):
        known = source["item"] if source["item"] in items else None
        assert (row["user"], row["time"], items[row["item"]]) == (str(source["user_id"]), source["time"], known)
        assert (scenarios[row["scenario"]], row["label_click"], row["request"]) == (
            source["scenario"],
            source["clicked"],
            source["session"],
        )
        assert [items[i] for i in row["near"]] == [item if item in items else None for item in source["near"] or []]
        for name, (label, longest) in SEQUENCES.items():
            column = {"click": "clicked", "buy": "bought"}.get(label or "")
            mine = [
                r
                for r in rows
                if r["user_id"] == source["user_id"] and r["time"] < source["time"] and (not column or r[column])
            ]
            mine = mine if longest is None else mine[-longest:]
            assert row[f"{name}.time"] == [r["time"] for r in mine]
            assert [items[i] for i in row[f"{name}.item"]] == [r["item"] if r["item"] in items else None for r in mine]
            assert [scenarios[i] for i in row[f"{name}.scenario"]] == [r["scenario"] for r in mine]


@pytest.mark.parametrize("split", [False, True])
def test_both_engines_write_the_same_bytes(cluster_engine: Engine, raw: Path, tmp_path: Path, split: bool) -> None:
    file = data_file(deduplicate=DUPLICATES, **({"split": {"random": {"seed": 3}}} if split else {}))
    for engine in ("local", "cluster"):
        prepare(file, raw, tmp_path / engine, engine=engine)
    assert contents(tmp_path / "cluster") == contents(tmp_path / "local")


def test_both_engines_add_a_day_alike_and_cut_it_into_files_alike(
    cluster_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("day_writer.FILE_ROWS", "day_writer.GROUP_ROWS", "write_cluster.FILE_ROWS"):
        monkeypatch.setattr(f"swrec_prod.prepare.{name}", 25)  # workers of the cluster get no more rows than a file has
    monkeypatch.setattr("swrec_prod.prepare.write_cluster.GROUP_OF_USERS", 20)
    raw = write_log(tmp_path / "raw", 2)
    for engine in ("local", "cluster"):
        prepare(data_file(), raw, tmp_path / engine)
    write_day(raw, 3)
    for engine in ("local", "cluster"):
        prepare(data_file(), raw, tmp_path / engine, engine=engine)
    assert contents(tmp_path / "cluster") == contents(tmp_path / "local")
    assert [file["rows"] for file in manifest_of(tmp_path / "local")["files"]] == 3 * [25, 25, 10]


@pytest.mark.parametrize("rows", [1, 61])
def test_chunks_may_be_cut_anywhere(
    raw: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr("swrec_prod.prepare.write_local.CHUNK_ROWS", rows)
    prepare(data_file(deduplicate=DUPLICATES), raw, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(out)


def test_a_day_of_several_chunks_is_evaluated_once(
    raw: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicates and row numbers take the whole day:
    evaluated for every chunk, a day would cost the square of its rows.
    """
    asked: list[list[date]] = []
    released: list[str] = []

    def counted(engine: Engine, events: Events, *rest: Any) -> Written:
        def of(days: list[date]) -> Any:
            asked.append(days)
            return Events.of(events, days)

        with monkeypatch.context() as patch:
            patch.setattr(events, "of", of, raising=False)
            yield from stream_days(engine, events, *rest)

    release = LocalEngine.release
    monkeypatch.setattr(
        LocalEngine, "release", lambda self, rows: (released.append(rows.op().name), release(self, rows))
    )
    monkeypatch.setattr("swrec_prod.prepare.run.stream_days", counted)
    monkeypatch.setattr("swrec_prod.prepare.write_local.CHUNK_ROWS", 20)
    prepare(data_file(deduplicate=DUPLICATES), raw, tmp_path / "out")
    assert sorted(days for days in asked[1:]) == [[day(number)] for number in range(1, 6)]
    assert len(released) >= 5
    assert contents(tmp_path / "out") == contents(out)


def test_small_row_groups_and_files_hold_the_same_rows(
    raw: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swrec_prod.data.day_writer.GROUP_ROWS", 7)
    monkeypatch.setattr("swrec_prod.data.day_writer.FILE_ROWS", 21)
    for chunk in (10_000, 13):
        monkeypatch.setattr("swrec_prod.prepare.write_local.CHUNK_ROWS", chunk)
        prepare(data_file(deduplicate=DUPLICATES), raw, tmp_path / str(chunk))
    assert contents(tmp_path / "13") == contents(tmp_path / "10000")
    assert prepared_rows(tmp_path / "13").equals(prepared_rows(out))
    for file in manifest_of(tmp_path / "13")["files"]:
        groups = pq.ParquetFile(tmp_path / "13" / file["path"]).metadata
        sizes = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
        assert sum(sizes) == file["rows"] <= 21 and len(sizes) == file["row_groups"] and set(sizes[:-1]) <= {7}


def test_a_history_reaches_over_days_in_which_the_user_was_away(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_log(raw, 0)
    for number, user in ((1, 1), (2, 2), (3, 2), (4, 1)):
        at = [MIDNIGHT + timedelta(days=number - 1)] * 2
        write_day(raw, number, rows=2, user_id=[user] * 2, time=at, scenario=["home"] * 2)
        prepare(data_file(fit_until=day(1)), raw, tmp_path / "out")
    second = MIDNIGHT + timedelta(days=1)
    assert prepared_rows(tmp_path / "out")["seen.time"].to_pylist() == [
        [],
        [],
        [],
        [],
        [second] * 2,
        [second] * 2,
        [MIDNIGHT] * 2,
        [MIDNIGHT] * 2,
    ]


def test_days_of_another_offset_hold_the_same_rows(raw: Path, tmp_path: Path) -> None:
    whole = pa.concat_tables([pq.ParquetFile(path).read() for path in sorted((raw / "log").rglob("*.parquet"))])
    (tmp_path / "raw" / "log").mkdir(parents=True)
    pq.write_table(whole, tmp_path / "raw" / "log" / "all.parquet")
    pq.write_table(pq.read_table(raw / "users.parquet"), tmp_path / "raw" / "users.parquet")
    prepare(data_file(), tmp_path / "raw", tmp_path / "utc")
    prepare(data_file(utc_offset="+05:30"), tmp_path / "raw", tmp_path / "india")
    utc, india = (prepared_rows(tmp_path / name) for name in ("utc", "india"))
    assert utc["time"].equals(india["time"]) and utc["seen.time"].equals(india["seen.time"])
    for file in manifest_of(tmp_path / "india")["files"]:
        times = pq.ParquetFile(tmp_path / "india" / file["path"]).read(["time"])["time"].to_pylist()
        assert {str((time + timedelta(hours=5, minutes=30)).date()) for time in times} == {file["day"]}


def test_a_dated_log_and_one_file_of_all_days_are_prepared_alike(raw: Path, tmp_path: Path) -> None:
    whole = pa.concat_tables(
        [pq.ParquetFile(path).read() for path in sorted((raw / "log").rglob("*.parquet"), reverse=True)]
    )
    (tmp_path / "raw" / "log").mkdir(parents=True)
    pq.write_table(whole, tmp_path / "raw" / "log" / "all.parquet")
    pq.write_table(pq.read_table(raw / "users.parquet"), tmp_path / "raw" / "users.parquet")
    prepare(data_file(), tmp_path / "raw", tmp_path / "whole")
    prepare(data_file(), raw, tmp_path / "dated")
    assert day_files(tmp_path / "whole") == day_files(tmp_path / "dated")
    assert contents(tmp_path / "whole")["requests.parquet"] == contents(tmp_path / "dated")["requests.parquet"]


EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8), st.booleans()), min_size=1, max_size=40)


@settings(deadline=None)
@given(drawn=EVENTS, cuts=st.sets(st.integers(0, 8)), longest=st.sampled_from([None, 1, 3]))
def test_lists_do_not_depend_on_where_rows_are_cut(
    drawn: list[tuple[int, int, bool]], cuts: set[int], longest: int | None
) -> None:
    drawn = sorted(drawn, key=lambda event: event[1])
    feature = Feature(name="x", kind="sequence", side="user", item="item", max_length=longest)
    items, latest = [], None
    for begin, end in zip([-1, *sorted(cuts)], [*sorted(cuts), 99], strict=True):
        part = [(i, *event) for i, event in enumerate(drawn) if begin <= event[1] < end]
        if not part:
            continue
        index, user, time, happened = (np.array(column) for column in zip(*part, strict=True))
        before = np.array([sum(h for _, u, t, h in part if u == user[i] and t < time[i]) for i in range(len(part))])
        rows = Behaviours({"item": index.astype(np.int32)}, index.astype(np.int32), time)
        latest = latest or LatestBehaviours.of_nobody(rows)
        lists, latest = sequence(feature, pa.array([f"u{u}" for u in user]), before, happened, rows, latest)
        items += lists.columns(0, len(part))["x.item"].to_pylist()
    expected = [[i for i, (u, t, h) in enumerate(drawn) if u == user and t < time and h] for user, time, _ in drawn]
    assert items == [one if longest is None else one[-longest:] for one in expected]
