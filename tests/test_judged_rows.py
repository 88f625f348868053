"""Rows that are judged in shares, by ranks and in turns, are judged as all rows at once; and predictions in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_ranks import FakeRank, on_ranks
from hypothesis import given, settings
from hypothesis import strategies as st

from swrec_prod.data.familiar import Familiar
from swrec_prod.errors import DataError, MetricError
from swrec_prod.evaluate.judged_rows import JudgedRows
from swrec_prod.evaluate.judging import Judging, metrics_of
from swrec_prod.evaluate.prediction_parts import part_files, written
from swrec_prod.evaluate.predictions import predictions_table, read_predictions, write_predictions
from swrec_prod.metrics.pieces import Piece
from swrec_prod.peers import ALONE
from swrec_prod.shares.dealt_rows import DealtRows, bucket_of
from swrec_prod.shelf import Shelf

TASKS = ("click", "buy")


def scored(rows: int, seed: int = 0, weighted: bool = True) -> pa.Table:
    """Predictions of two tasks with a causal split, one following the other; some rows have no session."""
    draw = np.random.default_rng(seed)
    interest, scenario = (draw.normal(size=(rows, 2)).round(1).astype(np.float32) for _ in range(2))
    click = draw.integers(0, 2, rows)
    users = draw.integers(0, 40, rows)
    more = {
        "request": pa.array([f"u{u}/{i}" for u, i in zip(users, draw.integers(0, 3, rows), strict=True)]),
        "item": pa.array(draw.integers(0, 25, rows)),
    }
    more |= {"session": pa.array([f"s{i}" for i in draw.integers(0, 30, rows)], mask=draw.random(rows) < 0.2)}
    if weighted:
        more["weight"] = pa.array(draw.choice([0.0, 0.5, 2.0], rows).astype(np.float32))
    return predictions_table(
        row=draw.permutation(rows),
        day=["2024-01-01"] * rows,
        user=[f"u{i}" for i in users],
        scenario=[("ads", "feed", "search")[i] for i in draw.choice(3, rows, p=(0.7, 0.25, 0.05))],
        labels_NT=np.stack([click, click * draw.integers(0, 2, rows)], axis=1),
        logit_NT=(interest / (1 + np.exp(-scenario))).astype(np.float32),
        tasks=TASKS,
        after=(-1, 0),
        interest_NT=interest,
        scenario_NT=scenario,
        more=more,
    )


def in_shares(table: pa.Table, times: np.ndarray, judging: Judging, ranks: int, at_once: int) -> dict[str, Any]:
    """The metrics that every rank comes to: row i is on rank i % ranks, which is given them in two tables."""

    def work(peers: FakeRank) -> dict[str, Any]:
        own = np.arange(peers.rank, len(table), ranks)
        with JudgedRows(judging, len(table), peers, at_once) as judged:
            for rows in np.array_split(own, 2):
                judged.add(table.take(rows), Familiar({"item": times[rows]}))
            return judged.metrics()

    first, *others = on_ranks(ranks, work)
    assert all(other == first for other in others), "all ranks come to the same"
    return first


def assert_same(found: Any, expected: Any, at: str = "") -> None:
    """Equal, but for the rounding of sums."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), at
        for key, value in expected.items():
            assert_same(found[key], value, f"{at}/{key}")
    elif isinstance(expected, list):
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=at)  # curves have six digits
    else:
        assert found == (pytest.approx(expected, abs=1e-12) if isinstance(expected, float) else expected), at


@settings(max_examples=8, deadline=None)
@given(
    rows=st.integers(20, 200), ranks=st.integers(1, 3), at_once=st.integers(40, 200), weighted=st.booleans(),
    group_by=st.sampled_from(["user", "session"]), seed=st.integers(0, 1000),
)  # fmt: skip
def test_shares_are_judged_as_all_rows_at_once(
    rows: int, ranks: int, at_once: int, weighted: bool, group_by: str, seed: int
) -> None:
    table = scored(rows, seed, weighted)
    judging = Judging(group_by, 3, request_by="request" if group_by == "user" else group_by, cold_below=2)
    times = np.random.default_rng(seed).integers(0, 5, rows)
    found = in_shares(table, times, judging, ranks, at_once)
    unknown, cold = found.pop("unknown_rows"), found.pop("cold_rows")
    assert_same(found, metrics_of(table, judging))
    plain = table.drop_columns(["item"])
    for halves, few, names in ((unknown, times == 0, ("unknown", "known")), (cold, times < 2, ("cold", "warm"))):
        expected = {
            half: metrics_of(plain.filter(pa.array(of)), judging)
            for half, of in zip(names, (few, ~few), strict=True)
            if of.any()
        }
        assert (list(halves) == ["item"]) == (len(expected) == 2)
        for half, of in expected.items() if halves else ():
            assert_same(halves["item"][half], of["overall"])
            found_there = {name: one[half] for name, one in halves["item"]["scenarios"].items() if half in one}
            assert_same(found_there, of["scenarios"])


def test_one_process_says_to_the_bit_what_all_rows_say() -> None:
    table = scored(300)
    with JudgedRows(Judging(), 300) as judged:
        judged.add(table, Familiar({}))
        assert judged.metrics() == {**metrics_of(table), "unknown_rows": {}, "cold_rows": {}}


