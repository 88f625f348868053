"""The reader: every row once, in a reproducible order, in equal steps on all ranks, and again after a crash."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from prepared_folder import SCHEMA, days_of_sizes, rows_table, write_prepared
from readers import reader

from swrec_prod.config import DataConfig, DayRanges
from swrec_prod.data.batch import Batch, Position
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.prefetch import mapped, prefetched
from swrec_prod.data.reader import Reader
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.schema.layout import Layout


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
        ids = batch.ids.to_dict()
        runs = [run.tolist() for run in batch.sequence_values.split(batch.sequence_lengths.tolist())]
        assert lists_of(ids["person"]) == [[r["person"]] for r in rows]
        assert lists_of(ids["genres"]) == [r["genres"] for r in rows]
        assert runs == [[r["movie"]] for r in rows] + [r["history.item"] for r in rows]
        assert batch.behaviour_scenario.tolist() == [s for r in rows for s in r["history.scenario"]]
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
    assert list(batch.ids.keys()) == ["person"] and not len(batch.sequence_values) and batch.dense_BF.shape == (15, 1)


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


def test_epochs_before_the_start_are_over_and_later_ones_are_whole(tmp_path: Path) -> None:
    folder = days_of_sizes(tmp_path / "toy", [40])
    at = reader(folder, 10, start=Position(1, 20))
    assert [len(row_ids(at.epoch(n))) for n in range(4)] == [0, 2, 4, 4]
    assert [b.position for b in at.epoch(1)] == [Position(1, 30), Position(1, 40)]


# Rows of some scenarios alone


def rows_of(folder: Path, split: str, indices: set[int]) -> list[int]:
    """The training rows of these scenarios, as a plain loop over the files finds them."""
    raw = [row for f in Catalog.open(folder).files for row in pq.ParquetFile(f.path).read().to_pylist()]
    return [r["row"] for r in raw if r["scenario"] in indices and (split == "days" or r["split"] == "train")]


@pytest.mark.parametrize("split", ["days", "random"])
@pytest.mark.parametrize("window", [10**6, 60])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_take_every_row_of_the_scenarios_once(tmp_path: Path, split: str, window: int, world_size: int) -> None:
    folder = days_of_sizes(tmp_path / "toy", [130, 1, 140], row_group=25)
    for names, indices in ((("cart",), {1}), (("search", "home"), {0, 2})):
        options = {"split": split, "window": window, "scenarios": names, "world_size": world_size}
        ranks = [reader(folder, 4, rank=rank, **options) for rank in range(world_size)]
        epochs = [list(r.epoch(1)) for r in ranks]
        expected = rows_of(folder, split, indices)
        assert sorted(row for epoch in epochs for batch in epoch for row in batch.row_B.tolist()) == sorted(expected)
        assert {len(epoch) for epoch in epochs} == {len(ranks[0])} and ranks[0].rows == len(expected)
        rest = [
            reader(folder, 4, rank=rank, start=epochs[0][2].position, **options).epoch(1) for rank in range(world_size)
        ]
        assert [row_ids(left) for left in rest] == [row_ids(iter(epoch[3:])) for epoch in epochs]


def test_scenarios_in_file_order_are_a_filter(tmp_path: Path) -> None:
    folder = days_of_sizes(tmp_path / "toy", [60, 70], row_group=25)
    for window in (10**6, 30):
        found = row_ids(reader(folder, 500, scenarios=("home",), shuffle=False, window=window).epoch(0))
        assert [row for batch in found for row in batch] == rows_of(folder, "days", {0})


def test_scenarios_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.scenarios: 'cort' is no scenario of .*; did you mean cart\?"):
        reader(days_of_sizes(tmp_path / "toy", [30]), scenarios=("home", "cort"))
    only = with_column("scenario", pa.array([1] * 30, pa.int32()))(rows_table(30))
    with pytest.raises(DataError, match="toy: train of scenario 'home' has no rows"):
        reader(write_prepared(tmp_path / "cart" / "toy", [only]), scenarios=("home",))


# Threads


def reader_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(("reader", "decoder", "prefetch", "loader"))]


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


def overwritten(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (overwritten, "cannot be read as Parquet"),
        (cut_short, r"\d+ bytes, expected \d+ \(manifest\); cut short or replaced\?"),
        (Path.unlink, "has vanished since it was opened first"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_named(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    folder = days_of_sizes(tmp_path / "toy", [60, 60, 60], row_group=60)
    batches = reader(folder, window=60, prefetch=2, shuffle=False).epoch(0)
    next(batches)
    change(folder / "day=2024-01-03" / "part-00000.parquet")
    with pytest.raises(DataError, match=rf"day=2024-01-03/part-00000\.parquet: {message}"):
        list(batches)
    assert reader_threads() == []


def padded(path: Path, size: int) -> None:
    """Make the file so large; Parquet does not mind what lies between its data and its footer."""
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    path.write_bytes(content[:footer] + bytes(size - len(content)) + content[footer:])


@pytest.mark.parametrize("split", ["days", "random"])
def test_a_row_group_that_holds_other_rows_than_at_first_is_named(tmp_path: Path, split: str) -> None:
    folder = days_of_sizes(tmp_path / "toy", [60, 60], row_group=40)
    at = reader(folder, window=40, split=split)
    path = folder / "day=2024-01-01" / "part-00000.parquet"
    size = path.stat().st_size
    pq.write_table(
        rows_table(60, seed=9),
        path,
        row_group_size=30,
        compression="zstd",
        use_dictionary=["split"],
        write_statistics=False,
    )
    padded(path, size)
    with pytest.raises(
        DataError, match=r"day=2024-01-01/part-00000\.parquet: \d+ rows in row group \(\d,\), at first \d+"
    ):
        list(at.epoch(0))


def test_batches_are_pinned_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # pinning needs a GPU
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: replace(batch, position=Position(7, len(batch))))
    folder = days_of_sizes(tmp_path / "toy", [60])
    assert {b.position.epoch for b in reader(folder, pin=True).epoch(0)} == {7}
    assert {b.position.epoch for b in reader(folder).epoch(0)} == {0}


def test_loaders_keep_the_order_and_read_no_further_ahead_than_they_are_many() -> None:
    begun: list[int] = []
    results = mapped(lambda i: (begun.append(i), i * i)[1], range(100), threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert max(begun) <= 5
    results.close()
    assert len(begun) <= 6
    with pytest.raises(ZeroDivisionError):
        list(mapped(lambda i: 1 // (3 - i), range(100), threads=2))
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
        (
            with_column("history.scenario", pa.array([[3]] * 30, LISTS)),
            "columns 'history.item' and 'history.scenario' differ",
        ),
    ],
)
def test_a_wrong_column_is_named_with_its_file(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    folder = broken(tmp_path, change)
    with pytest.raises(DataError, match=rf"day=2024-01-02/part-00000\.parquet: {message}"):
        reader(folder)


@pytest.mark.parametrize(("name", "limit"), [("history.item", 20), ("history.scenario", 4)])  # 3: not known
def test_an_unknown_item_or_scenario_in_a_history_is_named(tmp_path: Path, name: str, limit: int) -> None:
    lengths = [len(values) for values in rows_table(30, 30)[name].to_pylist()]
    highest, outside = (
        with_column(name, pa.array([[value] * n for n in lengths], LISTS)) for value in (limit - 1, limit)
    )
    assert reader(broken(tmp_path / "fine", highest)).rows == 60
    with pytest.raises(DataError, match=rf"column '{name}' holds {limit}, expected values in \[0, {limit}\)"):
        reader(broken(tmp_path / "wrong", outside))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = days_of_sizes(tmp_path / "toy", [30, 30])
    part = folder / "day=2024-01-02" / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    content[4:200] = bytes(196)  # the size stays, so only reading it shows
    part.write_bytes(content)
    with pytest.raises(DataError, match=r"day=2024-01-02/part-00000\.parquet: column 'row': cannot be read as Parquet"):
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
    with pytest.raises(DataError, match="only shuffled rows can be resumed, not at 20 rows in file order"):
        reader(folder, start=Position(0, 20), shuffle=False)


def test_a_schema_without_table_heights_is_refused(tmp_path: Path) -> None:
    bare = SCHEMA.model_copy(update={"features": tuple(f.model_copy(update={"rows": None}) for f in SCHEMA.features)})
    with pytest.raises(DataError, match="table 'person' has no rows"):
        reader(write_prepared(tmp_path / "toy", [rows_table(30)], schema=bare))


# Together with prepare


def test_it_reads_what_prepare_writes(prepared_age: Path, prepared_genre: Path) -> None:
    age, genre = Catalog.open(prepared_age), Catalog.open(prepared_genre)
    parts = [
        Reader(
            age,
            Layout.of(age.schema, history=True),
            part,
            DataConfig(path=str(prepared_age), split="random"),
            256,
            shuffle=False,
        )
        for part in ("train", "valid", "test")
    ]
    rows = [torch.cat([b.row_B for b in r.epoch(0)]).numpy() for r in parts]
    assert [len(r) for r in rows] == [r.rows for r in parts]
    assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(4000))
    days = DayRanges(train="..2000-12-02", valid="2000-12-03", test="2000-12-04..")
    data = DataConfig(path=str(prepared_genre), split="days", days=days)
    layout = Layout.of(genre.schema, history=False)
    assert sum(Reader(genre, layout, part, data, 256, shuffle=True).rows for part in ("train", "valid", "test")) == 4000
