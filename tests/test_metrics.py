"""Metrics against scikit-learn, against loops that follow the definitions, and where figures do not exist."""

from __future__ import annotations

import doctest
import json
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import log_loss, roc_auc_score

from swrec_prod.errors import MetricError, SingleClassError
from swrec_prod.metrics import ranks
from swrec_prod.metrics.probabilities import calibration, calibration_bins, ece, logloss, ne
from swrec_prod.metrics.ranks import RankStatistic, auc, auc_interval
from swrec_prod.metrics.rows import Rows
from swrec_prod.metrics.summary import METRICS, measure, summarise
from swrec_prod.metrics.tally import Tally


@st.composite
def rows(draw: st.DrawFn, size: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels with both classes, scores with many ties, and a few users."""
    n = draw(st.integers(2, size))
    labels = draw(arrays.arrays(np.float32, n, elements=st.sampled_from([0.0, 1.0])))
    assume(0 < labels.sum() < n)
    scores = draw(arrays.arrays(np.float32, n, elements=st.sampled_from([-9.0, -2.5, -0.1, 0.0, 0.1, 3.0])))
    users = draw(arrays.arrays(np.int64, n, elements=st.integers(-1, 4)))
    return labels, scores, users


def ranked(rng: np.random.Generator, n: int, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and Gaussian scores whose true AUC is Phi(shift / sqrt(2))."""
    labels = (rng.random(n) < 0.3).astype(np.float64)
    return labels, rng.normal(size=n) + shift * labels


def test_docstring_examples():
    assert doctest.testmod(ranks).failed == 0


@given(rows(), st.data())
def test_auc_equals_scikit_learn_with_ties_and_weights(given_rows, data):
    labels, scores, _ = given_rows
    weights = data.draw(arrays.arrays(np.float64, len(labels), elements=st.sampled_from([0.25, 1.0, 3.0])))
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert auc(labels, scores, weights) == pytest.approx(
        roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12
    )


@given(rows(), st.lists(st.integers(0, 40), max_size=5))
def test_merged_parts_equal_the_whole_to_the_bit(given_rows, cuts):
    labels, scores, _ = given_rows
    parts = zip(np.split(labels, sorted(cuts)), np.split(scores, sorted(cuts)), strict=True)
    merged = reduce(add, (RankStatistic.of(*part) for part in parts))
    whole = RankStatistic.of(labels, scores)
    for ours, theirs in zip(vars(merged).values(), vars(whole).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert merged.auc() == whole.auc()


def test_auc_is_exact_at_a_low_click_rate():
    rng = np.random.default_rng(0)
    labels = (rng.random(100_000) < 0.0035).astype(np.float32)
    # all in a sliver of the logit scale
    scores = (rng.normal(size=100_000) * 1e-3 + labels * 8e-4 - 5.6).astype(np.float32)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(rows())
def test_logloss_and_ne_equal_scikit_learn(given_rows):
    labels, logits, _ = given_rows
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert logloss(labels, logits) == pytest.approx(log_loss(labels, probabilities), rel=1e-9)
    base = log_loss(labels, np.full(len(labels), labels.mean(dtype=np.float64)))
    assert ne(labels, logits) == pytest.approx(log_loss(labels, probabilities) / base, rel=1e-9)


def test_logloss_of_extreme_logits_is_finite():
    assert logloss(np.array([0, 1]), np.array([2000.0, -1000.0])) == 1500.0


def test_calibration_is_predicted_over_observed():
    logits = np.log(np.array([0.1, 0.3, 0.5, 0.7]) / np.array([0.9, 0.7, 0.5, 0.3]))
    assert calibration(np.array([0, 0, 0, 1]), logits) == pytest.approx(0.4 / 0.25)


def test_ece_of_two_groups_is_the_mean_gap():
    labels = np.array([0, 0, 0, 1, 1, 1])
    logits = np.log(np.array([0.2, 0.2, 0.2, 0.2, 0.75, 0.75]) / np.array([0.8, 0.8, 0.8, 0.8, 0.25, 0.25]))
    assert ece(labels, logits) == pytest.approx((4 * abs(0.2 - 1 / 4) + 2 * abs(0.75 - 1)) / 6)


@settings(max_examples=40)
@given(rows(), st.randoms())
def test_no_metric_depends_on_the_order_of_rows(given_rows, random):
    labels, logits, users = given_rows
    order = np.array(random.sample(range(len(labels)), len(labels)))
    moved, still = (
        measure(Tally.of(Rows(*columns))) for columns in ((labels[order], logits[order], users[order]), given_rows)
    )
    assert moved.pop("reasons", {}) == still.pop("reasons", {})
    present = {name: value for name, value in still.items() if value is not None}
    assert {name: value for name, value in moved.items() if value is not None} == pytest.approx(present, rel=1e-9)


@given(rows())
def test_interval_has_delong_variance(given_rows):
    labels, scores, _ = given_rows
    positive, negative = scores[labels == 1], scores[labels == 0]
    if min(len(positive), len(negative)) < 2:
        with pytest.raises(MetricError, match="two rows of each class"):
            auc_interval(labels, scores)
        return
    # the kernel of DeLong et al. 1988, eq. 3
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = wins.mean(1).var(ddof=1) / len(positive) + wins.mean(0).var(ddof=1) / len(negative)
    found = auc_interval(labels, scores)
    assert found.error == pytest.approx(np.sqrt(variance), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(rows(), st.data())
def test_weighted_interval_has_the_variance_of_weighted_components(given_rows, data):
    labels, scores, _ = given_rows
    weights = data.draw(arrays.arrays(np.float64, len(labels), elements=st.sampled_from([0.25, 1.0, 3.0])))
    yes, no = labels == 1, labels == 0
    assume(min(yes.sum(), no.sum()) >= 2)
    wins = (scores[yes][:, None] > scores[no]) + 0.5 * (scores[yes][:, None] == scores[no])
    of_positive, of_negative = (
        np.average(wins, axis=1, weights=weights[no]),
        np.average(wins, axis=0, weights=weights[yes]),
    )
    value = roc_auc_score(labels, scores, sample_weight=weights)
    variance = 0.0
    for components, w in ((of_positive, weights[yes]), (of_negative, weights[no])):
        variance += len(w) / (len(w) - 1) * np.sum((w / w.sum()) ** 2 * (components - value) ** 2)
    found = auc_interval(labels, scores, weights=weights)
    assert found[:2] == (pytest.approx(value, abs=1e-9), pytest.approx(np.sqrt(variance), abs=1e-9))


def test_interval_covers_the_true_auc():
    rng = np.random.default_rng(7)
    truth = 0.7602499389  # Phi(1 / sqrt(2))
    covered = [low <= truth <= high for _, _, low, high in (auc_interval(*ranked(rng, 300)) for _ in range(600))]
    assert 0.92 < np.mean(covered) < 0.98  # the nominal 95 %, three standard errors around it


def test_a_wider_level_gives_a_wider_interval():
    labels, scores = ranked(np.random.default_rng(1), 200)
    narrow, wide = auc_interval(labels, scores, 0.8), auc_interval(labels, scores, 0.99)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_gives_null_with_its_reason(label):
    record = measure(Tally.of(Rows(np.full(12, label), np.linspace(-1, 1, 12), np.arange(12))))
    assert record["auc"] is None and record["ne"] is None and record["gauc"] is None
    assert record["reasons"]["auc"] == f"all 12 labels are {label}"
    assert record["logloss"] > 0 and (record["rows"], record["positives"]) == (12, 12 * label)
    json.dumps(record, allow_nan=False)


def test_no_rows_give_nulls():
    nothing = np.zeros(0)
    record = measure(Tally.of(Rows(nothing, nothing, nothing)))
    assert [record[name] for name in METRICS] == [None] * len(METRICS)
    assert record["reasons"]["logloss"] == "there are no rows"


def test_scores_that_are_no_numbers_are_reported_not_averaged():
    record = measure(Tally.of(Rows(np.array([0, 1, 1]), np.array([0.1, np.nan, np.inf]), np.zeros(3, int))))
    assert record["reasons"]["auc"] == "2 of 3 scores are not finite numbers"


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [([0, 2], [0.1, 0.2], "0 or 1, not 2"), ([0, 1], [0.1], "equally long"), ([0, 1], [0.1, np.nan], "not finite")],
)
def test_wrong_inputs_are_named(labels, scores, message):
    with pytest.raises(MetricError, match=message):
        auc(np.array(labels), np.array(scores))


@given(rows(), st.data())
def test_weighted_figures_equal_scikit_learn(given_rows, data):
    labels, logits, _ = given_rows
    weights = data.draw(arrays.arrays(np.float64, len(labels), elements=st.sampled_from([0.0, 0.25, 1.0, 3.0])))
    mass = [weights[labels == label].sum() for label in (0, 1)]
    assume(min(mass) > 0)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = log_loss(labels, probabilities, sample_weight=weights)
    assert logloss(labels, logits, weights) == pytest.approx(expected, rel=1e-9)
    base = log_loss(labels, np.full(len(labels), mass[1] / sum(mass)), sample_weight=weights)
    assert ne(labels, logits, weights) == pytest.approx(expected / base, rel=1e-9)
    assert calibration(labels, logits, weights) == pytest.approx(
        np.average(probabilities, weights=weights) / np.average(labels, weights=weights), rel=1e-9
    )


@given(rows(), st.data())
def test_a_weight_counts_as_so_many_equal_rows(given_rows, data):
    labels, logits, users = given_rows
    weights = data.draw(arrays.arrays(np.int64, len(labels), elements=st.integers(0, 3)))
    weighted = measure(Tally.of(Rows(labels, logits, users, weights)))
    repeated = measure(Tally.of(Rows(*(np.repeat(column, weights) for column in (labels, logits, users)))))
    for name in METRICS.keys() - {"ndcg"}:  # where a row is repeated, it takes the place of another
        assert weighted[name] == (None if repeated[name] is None else pytest.approx(repeated[name], rel=1e-9))


def test_rows_of_weight_0_do_not_count():
    labels, logits = np.array([0, 1, 1, 0]), np.array([0.3, 0.1, 2.0, 1.0])
    weights = np.array([1, 0, 2, 1])
    assert ece(labels, logits, 20, weights) == ece(labels[[0, 2, 3]], logits[[0, 2, 3]], 20, weights[[0, 2, 3]])
    assert len(calibration_bins(labels, logits, 20, weights).rows) == 3
    with pytest.raises(SingleClassError, match="all 2 labels are 1"):
        ne(np.array([0, 1, 1]), np.zeros(3), np.array([0, 1, 1]))
    with pytest.raises(MetricError, match="no rows of weight above 0"):
        logloss(labels, logits, np.zeros(4))
    with pytest.raises(MetricError, match=">= 0"):
        logloss(labels, logits, np.array([1, -1, 1, 1]))


def test_summary_measures_each_scenario_and_their_mean():
    rng = np.random.default_rng(3)
    labels, logits = ranked(rng, 300)
    users, scenarios = rng.integers(0, 20, 300), rng.integers(0, 2, 300)
    labels[scenarios == 1] = 0
    found = summarise(labels, logits, users, scenarios, ["feed", "ads", "never shown"])
    feed = scenarios == 0
    assert found["scenarios"]["feed"] == measure(Tally.of(Rows(labels[feed], logits[feed], users[feed])))
    assert found["overall"]["auc"] == pytest.approx(roc_auc_score(labels, logits))
    assert found["scenarios"]["never shown"]["rows"] == 0
    assert found["macro"]["auc"] == found["scenarios"]["feed"]["auc"], "scenarios without a value do not count"
    assert found["macro"]["logloss"] == pytest.approx(
        np.mean([found["scenarios"][s]["logloss"] for s in ("feed", "ads")])
    )
    json.dumps(found, allow_nan=False)


def test_summary_of_several_tasks_keeps_the_first_on_top():
    rng = np.random.default_rng(4)
    click, logits = ranked(rng, 200)
    labels_NT, logits_NT = np.stack([click, 1 - click], 1), np.stack([logits, logits], 1)
    users, scenarios = np.zeros(200, int), np.zeros(200, int)
    found = summarise(labels_NT, logits_NT, users, scenarios, ["feed"], ["click", "skip"])
    assert found["overall"] == found["tasks"]["click"]["overall"]
    assert found["tasks"]["skip"]["overall"]["auc"] == pytest.approx(1 - found["overall"]["auc"])
    with pytest.raises(MetricError, match="do not fit tasks"):
        summarise(labels_NT, logits_NT, users, scenarios, ["feed"], ["click"])


def test_a_scenario_without_a_name_is_an_error():
    with pytest.raises(MetricError, match=r"from 0 to 2, but 2 scenarios"):
        summarise(np.array([0, 1]), np.zeros(2), np.zeros(2, int), np.array([0, 2]), ["feed", "ads"])
