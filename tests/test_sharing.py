"""Any files, windows, ranks and kill points: every row once, in equal steps, in one order;
and a rank reads only what it needs.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepared_folder import days_of_sizes, rows_table
from readers import reader

from swrec_prod.data.batch import Batch
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.decode import Decoder, Part
from swrec_prod.data.lanes import LANES, Shares, lane_starts, lane_turns, step_sizes
from swrec_prod.data.reader import Reader
from swrec_prod.data.windows import count_steps, cut, share, steps

pytestmark = pytest.mark.slow  # exhaustive: every row of many worlds

# Files and readers

plans = st.fixed_dictionaries(
    {
        "sizes": st.lists(st.integers(0, 60), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) >= 4),
        "row_group": st.integers(3, 40),
        "window": st.integers(8, 150),
        "split": st.sampled_from(["days", "random"]),
        "max_lanes": st.sampled_from([12, LANES]),
        "rows_a_lane": st.integers(1, 3),
    }
)
worlds = st.tuples(st.integers(1, 4), st.integers(2, 24))


def epoch_of(make: Callable[..., Reader], world: int, number: int, **options: Any) -> list[list[Batch]]:
    """The batches of all ranks, [steps][ranks]; fails unless ranks take equally many steps."""
    by_rank = [list(make(rank=rank, world_size=world, **options).epoch(number)) for rank in range(world)]
    return [list(step) for step in zip(*by_rank, strict=True)]


def check_steps(epoch: list[list[Batch]], begin: int, batch_size: int) -> list[int]:
    """The rows of the steps; positions rise by what the ranks took, and nobody goes without or has more than fits."""
    rows: list[int] = []
    for step in epoch:
        rows += [row for batch in step for row in batch.row_B.tolist()]
        assert {batch.position.rows for batch in step} == {begin + len(rows)}
        sizes = [len(batch) for batch in step]
        assert min(sizes) >= 1 and max(sizes) <= batch_size
    return rows


def row_lists(epoch: list[list[Batch]]) -> list[list[list[int]]]:
    return [[batch.row_B.tolist() for batch in step] for step in epoch]


@settings(max_examples=40, deadline=None)
@given(plan=plans, first=worlds, others=st.lists(worlds, min_size=1, max_size=3), data=st.data())
def test_every_row_once_also_after_crashes_and_on_other_worlds(
    plan: dict[str, Any], first: tuple[int, int], others: list[tuple[int, int]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        catalog = Catalog.open(days_of_sizes(Path(folder) / "toy", plan["sizes"], plan["row_group"]))
        table = pa.concat_tables([rows_table(n, sum(plan["sizes"][:i])) for i, n in enumerate(plan["sizes"])])
        expected = [r["row"] for r in table.to_pylist() if plan["split"] == "days" or r["split"] == "train"]
        if len(expected) < 4:
            return

        def make(batch: int, **options: Any) -> Reader:
            sizes = {name: plan[name] for name in ("split", "window", "max_lanes", "rows_a_lane")}
            return reader(catalog, batch, **sizes, **options)

        (world, batch), done, start, epoch = first, [], {}, []
        for world_next, batch_next in [*others, (1, 24)]:
            epoch = epoch_of(make, world, 0, batch=batch, **start)
            kill = data.draw(st.integers(1, len(epoch)), label="steps before the crash")
            done += check_steps(epoch[:kill], len(done), batch)
            start = {"start": epoch[kill - 1][0].position}
            again = epoch_of(make, world, 0, batch=batch, **start)
            assert row_lists(again) == row_lists(epoch[kill:]), "the same world goes on as if nothing had happened"
            if len(done) == len(expected):
                break
            try:
                make(batch_next, world_size=world_next, **start)
            except ValueError as refused:
                assert "use fewer ranks" in str(refused)
            else:
                world, batch = world_next, batch_next
        rest = epoch_of(make, world, 0, batch=batch, **start)
        assert sorted(done + check_steps(rest, len(done), batch)) == expected


@settings(max_examples=25, deadline=None)
@given(plan=plans, world=worlds)
def test_every_row_once_in_file_order(plan: dict[str, Any], world: tuple[int, int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        catalog = Catalog.open(days_of_sizes(Path(folder) / "toy", plan["sizes"], plan["row_group"]))
        ranks, batch = world

        def make(**options: Any) -> Reader:
            return reader(catalog, batch, split="days", window=plan["window"], shuffle=False, **options)

        epoch = epoch_of(make, ranks, 0)
        assert len(epoch) == len(make(world_size=ranks))
        assert sorted(check_steps(epoch, 0, batch)) == list(range(sum(plan["sizes"])))
        for rank in range(ranks):
            highest = [max(step[rank].row_B.tolist()) for step in epoch]
            assert highest == sorted(highest)


@pytest.mark.parametrize("split", ["days", "random"])
@pytest.mark.parametrize("window", [10**6, 1000])
def test_the_order_knows_nothing_of_ranks_and_batches(tmp_path: Path, split: str, window: int) -> None:
    folder = days_of_sizes(tmp_path / "toy", [1600, 1400], row_group=100)

    def make(batch: int, **options: Any) -> Reader:
        return reader(folder, batch, split=split, window=window, rows_a_lane=1, **options)

    one = [set(rows) for step in row_lists(epoch_of(make, 1, 0, batch=64)) for rows in step]
    for world in (2, 4):
        steps_of_all = [set().union(*step) for step in row_lists(epoch_of(make, world, 0, batch=64 // world))]
        assert steps_of_all == one
    flat = [row for step in row_lists(epoch_of(make, 1, 0, batch=1)) for rows in step for row in rows]
    assert [
        set(flat[i : i + len(rows)]) for i, rows in zip(np.cumsum([0, *map(len, one[:-1])]), one, strict=True)
    ] == one


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48,000 rows in row groups of 1000."""
    return days_of_sizes(tmp_path_factory.mktemp("days") / "toy", [24_000, 24_000], row_group=1000)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("split", ["days", "random"])
