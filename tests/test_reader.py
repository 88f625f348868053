"""The reader: every row once, in a reproducible order, in equal steps on all ranks, and again after a crash."""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prepared_folder import SCHEMA, days_of_sizes, rows_table, write_prepared

from swrec_prod.config import DataConfig, DayRanges
from swrec_prod.data.batch import Batch, Position
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.prefetch import prefetched
from swrec_prod.data.reader import Reader
from swrec_prod.data.windows import count_steps, cut, share, steps
from swrec_prod.errors import DataError
from swrec_prod.layout import Layout

ALL_DAYS = DayRanges(train="2024-01-01..2024-02-29", valid="2024-03-01", test="2024-03-02")
LAYOUT = Layout.of(SCHEMA, history=True)


def reader(
    folder: Path, batch_size: int = 16, *, split: str = "days", window: int = 10**6, layout: Layout = LAYOUT, **options: Any
) -> Reader:
    days = {"days": ALL_DAYS} if split == "days" else {}
    data = DataConfig(path=str(folder), split=split, shuffle_rows=window, **days)  # type: ignore[arg-type]
    return Reader(Catalog.open(folder), layout, "train", data, batch_size, **({"shuffle": True, "prefetch": 0} | options))


def row_ids(batches: Iterator[Batch]) -> list[list[int]]:
    return [b.row_B.tolist() for b in batches]


def lists_of(jagged: Any) -> list[list[int]]:
    return [t.tolist() for t in jagged.to_dense()]


# What a batch holds


@pytest.mark.parametrize("split", ["days", "random"])
@pytest.mark.parametrize("window", [10**6, 40])
def test_a_batch_holds_what_the_files_hold(tmp_path: Path, split: str, window: int) -> None:
    folder = days_of_sizes(tmp_path / "toy", [60, 1, 70], row_group=25)
    raw = pa.concat_tables([pq.ParquetFile(f.path).read() for f in Catalog.open(folder).files]).to_pylist()
    seen = []
    for batch in reader(folder, split=split, window=window).epoch(0):
        rows = [raw[i] for i in batch.row_B.tolist()]
        seen += batch.row_B.tolist()
        ids, sequences = batch.ids.to_dict(), batch.sequences.to_dict()
        assert lists_of(ids["person"]) == [[r["person"]] for r in rows]
        assert lists_of(ids["genres"]) == [r["genres"] for r in rows]
        assert lists_of(sequences["movie"]) == [[r["movie"]] for r in rows]
        assert lists_of(sequences["history"]) == [r["history.item"] for r in rows]
        assert batch.history_scenario.tolist() == [s for r in rows for s in r["history.scenario"]]
        assert batch.scenario_B.tolist() == sorted(r["scenario"] for r in rows) == [r["scenario"] for r in rows]
        assert batch.labels_BT.tolist() == [[r["label_click"], r["label_buy"]] for r in rows]
        assert batch.weight_B.tolist() == [r["weight"] for r in rows]
        assert batch.dense_BF.tolist() == [[r["age"], r["price"]] for r in rows]
    assert sorted(seen) == [r["row"] for r in raw if split == "days" or r["split"] == "train"]


def test_only_the_selected_features_are_read(tmp_path: Path) -> None:
    narrow = rows_table(30).drop_columns(["genres", "history.item", "history.scenario", "age"])
    folder = write_prepared(tmp_path / "toy", [narrow])
    layout = Layout.of(SCHEMA.select(("person", "price")), history=False)
    batch = next(iter(reader(folder, layout=layout).epoch(0)))
    assert list(batch.ids.keys()) == ["person"] and batch.sequences is None and batch.dense_BF.shape == (15, 1)


def test_without_shuffling_rows_come_in_file_order_sorted_by_scenario_inside_a_batch(tmp_path: Path) -> None:
    folder = days_of_sizes(tmp_path / "toy", [200, 300], row_group=70)
    scenario = [r for f in Catalog.open(folder).files for r in pq.ParquetFile(f.path).read()["scenario"].to_pylist()]
    batches = row_ids(reader(folder, 100, shuffle=False, window=250).epoch(3))
    assert len(batches) == len(reader(folder, 100, shuffle=False, window=250))
    flat = 0
    for batch in batches:
        expected = sorted(range(flat, flat + len(batch)), key=lambda i: scenario[i])  # stable, as the batch is
        assert batch == expected
        flat += len(batch)
    assert flat == 500