def test_no_process_holds_more_than_its_share(tmp_path: Path) -> None:
    table, ranks, turns = scored(6000, 3), 3, 2

    def shares(peers: FakeRank) -> list[pa.Table]:
        dealt = DealtRows("user", peers, turns, tmp_path / str(peers.rank))
        dealt.add(table.slice(peers.rank * 2000, 2000))
        return [share for share in dealt.shares() if share is not None]

    parts = [share for own in on_ranks(ranks, shares) for share in own]
    assert len(parts) == ranks * turns and max(map(len, parts)) < 2 * len(table) / len(parts)
    users = [set(part["user"].to_pylist()) for part in parts]
    assert sum(map(len, users)) == len(set.union(*users)) == 40, "a user's rows are in one share"
    assert pa.concat_tables(parts).sort_by("row").equals(table.sort_by("row"))
    assert not list(tmp_path.rglob("bucket-*")), "what was taken is gone"


def test_pieces_are_made_of_shares_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def of(tasks: Any, scenarios: np.ndarray, *rest: Any, make: Any = Piece.of_rows) -> Piece:
        sizes.append(len(scenarios))
        return make(tasks, scenarios, *rest)

    monkeypatch.setattr(Piece, "of_rows", of)
    in_shares(scored(1000), np.full(1000, 50), Judging(), ranks=2, at_once=250)
    assert max(sizes) < 400 and sum(sizes) == 3 * 1000, "all rows, and all as those with a known and a warm item"


def test_buckets_do_not_depend_on_the_process_or_the_type() -> None:
    numbers = pa.chunked_array([[3, 1, None], [3]])
    assert bucket_of(numbers, 5).tolist() == bucket_of(numbers.cast(pa.string()), 5).tolist()
    nobody = pa.chunked_array([pa.nulls(100, pa.string())])
    assert np.bincount(bucket_of(nobody, 5)).tolist() == [20] * 5, "rows of no group are no burden to one rank"
    assert len(set(bucket_of(pa.chunked_array([[f"u{i}" for i in range(200)]]), 5).tolist())) == 5


def test_what_is_wrong_on_one_rank_ends_all() -> None:
    table = scored(40)
    broken = table.set_column(table.column_names.index("label_buy"), "label_buy", pa.array(np.full(40, 7, np.float32)))

    def work(peers: FakeRank) -> None:
        with JudgedRows(Judging(), 40, peers) as judged:
            judged.add(broken if peers.rank else table, Familiar({}))
            with pytest.raises(MetricError, match="a label is 0 or 1, not 7"):
                judged.metrics()

    on_ranks(2, work)


def test_no_rows_are_said_to_be_none() -> None:
    with JudgedRows(Judging(), 0) as judged, pytest.raises(MetricError, match="no rows to judge"):
        judged.metrics()


def test_a_shelf_keeps_the_order_in_memory_and_on_the_disk(tmp_path: Path) -> None:
    for shelf in (Shelf[int](), Shelf[int](tmp_path / "below" / "values")):
        assert list(shelf) == []
        for value in (3, 1, 2):
            shelf.put(value)
        assert list(shelf) == list(shelf) == [3, 1, 2]
        shelf.clear()
        assert list(shelf) == []


def test_ranks_write_a_folder_and_one_process_a_file(tmp_path: Path) -> None:
    table, path = scored(90), tmp_path / "new" / "predictions.parquet"

    def write(peers: FakeRank) -> None:
        with written(path, peers) as add:
            for rows in np.array_split(np.arange(peers.rank, 90, 3), 2) if peers.rank < 2 else ():
                add(table.take(rows))

    on_ranks(3, write)
    names = ["part-00000.parquet", "part-00001.parquet"]
    assert [file.name for file in part_files(path)] == sorted(file.name for file in path.iterdir()) == names
    kept = table.filter(pa.array(np.arange(90) % 3 < 2)).sort_by("row")
    assert read_predictions(path).equals(kept) and metrics_of(read_predictions(path)) == metrics_of(kept)

    with written(path) as add:  # one process writes over it
        add(table.slice(0, 50))
        add(table.slice(50))
    assert part_files(path) == [path] and read_predictions(path).equals(table), "as it was written, in its order"
    on_ranks(3, write)
    assert path.is_dir() and [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("ranks", [1, 2])
def test_predictions_that_were_not_finished_leave_the_old_ones(tmp_path: Path, ranks: int) -> None:
    table, path = scored(20), tmp_path / "predictions.parquet"
    write_predictions(table, path)

    def write(peers: FakeRank) -> None:
        with written(path, peers if ranks > 1 else ALONE) as add:
            add(table.slice(0, 3))
            raise DataError("damaged")

    with pytest.raises(DataError, match="damaged"):
        on_ranks(ranks, write)
    assert read_predictions(path).equals(table)


def test_a_folder_of_parts_lacks_what_a_file_may_lack(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").mkdir()
    with pytest.raises(DataError, match=r"p\.parquet"):
        read_predictions(tmp_path / "p.parquet")
    pq.write_table(scored(5).drop_columns(["user"]), tmp_path / "p.parquet" / "part-00000.parquet")
    with pytest.raises(DataError, match="lack column 'user'"):
        read_predictions(tmp_path / "p.parquet")