@pytest.mark.parametrize("window", [10**6, 20_000])
def test_a_rank_reads_only_row_groups_that_hold_its_rows(
    two_days: Path, monkeypatch: pytest.MonkeyPatch, shuffle: bool, split: str, window: int
) -> None:
    read: list[Part] = []
    original = Decoder._read
    monkeypatch.setattr(Decoder, "_read", lambda self, part: (read.append(part), original(self, part))[1])
    groups = Counter[tuple[Any, ...]]()
    rows: list[int] = []
    for rank in range(3):
        read.clear()
        batches = list(
            reader(two_days, 300, split=split, window=window, shuffle=shuffle, rank=rank, world_size=3).epoch(0)
        )
        own = [row for batch in batches for row in batch.row_B.tolist()]
        held = {row // 1000 for row in own}  # rows are numbered through, 1000 a row group
        opened = [(part.piece.file.day, part.piece.groups) for part in read]
        assert len(opened) == len(set(opened)) == len(held)
        assert sum(part.last - part.first for part in read) == len(own)
        assert len(own) == pytest.approx(sum(r.rows for r in [reader(two_days, split=split)]) / 3, rel=0.01)
        groups.update(opened)
        rows += own
    assert len(rows) == len(set(rows))
    windows = len(cut([1000] * 48, window)) if split == "days" else 3
    assert max(groups.values()) <= 2 and sum(groups.values()) <= 48 + 2 * windows


def test_later_epochs_of_a_resumed_run_are_read_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    """At the very end of the only window rows are shared otherwise than in the epochs after it."""
    folder = days_of_sizes(tmp_path / "toy", [20_000], row_group=1000)

    def make(**options: Any) -> Reader:
        return reader(folder, 500, **options)

    start = epoch_of(make, 3, 0)[-1][0].position
    near = type(start)(0, start.rows - 4)
    assert sum(len(batch) for step in epoch_of(make, 3, 0, start=near) for batch in step) == 4
    assert row_lists(epoch_of(make, 3, 1, start=near)) == row_lists(epoch_of(make, 3, 1))


def test_windows_are_shuffled_well(tmp_path: Path) -> None:
    """Rows of a batch come from everywhere in the window, and another epoch puts a row beside other rows."""
    folder = days_of_sizes(tmp_path / "toy", [40_000], row_group=10_000)
    first, second = (row_lists(epoch_of(lambda **options: reader(folder, 256, **options), 1, n)) for n in (0, 1))
    for step in first:
        assert np.histogram(step[0], bins=8, range=(0, 40_000))[0].min() >= 20  # 32 of each eighth
    mates = {row: set(step[0]) for step in second for row in step[0]}
    shared = [len(mates[row] & set(step[0])) - 1 for step in first for row in step[0]]
    assert np.mean(shared) < 20  # of 255; 1.6 if rows were drawn at random, and lanes have 41 rows each


# Numbers alone


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    lane_count=st.sampled_from([1, 4, 12, 60, LANES]),
    world=st.integers(1, 9),
    batch=st.integers(1, 700),
)
def test_shares_of_lanes_cover_every_step(data: st.DataObject, lane_count: int, world: int, batch: int) -> None:
    rows = data.draw(st.integers(max(world, lane_count), 3000))
    begin = data.draw(st.integers(0, rows - world))
    sizes = {"shuffle": True, "max_lanes": lane_count, "rows_a_lane": 1}
    shares = [Shares(rank, world, batch, **sizes).of(rows, begin) for rank in range(world)]
    order = Shares(0, 1, rows, **sizes).of(rows).order(None)
    orders = [s.order(None) + s.span[0] for s in shares]
    taken = [[(own_order[own], stop) for own, stop in s.steps()] for s, own_order in zip(shares, orders, strict=True)]
    at = begin
    for step in zip(*taken, strict=True):
        (stop,) = {stop for _, stop in step}
        found = [own.tolist() for own, _ in step]
        assert sorted(row for part in found for row in part) == sorted(order[at:stop].tolist())
        assert min(map(len, found)) >= 1
        assert max(map(len, found)) <= (batch if batch > 1 else 2)
        at = stop
    assert at == rows


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 7, 8, 64, 100, 960, 961])
def test_steps_of_many_ranks_waste_little(world: int) -> None:
    smallest, largest = step_sizes(LANES, world, 4096)
    if world > LANES:
        assert largest == 0
        assert Shares(960, world, 4096, shuffle=True).of(2_000_000).own == range(LANES)
    else:
        exact = world in (1, 2, 4, 8, 64, 960)
        assert largest == 4096 * world if exact else 0.95 * 4096 * world < largest < 4096 * world or world == 100
        assert world <= smallest <= 10 * world


@given(count=st.integers(1, 1000), rows=st.integers(1, 5000))
def test_lanes_are_consecutive_rows_and_all_have_their_turn(count: int, rows: int) -> None:
    assert sorted(lane_turns(count).tolist()) == list(range(count))
    sizes = np.diff(lane_starts(rows, count))
    assert sizes.sum() == rows and sizes.max() - sizes.min() <= 1


@settings(max_examples=300)
@given(rows=st.integers(1, 500), world=st.integers(1, 5), batch=st.integers(1, 40))
def test_shares_of_a_step_differ_by_one_row_at_most(rows: int, world: int, batch: int) -> None:
    count = count_steps(rows, world, world * batch)
    planned = list(steps(0, rows, count)) if rows >= world else []
    sizes = [b - a for step in planned for a, b in (share(*step, rank, world) for rank in range(world))]
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