def test_the_order_depends_on_seed_and_epoch_alone(tmp_path: Path) -> None:
    folder = days_of_sizes(tmp_path / "toy", [100, 100], row_group=50)
    for window in (10**6, 100):
        first = row_ids(reader(folder, window=window).epoch(0))
        assert first == row_ids(reader(folder, window=window, prefetch=3).epoch(0))
        assert first != row_ids(reader(folder, window=window).epoch(1))
        assert first != row_ids(reader(folder, window=window, seed=2).epoch(0))
        again = reader(folder, window=window)
        assert row_ids(again.epoch(1)) != row_ids(again.epoch(0)) == first


def test_windows_of_one_size_are_shuffled_each_in_its_own_way(tmp_path: Path) -> None:
    folder = days_of_sizes(tmp_path / "toy", [100, 100], row_group=100)
    batches = row_ids(reader(folder, 10, window=100).epoch(0))
    first, second = ([{row % 100 for row in batch} for batch in half] for half in (batches[:10], batches[10:]))
    assert first != second


# Every row once: any files, windows, ranks and kill points

plans = st.fixed_dictionaries(
    {
        "sizes": st.lists(st.integers(0, 60), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) >= 4),
        "row_group": st.integers(3, 40),
        "window": st.integers(8, 150),
        "world": st.integers(1, 4),
        "batch": st.integers(8, 24),
        "split": st.sampled_from(["days", "random"]),
        "shuffle": st.booleans(),
    }
)


def epoch_of(make: Callable[..., Reader], world: int, number: int, **options: Any) -> list[list[Batch]]:
    """The batches of all ranks, [steps][ranks]; fails unless ranks take equally many steps."""
    by_rank = [list(make(rank=rank, world_size=world, **options).epoch(number)) for rank in range(world)]
    return [list(step) for step in zip(*by_rank, strict=True)]


def check_steps(epoch: list[list[Batch]], begin: int, batch_size: int) -> list[int]:
    """The rows of the steps; positions rise by what the ranks took, and nobody goes without."""
    rows: list[int] = []
    for step in epoch:
        rows += [row for batch in step for row in batch.row_B.tolist()]
        assert {batch.position.rows for batch in step} == {begin + len(rows)}
        sizes = [len(batch) for batch in step]
        assert min(sizes) >= 1 and max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    return rows


@settings(max_examples=25, deadline=None)
@given(plan=plans, data=st.data())
def test_every_row_once_also_after_a_crash_and_on_another_world(plan: dict[str, Any], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        days_of_sizes(Path(folder) / "toy", plan["sizes"], plan["row_group"])
        table = pa.concat_tables([rows_table(n, sum(plan["sizes"][:i])) for i, n in enumerate(plan["sizes"])])
        expected = [r["row"] for r in table.to_pylist() if plan["split"] == "days" or r["split"] == "train"]
        if len(expected) < plan["world"]:
            return

        def make(**options: Any) -> Reader:
            given = {"split": plan["split"], "window": plan["window"], "shuffle": plan["shuffle"]} | options
            return reader(Path(folder) / "toy", given.pop("batch", plan["batch"]), **given)

        epoch = epoch_of(make, plan["world"], 0)
        assert len(epoch) == len(make(world_size=plan["world"]))
        assert sorted(check_steps(epoch, 0, plan["batch"])) == expected

        kill = data.draw(st.integers(1, len(epoch)), label="steps before the crash")
        done = check_steps(epoch[:kill], 0, plan["batch"])
        start = epoch[kill - 1][0].position
        same = epoch_of(make, plan["world"], 0, start=start)
        assert [[b.row_B.tolist() for b in step] for step in same] == [[b.row_B.tolist() for b in step] for step in epoch[kill:]]
        world, batch = data.draw(st.integers(1, 4), label="world"), data.draw(st.integers(8, 24), label="batch")
        if len(expected) >= world:
            rest = epoch_of(make, world, 0, start=start, batch=batch)
            assert sorted(done + check_steps(rest, len(done), batch)) == expected


@settings(max_examples=300)
@given(rows=st.integers(1, 500), world=st.integers(1, 5), batch=st.integers(1, 40))
def test_shares_of_a_window_differ_by_one_row_at_most(rows: int, world: int, batch: int) -> None:
    planned = list(steps(0, rows, world, batch)) if rows >= world else []
    sizes = [b - a for step in planned for a, b in (share(*step, rank, world) for rank in range(world))]
    assert len(planned) == count_steps(rows, world, batch)
    assert sum(sizes) == (rows if rows >= world else 0)
    if sizes:
        assert max(sizes) - min(sizes) <= 1 <= min(sizes)
        assert max(sizes) <= max(batch, 2 if batch == 1 else 0)
    if batch > 1 and rows >= world:
        assert len(planned) == -(-rows // (world * batch))  # no more steps than batches need


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=30), limit=st.integers(1, 120))
def test_windows_are_runs_of_pieces_neither_tiny_nor_needlessly_large(sizes: list[int], limit: int) -> None:
    windows = cut(sizes, limit)
    assert [i for window in windows for i in window] == list(range(len(sizes)))
    rows = [sum(sizes[i] for i in window) for window in windows]
    assert len(rows) == 1 or min(rows) * 2 >= limit
    assert max(rows) <= limit + max(limit // 2, max(sizes))
    if sum(sizes) <= limit:
        assert len(windows) == 1


def test_epochs_before_the_start_are_over_and_later_ones_are_whole(tmp_path: Path) -> None:
    folder = days_of_sizes(tmp_path / "toy", [40])
    at = reader(folder, 10, start=Position(1, 20))
    assert [len(row_ids(at.epoch(n))) for n in range(4)] == [0, 2, 4, 4]
    assert [b.position for b in at.epoch(1)] == [Position(1, 30), Position(1, 40)]


# Threads


def reader_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(("reader", "decoder", "prefetch"))]


