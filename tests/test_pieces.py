"""Rows judged in pieces, in any split and order, against the same rows judged at once."""

from __future__ import annotations

import io
import json
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import log_loss, roc_auc_score

from swrec_prod.errors import MetricError, SingleClassError
from swrec_prod.metrics.auc_of_pieces import auc_of_pieces
from swrec_prod.metrics.pieces import Piece, piece_of_group
from swrec_prod.metrics.ranks import RankStatistic, auc_interval
from swrec_prod.metrics.rows import Rows
from swrec_prod.metrics.summary import record_of, summarise
from swrec_prod.metrics.tally import Tally

NAMES = ["feed", "ads", "search"]
Columns = tuple[np.ndarray, ...]


@st.composite
def judged_rows(draw: st.DrawFn, weights: st.SearchStrategy[float] | None = None) -> tuple[Columns, np.ndarray]:
    """labels, logits, users, scenarios and maybe weights of one to 40 rows, and the piece that each row is dealt to."""
    n = draw(st.integers(1, 40))
    labels = draw(arrays.arrays(np.float32, n, elements=st.sampled_from([0.0, 1.0])))
    logits = draw(arrays.arrays(np.float32, n, elements=st.sampled_from([-9.0, -2.5, -0.1, 0.0, 0.1, 3.0])))
    users = draw(arrays.arrays(np.int64, n, elements=st.integers(-1, 6)))
    scenarios = draw(arrays.arrays(np.int64, n, elements=st.integers(0, 2)))
    dealt = draw(arrays.arrays(np.int64, n, elements=st.integers(0, 3)))
    more = () if weights is None else (draw(arrays.arrays(np.float64, n, elements=weights)),)
    return (labels, logits, users, scenarios, *more), dealt


def piece(labels, logits, users, scenarios, weights=None) -> Piece:
    return Piece.of(labels, logits, users, scenarios, NAMES, weights=weights)


def dealt_out(columns: Columns, dealt: np.ndarray) -> list[Piece]:
    """The pieces of rows dealt by user, every second one with its rows turned around."""
    of_user = dealt[columns[2] % len(dealt)]  # one piece a user
    parts = [tuple(column[of_user == p][:: (-1) ** p] for column in columns) for p in range(4)]
    return [piece(*part) for part in parts]


def close(record: Any) -> Any:
    """Figures to 1e-12, at any depth."""
    if isinstance(record, dict):
        return {key: close(value) for key, value in record.items()}
    return pytest.approx(record, rel=1e-12, abs=1e-12) if isinstance(record, float) else record


@settings(max_examples=60)
@given(judged_rows(), st.permutations(range(4)))
def test_pieces_in_any_split_and_order_say_what_all_rows_say(rows, order):
    columns, dealt = rows
    pieces = dealt_out(columns, dealt)
    whole = record_of(piece(*columns))
    assert record_of(Piece.merged([pieces[p] for p in order])) == close(whole)
    one_by_one = record_of(reduce(add, pieces))
    for name in ("auc", "logloss", "ne", "calibration", "ece"):
        assert one_by_one["overall"][name] == whole["overall"][name], "to the bit where rows count once"


@settings(max_examples=60)
@given(judged_rows(weights=st.sampled_from([0.0, 0.25, 1.0, 3.0])))
def test_pieces_of_weighted_rows_say_what_all_rows_say(rows):
    columns, dealt = rows
    merged = Piece.merged(dealt_out(columns, dealt))
    labels, logits, _, _, weights = columns
    whole = piece(*columns)
    assert record_of(merged) == close(record_of(whole))
    if min(labels[weights > 0].sum(), (1 - labels[weights > 0]).sum()) >= 2:
        found = merged.tasks[""].overall().auc_interval(0.9)
        assert found == pytest.approx(auc_interval(labels, logits, 0.9, weights), abs=1e-9)


@given(judged_rows(weights=st.sampled_from([0.0, 0.25, 1.0])))
def test_figures_of_a_piece_are_those_of_scikit_learn(rows):
    (labels, logits, _, _, weights), _ = rows
    record = record_of(piece(*rows[0]))["overall"]
    if record["auc"] is not None:
        assert record["auc"] == pytest.approx(roc_auc_score(labels, logits, sample_weight=weights), abs=1e-12)
    if weights.any():
        probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
        expected = log_loss(labels, probabilities, sample_weight=weights, labels=[0, 1])
        assert record["logloss"] == pytest.approx(expected, rel=1e-9)


@settings(max_examples=30)
@given(judged_rows(), st.booleans())
def test_a_piece_comes_back_from_its_arrays(rows, with_given):
    columns, _ = rows
    sent = piece(*columns, np.full(len(columns[0]), 0.5))
    if with_given:
        sent.tasks[""].given["click"] = piece(*columns).tasks[""]
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **sent.to_arrays())
    file.seek(0)
    found = Piece.from_arrays(dict(np.load(file, allow_pickle=False)))
    assert json.dumps(record_of(found)) == json.dumps(record_of(sent))
    assert list(found.tasks[""].scenarios) == NAMES
    assert found.tasks[""].overall().squares is not None


