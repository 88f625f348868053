"""Id dropout: the share asked for, drawn by seed, epoch, row and feature alone, of training rows only."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepared_folder import days_of_sizes
from readers import reader

from swrec_prod.data.batch import Batch, Position
from swrec_prod.data.id_dropout import IdDropout
from swrec_prod.encoding.pack import Column, Ragged
from swrec_prod.schema import Feature

ROWS = 20_000
FEATURES = {
    name: Feature(name=name, kind=kind, side=side, encoder="vocab")  # type: ignore[arg-type]
    for name, kind, side in (
        ("movie", "id", "item"),
        ("author", "id", "item"),
        ("genres", "bag", "item"),
        ("person", "id", "user"),
        ("hour", "id", "context"),
        ("city", "id", "user"),
    )
}
RATES = {"movie": 0.1, "author": 0.05, "genres": 0.3, "person": 0.02, "hour": 0.3}


def dropout(rates: dict[str, float], seed: int = 1) -> IdDropout:
    return IdDropout(rates, list(FEATURES.values()), seed)


def columns(rows: int) -> dict[str, Column]:
    """Known ids of every feature, and bags of 0 to 3 of them."""
    draw = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(draw.integers(0, 4, rows))])
    ids = {name: draw.integers(1, 50, rows).astype(np.int32) for name in FEATURES if name != "genres"}
    return {**ids, "genres": Ragged(draw.integers(1, 8, offsets[-1]).astype(np.int32), offsets)}


def values(column: Column) -> np.ndarray:
    return column.values if isinstance(column, Ragged) else column


def test_each_feature_loses_its_share_and_the_others_nothing() -> None:
    before = columns(ROWS)
    after = dropout(RATES)(before, np.arange(ROWS), epoch=0)
    for name, rate in RATES.items():
        known, left = values(before[name]), values(after[name])
        lost = left == 0
        assert abs(lost.mean() - rate) < 5 * np.sqrt(rate / len(lost))
        np.testing.assert_array_equal(left[~lost], known[~lost])
        assert left.dtype == known.dtype
        assert known.all(), "the columns that are given stay as they are"
    assert after["city"] is before["city"]
    np.testing.assert_array_equal(after["genres"].offsets, before["genres"].offsets)  # type: ignore[union-attr]


def test_a_row_loses_the_ids_of_a_side_together() -> None:
    after = dropout(RATES)(columns(ROWS), np.arange(ROWS), epoch=0)
    assert set(np.flatnonzero(after["author"] == 0)) < set(np.flatnonzero(after["movie"] == 0))


def test_draws_of_sides_epochs_seeds_and_places_have_nothing_to_do_with_each_other() -> None:
    before, row = columns(ROWS), np.arange(ROWS)
    names = dict.fromkeys(("movie", "person", "hour"), 0.3)
    draws = [
        dropout(names, seed)(before, row, epoch)[name] == 0
        for seed, epoch in ((1, 0), (1, 1), (2, 0))
        for name in names
    ]
    pairs = {"genres": Ragged(np.ones(2 * ROWS, np.int32), np.arange(0, 2 * ROWS + 1, 2))}
    draws += list((values(dropout({"genres": 0.3})(pairs, row, 0)["genres"]) == 0).reshape(ROWS, 2).T)
    for one, other in combinations(draws, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(ROWS)


@given(st.integers(0, 2**62), st.permutations(range(12)), st.integers(0, 12))
def test_a_row_loses_the_same_in_any_batch(first: int, order: list[int], cut: int) -> None:
    before, row = columns(12), np.arange(12) + first
    drop = dropout({"movie": 0.5, "genres": 0.5}, seed=3)
    whole = drop(before, row, 2)
    for picked in (np.array(order[:cut], int), np.array(order[cut:], int)):
        some = {name: c.take(picked) for name, c in before.items()}
        for name, column in drop(some, row[picked], 2).items():
            np.testing.assert_array_equal(values(column), values(whole[name].take(picked)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return days_of_sizes(tmp_path / "data", [40, 300, 60], row_group=50)


Trained = dict[int, tuple[int, int, tuple[int, ...]]]


def trained(batches: list[Batch]) -> Trained:
    """By row: the ids of person, of the target movie, and of the genres."""
    rows: Trained = {}
    for batch in batches:
        assert batch.ids is not None
        person, genres = batch.ids["person"].to_dense(), batch.ids["genres"].to_dense()
        movie = batch.sequence_values[: len(batch)].tolist()
        for i, row in enumerate(batch.row_B.tolist()):
            rows[row] = (int(person[i]), movie[i], tuple(genres[i].tolist()))
    return rows


@pytest.mark.parametrize("window", [10**6, 130], ids=["one_window", "several_windows"])
def test_ranks_together_and_a_run_that_goes_on_train_what_one_rank_trains(folder: Path, window: int) -> None:
    options = {"seed": 5, "unknown_rate": {"person": 0.3, "movie": 0.3, "genres": 0.3}, "window": window}
    alone = reader(folder, 16, **options)  # type: ignore[arg-type]
    batches = list(alone.epoch(1))
    whole = trained(batches)
    assert len(whole) == 400 and sum(ids[1] == 0 for ids in whole.values()) > 60
    ranks = [reader(folder, 8, rank=rank, world_size=3, **options) for rank in range(3)]  # type: ignore[arg-type]
    assert trained([batch for each in ranks for batch in each.epoch(1)]) == whole
    later = reader(folder, 32, start=Position(1, batches[4].position.rows), **options)  # type: ignore[arg-type]
    assert trained(list(later.epoch(1))) == trained(batches[5:])
    assert trained(list(alone.epoch(2))) != whole
    plain = trained(list(reader(folder, 16, seed=5, window=window).epoch(1)))
    assert all(id_ in (0, known) for row in plain for id_, known in zip(whole[row][:2], plain[row][:2], strict=True))