@pytest.mark.parametrize("window", [10**6, 50])
def test_prefetched_batches_are_the_same_and_no_thread_is_left(tmp_path: Path, window: int) -> None:
    folder = days_of_sizes(tmp_path / "toy", [60, 60, 60], row_group=20)
    inline = row_ids(reader(folder, window=window).epoch(0))
    assert row_ids(reader(folder, window=window, prefetch=2).epoch(0)) == inline
    for batch in reader(folder, window=window, prefetch=2).epoch(0):
        assert batch.row_B.tolist() == inline[0]
        break
    with pytest.raises(KeyError):
        for batch in reader(folder, window=window, prefetch=2).epoch(0):
            raise KeyError(len(batch))
    assert reader_threads() == []


def test_an_error_behind_the_queue_reaches_the_consumer_with_the_file_s_name(tmp_path: Path) -> None:
    folder = days_of_sizes(tmp_path / "toy", [60, 60, 60], row_group=60)
    batches = reader(folder, window=60, prefetch=2, shuffle=False).epoch(0)
    part = folder / "day=2024-01-03" / "part-00000.parquet"
    part.write_bytes(b"x" * part.stat().st_size)
    with pytest.raises(DataError, match=r"day=2024-01-03/part-00000\.parquet: cannot be read as Parquet"):
        list(batches)
    assert reader_threads() == []


def test_prefetching_works_no_further_ahead_than_asked() -> None:
    made: list[int] = []
    third = threading.Event()

    def source() -> Iterator[int]:
        for i in itertools.count():
            made.append(i)
            if i == 2:
                third.set()
            yield i

    ahead = prefetched(source(), 2)  # type: ignore[arg-type]
    assert next(ahead) == 0
    assert third.wait(5), "taking one item makes room for one more"
    assert next(ahead) == 1
    ahead.close()
    assert len(made) <= 4
    assert reader_threads() == []


# What is refused


def broken(tmp_path: Path, change: Callable[[pa.Table], pa.Table]) -> Path:
    """Two days, the second one changed."""
    return write_prepared(tmp_path / "toy", [rows_table(30), change(rows_table(30, 30))])


def with_column(name: str, values: pa.Array) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, values)


def edited(name: str, kind: pa.DataType, value: Any) -> Callable[[pa.Table], pa.Table]:
    """The 11th value of a column replaced."""

    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[10] = value
        return with_column(name, pa.array(values, kind))(table)

    return change


