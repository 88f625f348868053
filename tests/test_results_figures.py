"""Figures of docs/results.md that take more than scikit-learn to check:
what counts as significant, and what is paired with what.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.results.figures import Liked, liked_of
from swrec_prod.compare.comparison import contrasts
from swrec_prod.compare.runs import Scores, TestRows
from swrec_prod.evaluate.predictions import Split
from swrec_prod.metrics.probabilities import sigmoid
from swrec_prod.statistics.paired import Difference, auc_difference

N = 400


def test_what_is_significant_holds_the_rate_of_false_discoveries() -> None:
    """Of four comparisons the second smallest p is held to 2/4 of 5 %, the third to 3/4 of it."""
    p_values = {"first": 0.01, "second": 0.04, "third": 0.04, "fourth": 0.5}
    found = contrasts({name: Difference(0.1, 0.04, 0.0, 0.2, p) for name, p in p_values.items()})
    assert {name: c.significant for name, c in found.items()} == {
        "first": True,
        "second": False,
        "third": False,
        "fourth": False,
    }
    assert {name: c.difference.p for name, c in found.items()} == p_values, (
        "the p that is told is that of the comparison alone"
    )
    assert contrasts({"second": found["second"].difference})["second"].significant, "alone, it is held to 5 %"
    assert contrasts({}) == {}


@pytest.fixture(scope="module")
def liking() -> tuple[TestRows, np.ndarray, Scores, Scores]:
    """Rows, chances, shared_bottom, and a variant with a causal split whose three seeds are of unequal quality."""
    rng = np.random.default_rng(4)
    interest_N = rng.normal(size=N)
    chance_N = sigmoid(interest_N)
    labels_N = (rng.random(N) < chance_N).astype(float)
    scenario_N = rng.integers(0, 2, N)
    users = rng.integers(0, 40, N)
    rows = TestRows("click", np.arange(N), labels_N, users, scenario_N, ["feed", "cart"], "user", users, days=1)
    quality_R1 = np.array([[0.2], [1.0], [3.0]])
    interest_RN = quality_R1 * interest_N + rng.normal(size=(3, N))
    influence_N = 2.0 * scenario_N
    splits = tuple(Split(y_m, influence_N) for y_m in interest_RN)
    score_RN = np.stack([split.rescored(1.0) for split in splits])
    plain_RN = interest_N + 2 * rng.normal(size=(3, N))
    baseline = Scores("shared_bottom", (1, 2, 3), plain_RN, plain_RN, ())
    return rows, chance_N, baseline, Scores("mscan", (1, 2, 3), sigmoid(influence_N) * interest_RN, score_RN, splits)


def test_gain_of_the_ranking_score_is_paired_by_seed(liking: tuple[TestRows, np.ndarray, Scores, Scores]) -> None:
    rows, chance_N, baseline, causal = liking
    by_name: dict[str, Liked] = {liked.variant: liked for liked in liked_of(rows, [baseline, causal], chance_N)}
    sides = (chance_N, causal.score_RN, causal.logit_RN, rows.user_N)
    paired, unpaired = auc_difference(*sides, same_seeds=True), auc_difference(*sides)
    assert unpaired.error > 1.5 * paired.error, "both scores of a seed are good or bad together"
    assert by_name["mscan"].gain == pytest.approx(paired, abs=1e-12)
    assert by_name["shared_bottom"].gain is None


def test_lead_over_the_baseline_is_not_paired_by_seed(liking: tuple[TestRows, np.ndarray, Scores, Scores]) -> None:
    rows, chance_N, baseline, causal = liking
    reference, other = liked_of(rows, [baseline, causal], chance_N)
    wanted = auc_difference(chance_N, causal.score_RN, baseline.logit_RN, rows.user_N)
    assert other.ahead == pytest.approx(wanted, abs=1e-12)
    assert reference.ahead is None
    assert liked_of(rows, [causal], chance_N)[0].ahead is None, "without a run of the baseline there is no lead"
