"""Scores that are spread over ranks add up to what all rows say, though no rank has them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_ranks import FakeRank, on_ranks
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from swrec_prod.errors import MetricError, SingleClassError
from swrec_prod.metrics.probabilities import calibration, ece, logloss, ne
from swrec_prod.metrics.ranks import RankStatistic, auc
from swrec_prod.metrics.score_ranges import Masses, ScoreSums
from swrec_prod.peers import ALONE
from swrec_prod.shares.all_scores import AllScores, Sums, auc_of_all

NAMES = ("ads", "feed", "search")


def drawn(rows: int, values: int, seed: int) -> dict[str, np.ndarray]:
    """Rows whose scores are one of so many values, so that many are equal."""
    draw = np.random.default_rng(seed)
    return {
        "labels": draw.integers(0, 2, rows).astype(float),
        "logits": draw.normal(size=values)[draw.integers(0, values, rows)],
        "weights": draw.choice([0.0, 0.5, 2.0, 3.25], rows),
        "scenario": draw.integers(0, 3, rows),
    }


def sums_of(rows: dict[str, np.ndarray], ranks: int, turns: int, weighted: bool, folder: Path | None = None) -> Sums:
    """Row i is on rank i % ranks, each rank's in two pieces."""

    def work(peers: FakeRank) -> Sums:
        own = {name: column[peers.rank :: ranks] for name, column in rows.items()}
        scores = AllScores(peers, turns, folder and folder / str(peers.rank))
        for half in np.array_split(np.arange(len(own["labels"])), 2):
            at = {name: half[own["scenario"][half] == i] for i, name in enumerate(NAMES)}
            of = (own["labels"], own["logits"], own["weights"])
            scores.add(
                {name: RankStatistic.of(*(column[i] for column in of[: 2 + weighted])) for name, i in at.items()}
            )
        return scores.sums()

    first, *others = on_ranks(ranks, work)
    assert all(repr(other) == repr(first) for other in others), "all ranks come to the same"
    return first


FIGURES: dict[str, Callable] = {"auc": auc, "logloss": logloss, "ne": ne, "calibration": calibration, "ece": ece}


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(12, 150), values=st.integers(1, 60), ranks=st.integers(1, 4), turns=st.integers(1, 3),
    weighted=st.booleans(), seed=st.integers(0, 10_000),
)  # fmt: skip
def test_figures_are_those_of_all_rows(
    rows: int, values: int, ranks: int, turns: int, weighted: bool, seed: int
) -> None:
    columns = drawn(rows, values, seed)
    found = sums_of(columns, ranks, turns, weighted)
    for name, sums in {**found.scenarios, "": found.overall}.items():
        of = columns["scenario"] == NAMES.index(name) if name else np.ones(rows, bool)
        weights = columns["weights"][of] if weighted else None
        for figure, formula in FIGURES.items():
            try:
                expected = formula(columns["labels"][of], columns["logits"][of], weights=weights)
            except MetricError as failure:
                with pytest.raises(type(failure)):
                    getattr(sums, figure)()
            else:
                assert getattr(sums, figure)() == pytest.approx(expected, abs=1e-12, rel=1e-12), (name, figure)


def test_figures_are_scikit_learns_and_wait_on_the_disk(tmp_path: Path) -> None:
    columns = drawn(4000, 700, 5)
    found = sums_of(columns, 3, 4, weighted=True, folder=tmp_path).overall
    labels, logits, weights = columns["labels"], columns["logits"], columns["weights"]
    assert found.auc() == pytest.approx(roc_auc_score(labels, logits, sample_weight=weights), abs=1e-12)
    expected = log_loss(labels, 1 / (1 + np.exp(-logits)), sample_weight=weights)
    assert found.logloss() == pytest.approx(expected, abs=1e-12)
    assert any(tmp_path.rglob("range-*"))


def test_auc_is_the_same_to_the_bit_however_rows_are_spread() -> None:
    columns = drawn(3000, 2500, 1)
    expected = auc(columns["labels"], columns["logits"])
    assert auc_of_all(RankStatistic.of(columns["labels"], columns["logits"]), ALONE) == expected
    for ranks in (2, 5):
        assert sums_of(columns, ranks, 2, weighted=False).overall.auc() == expected


def test_a_rank_is_given_its_share_of_the_scores_only() -> None:
    draw, ranks, rows = np.random.default_rng(0), 4, 8000

    def largest(peers: FakeRank) -> int:
        skewed = np.exp(3 * draw.normal(size=rows // ranks))  # most scores are in a small part of their range
        own = RankStatistic.of(draw.integers(0, 2, rows // ranks), skewed)
        auc_of_all(own, peers)
        return peers.largest

    everything = 3 * 8 * rows  # bytes: a score and two counts
    assert max(on_ranks(ranks, largest)) < 1.3 * everything / ranks


def test_one_class_on_a_rank_is_no_matter_and_one_class_everywhere_is() -> None:
    def of(labels: list[int]) -> Callable[[FakeRank], float]:
        return lambda peers: auc_of_all(RankStatistic.of(np.array(labels[peers.rank :: 2]), np.arange(2.0)), peers)

    assert on_ranks(2, of([0, 1, 0, 1])) == [0.5 + 0.0, 0.5]
    with pytest.raises(SingleClassError, match="all 4 labels are 1"):
        on_ranks(2, of([1, 1, 1, 1]))


def test_no_rows_have_no_figures() -> None:
    none = ScoreSums.of(RankStatistic.merged([]), Masses(0, 0), Masses(0, 0))
    for figure in FIGURES:
        with pytest.raises(MetricError, match="there are no rows"):
            getattr(none, figure)()