LISTS = pa.list_(pa.int32())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["movie"]), "no column 'movie', expected int32"),
        (lambda t: t.rename_columns({"movie": "movies"}), r"no column 'movie', expected int32; did you mean movies\?"),
        (with_column("movie", pa.array(["a"] * 30)), "column 'movie' is string, expected int32"),
        (with_column("genres", pa.array([[1.5]] * 30)), "column 'genres' is list<.*double>, expected list<.*int32>"),
        (with_column("label_buy", pa.array([0] * 30, pa.int64())), "column 'label_buy' is int64, expected int8"),
        (edited("movie", pa.int32(), 20), r"column 'movie' holds 20, expected values in \[0, 20\)"),
        (edited("movie", pa.int32(), -1), r"column 'movie' holds -1, expected values in \[0, 20\)"),
        (edited("genres", LISTS, [1, 8]), r"column 'genres' holds 8, expected values in \[0, 8\)"),
        (edited("scenario", pa.int32(), 3), r"column 'scenario' holds 3, expected values in \[0, 3\)"),
        (edited("label_buy", pa.int8(), 2), r"column 'label_buy' holds 2, expected values in \[0, 2\)"),
        (edited("label_click", pa.int8(), -1), r"column 'label_click' holds -1, expected values in \[0, 2\)"),
        (edited("age", pa.float32(), float("nan")), "column 'age' holds nan, expected finite numbers"),
        (edited("movie", pa.int32(), None), "column 'movie' has 1 nulls, expected none"),
        (edited("genres", LISTS, None), "column 'genres' has 1 nulls, expected none"),
        (edited("genres", LISTS, [1, None]), "column 'genres' has 1 nulls in its lists"),
        (edited("history.item", LISTS, [1] * 9), "columns 'history.item' and 'history.scenario' differ in the length"),
        (with_column("history.scenario", pa.array([[3]] * 30, LISTS)), "columns 'history.item' and 'history.scenario' differ"),
    ],
)
def test_a_wrong_column_is_named_with_its_file(tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str) -> None:
    folder = broken(tmp_path, change)
    with pytest.raises(DataError, match=rf"day=2024-01-02/part-00000\.parquet: {message}"):
        reader(folder)


@pytest.mark.parametrize(("name", "limit"), [("history.item", 20), ("history.scenario", 3)])
def test_an_unknown_item_or_scenario_in_a_history_is_named(tmp_path: Path, name: str, limit: int) -> None:
    lengths = [len(values) for values in rows_table(30, 30)[name].to_pylist()]
    highest, outside = (with_column(name, pa.array([[value] * n for n in lengths], LISTS)) for value in (limit - 1, limit))
    assert reader(broken(tmp_path / "fine", highest)).rows == 60
    with pytest.raises(DataError, match=rf"column '{name}' holds {limit}, expected values in \[0, {limit}\)"):
        reader(broken(tmp_path / "wrong", outside))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = days_of_sizes(tmp_path / "toy", [30, 30])
    part = folder / "day=2024-01-02" / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    content[4:200] = bytes(196)  # the size stays, so only reading it shows
    part.write_bytes(content)
    with pytest.raises(DataError, match=r"day=2024-01-02/part-00000\.parquet: cannot be read as Parquet"):
        reader(folder)


def test_a_part_without_rows_and_too_many_ranks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train has no rows"):
        reader(days_of_sizes(tmp_path / "empty", [0]))
    folder = days_of_sizes(tmp_path / "toy", [3])
    with pytest.raises(DataError, match=r"3 rows .* for 4 ranks"):
        reader(folder, world_size=4)


def test_a_start_that_does_not_fit_the_data_is_refused(tmp_path: Path) -> None:
    folder = days_of_sizes(tmp_path / "toy", [30])
    with pytest.raises(DataError, match="has 30 rows, but the run resumes after 31 of them"):
        reader(folder, start=Position(0, 31))
    with pytest.raises(DataError, match="resumes with 2 rows left of a window for 3 ranks"):
        reader(folder, start=Position(0, 28), world_size=3)


def test_a_schema_without_table_heights_is_refused(tmp_path: Path) -> None:
    bare = SCHEMA.model_copy(update={"features": tuple(f.model_copy(update={"rows": None}) for f in SCHEMA.features)})
    with pytest.raises(DataError, match="table 'person' has no rows"):
        reader(write_prepared(tmp_path / "toy", [rows_table(30)], schema=bare))


# Together with prepare


def test_it_reads_what_prepare_writes(prepared_age: Path, prepared_genre: Path) -> None:
    age, genre = Catalog.open(prepared_age), Catalog.open(prepared_genre)
    parts = [
        Reader(age, Layout.of(age.schema, history=True), part, DataConfig(path=str(prepared_age), split="random"), 256, shuffle=False)
        for part in ("train", "valid", "test")
    ]
    rows = [torch.cat([b.row_B for b in r.epoch(0)]).numpy() for r in parts]
    assert [len(r) for r in rows] == [r.rows for r in parts]
    assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(4000))
    days = DayRanges(train="..2000-12-02", valid="2000-12-03", test="2000-12-04..")
    data = DataConfig(path=str(prepared_genre), split="days", days=days)
    layout = Layout.of(genre.schema, history=False)
    assert sum(Reader(genre, layout, part, data, 256, shuffle=True).rows for part in ("train", "valid", "test")) == 4000