def test_a_piece_knows_every_task_and_scenarios_that_others_lack():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, (50, 2)), rng.normal(size=(50, 2))
    users, scenarios = rng.integers(0, 5, 50), rng.integers(0, 2, 50)
    whole = summarise(labels, logits, users, scenarios, ["ads", "feed"], ["click", "buy"])
    parts = [
        Piece.of(labels[own], logits[own], users[own], np.zeros(own.sum(), int), [name], ["click", "buy"])
        for name, own in (("feed", scenarios == 1), ("ads", scenarios == 0))
    ]
    found = record_of(Piece.from_arrays(Piece.merged(parts).to_arrays()))
    assert found["tasks"]["buy"]["scenarios"] == close(whole["tasks"]["buy"]["scenarios"])
    assert found["overall"]["auc"] == whole["overall"]["auc"]
    with pytest.raises(MetricError, match=r"tasks \['click', 'buy'\] and \[''\]"):
        parts[0] + piece(labels[:, 0], logits[:, 0], users, scenarios)


def test_arrays_of_something_else_are_refused():
    sent = piece(np.array([0, 1]), np.zeros(2), np.zeros(2, int), np.zeros(2, int)).to_arrays()
    del sent["tasks/0/scenarios/1/counts"]
    with pytest.raises(MetricError, match="lack the array 'counts'"):
        Piece.from_arrays(sent)


def test_scores_that_are_no_numbers_in_one_piece_leave_the_whole_without_figures():
    good, users = (np.array([0, 1, 1]), np.array([0.1, 0.2, 0.3])), np.zeros(3, int)
    bad = Tally.of(Rows(good[0], np.array([0.1, np.nan, np.inf]), users))
    merged = Tally.of(Rows(*good, users)) + bad
    assert (merged.rows, merged.positives, merged.broken) == (6, 4, 2)


@given(arrays.arrays(np.int64, st.integers(1, 50), elements=st.integers(-5, 5)), st.integers(1, 7))
def test_a_group_has_one_piece_whatever_its_type(groups, pieces):
    for column in (groups, groups.astype(np.int32), groups.astype(str), groups.astype(str).astype(object)):
        dealt = piece_of_group(column, pieces)
        assert dealt.min() >= 0 and dealt.max() < pieces
        assert len(set(zip(column, dealt, strict=True))) == len(set(column))
    np.testing.assert_array_equal(piece_of_group(groups, pieces), piece_of_group(groups.astype(np.int32), pieces))


def test_pieces_get_about_equally_many_groups():
    for groups in (np.arange(40_000) * 64, np.arange(40_000).astype(str)):
        shares = np.bincount(piece_of_group(groups, 4)) / 10_000
        assert abs(shares - 1).max() < 0.05


def test_many_pieces_are_merged_at_once():
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 2, 5000), rng.normal(size=5000).round(2)
    parts = [RankStatistic.of(labels[i::100], scores[i::100]) for i in range(100)]
    assert RankStatistic.merged(parts).auc() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(judged_rows(weights=st.sampled_from([0.0, 0.25, 1.0])), st.booleans(), st.integers(1, 9))
def test_auc_of_pieces_on_the_disk_is_that_of_their_sum(rows, weighted: bool, at_once: int) -> None:
    (labels, logits, _, _, weights), dealt = rows
    own = weights if weighted else None
    parts = [(dealt == p, None if own is None else own[dealt == p]) for p in range(4)]
    pieces = [RankStatistic.of(labels[at], logits[at], weight) for at, weight in parts]
    whole = RankStatistic.of(labels, logits, own)
    try:
        expected = whole.auc()
    except SingleClassError as failure:
        with pytest.raises(SingleClassError, match=str(failure)):
            auc_of_pieces(iter(pieces), at_once)
        return
    found = auc_of_pieces(iter(pieces), at_once, threads=2)
    assert found == (pytest.approx(expected, abs=1e-12) if weighted else expected)


def test_auc_of_pieces_of_float64_scores_and_many_equal_rows_equals_scikit_learn() -> None:
    draw = np.random.default_rng(5)
    labels, scores = draw.integers(0, 2, 40_000), np.where(draw.random(40_000) < 0.5, 1 / 3, draw.normal(size=40_000))
    pieces = (RankStatistic.of(labels[i::7], scores[i::7]) for i in range(7))
    assert auc_of_pieces(pieces, 3_000) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    with pytest.raises(SingleClassError, match="there are no rows"):
        auc_of_pieces([])
