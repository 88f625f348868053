"""Paired differences of AUC against DeLong's definition over all pairs,
a bootstrap of users, and truths that are known.
"""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import t as student_t
from sklearn.metrics import roc_auc_score

from swrec_prod.errors import MetricError, SingleClassError
from swrec_prod.metrics.ranks import auc, auc_interval
from swrec_prod.statistics import paired
from swrec_prod.statistics.paired import auc_difference, auc_mean


@st.composite
def rows(draw: st.DrawFn, seeds: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels with two rows of each class at least, and two models' scores [seeds, N] with many ties."""
    n = draw(st.integers(4, 30))
    labels = draw(arrays.arrays(np.float32, n, elements=st.sampled_from([0.0, 1.0])))
    assume(2 <= labels.sum() <= n - 2)
    scores = arrays.arrays(np.float32, (seeds, n), elements=st.sampled_from([-9.0, -2.5, -0.1, 0.0, 0.1, 3.0]))
    return labels, draw(scores), draw(scores)


def drawn(seed: int, n: int = 3000, users: int = 150, seeds: int = 1) -> tuple[np.ndarray, ...]:
    """Labels and two models' scores whose quality depends on the user, users of unequal activity."""
    rng = np.random.default_rng(seed)
    user = (rng.random(n) ** 2 * users).astype(int)
    labels = (rng.random(n) < 1 / (1 + np.exp(1 - rng.normal(size=users)[user]))).astype(float)
    shared = labels + rng.normal(size=n)
    a, b = (shared + 0.5 * rng.normal(size=users)[user] + 0.3 * rng.normal(size=(seeds, n)) for _ in "ab")
    return labels, a, b, user


def components(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong et al. 1988, eq. 4-5: of positives and of negatives, over all pairs."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return wins.mean(1), wins.mean(0)


def test_docstring_examples():
    assert doctest.testmod(paired).failed == 0


@settings(deadline=None)
@given(rows())
def test_one_seed_has_delong_variance_of_all_pairs(given_rows):
    labels, a, b = given_rows
    positive, negative = (x - y for x, y in zip(components(labels, a[0]), components(labels, b[0]), strict=True))
    variance = positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative)
    found = auc_difference(labels, a, b)
    assert found.value == pytest.approx(roc_auc_score(labels, a[0]) - roc_auc_score(labels, b[0]), abs=1e-12)
    assert found.error**2 == pytest.approx(variance, abs=1e-12)
    assert found.low <= found.value <= found.high and 0 <= found.p <= 1


@settings(deadline=None)
@given(rows(seeds=3))
def test_seeds_disagreeing_on_rows_are_counted_once(given_rows):
    """Mean components, and the variance of AUCs only as far as the components leave it unexplained."""
    labels, a, b = given_rows
    sides = [[components(labels, seed) for seed in side] for side in (a, b)]

    def spread(positive: np.ndarray, negative: np.ndarray) -> float:
        return positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative)

    means = [[np.mean([seed[c] for seed in side], axis=0) for c in (0, 1)] for side in sides]
    variance = spread(means[0][0] - means[1][0], means[0][1] - means[1][1])
    for side, mean in zip(sides, means, strict=True):
        explained = sum(spread(seed[0] - mean[0], seed[1] - mean[1]) for seed in side) / 2
        variance += max(0, np.var([seed[0].mean() for seed in side], ddof=1) - explained) / 3
    found = auc_difference(labels, a, b)
    aucs = [np.mean([roc_auc_score(labels, seed) for seed in side]) for side in (a, b)]
    assert found.value == pytest.approx(aucs[0] - aucs[1], abs=1e-12)
    assert found.error**2 == pytest.approx(variance, abs=1e-12)


@settings(deadline=None)
@given(rows(seeds=2), st.booleans(), st.data())
def test_exchanging_models_changes_the_sign_and_nothing_else(given_rows, clustered, data):
    labels, a, b = given_rows
    users = (
        data.draw(arrays.arrays(np.int64, len(labels), elements=st.integers(-3, 9)))
        if clustered
        else np.arange(len(labels))
    )
    assume(min(len(set(users[labels == label])) for label in (0, 1)) >= 2)
    there, back = auc_difference(labels, a, b, users), auc_difference(labels, b, a, users)
    assert there == pytest.approx((-back.value, back.error, -back.high, -back.low, back.p), abs=1e-12)
    same = auc_difference(labels, a, 2 * a + 1, users)
    assert (same.value, same.p) == (0, 1)


@settings(deadline=None)
@given(rows(seeds=2), st.randoms())
def test_one_row_a_user_is_no_cluster_and_order_does_not_matter(given_rows, random):
    labels, a, b = given_rows
    order = np.array(random.sample(range(len(labels)), len(labels)))
    plain = auc_difference(labels, a, b)
    users = np.array([f"user {i}" for i in range(len(labels))])
    found = auc_difference(labels[order], a[:, order], b[:, order], users[order])
    assert found.value == pytest.approx(plain.value, abs=1e-12)
    assert found.error**2 == pytest.approx(plain.error**2, abs=1e-12)
    if plain.error > 1e-3:  # less than any two rows can differ by is rounding
        assert found == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("seeds", [1, 3])
def test_clustered_error_is_that_of_a_bootstrap_of_users(seeds):
    labels, a, b, user = drawn(5, seeds=seeds)
    rng = np.random.default_rng(0)
    by_user = [np.flatnonzero(user == u) for u in np.unique(user)]
    again = []
    for _ in range(400):
        taken = np.concatenate([by_user[k] for k in rng.integers(0, len(by_user), len(by_user))])
        again.append(
            sum(auc(labels[taken], x[taken]) - auc(labels[taken], y[taken]) for x, y in zip(a, b, strict=True))
        )
    rows_alone, clustered = auc_difference(labels, a, b), auc_difference(labels, a, b, user)
    assert clustered.error == pytest.approx(np.std(again) / seeds, rel=0.12)
    assert clustered.error > 1.5 * rows_alone.error, "users' rows are alike here, so that rows alone promise too much"


@settings(max_examples=30, deadline=None)
@given(rows())
def test_one_seed_has_the_error_of_metrics(given_rows):
    labels, a, _ = given_rows
    assert auc_mean(labels, a)[:2] == pytest.approx(auc_interval(labels, a[0])[:2], abs=1e-7)


def test_one_seed_has_the_interval_of_metrics_where_rows_are_many():
    """With few, the degrees of freedom are estimated in two ways."""
    labels, a, _, _ = drawn(7)
    assert auc_mean(labels, a) == pytest.approx(auc_interval(labels, a[0]), abs=1e-5)


def test_few_users_widen_an_interval_beyond_the_normal():
    labels, a, b, user = drawn(8)
    few = user < 4
    many, some = auc_difference(labels, a, b, user), auc_difference(labels[few], a[:, few], b[:, few], user[few])
    quantiles = [(found.high - found.value) / found.error for found in (many, some)]
    assert 1.97 < quantiles[0] < 2.2 < quantiles[1]


def test_soft_labels_are_a_row_of_each_class_with_its_weight():
    rng = np.random.default_rng(2)
    chance, a, b = rng.random(500), rng.normal(size=(2, 500)), rng.normal(size=(2, 500))
    a[:, :250] += chance[:250]
    twice, weights = np.repeat([1, 0], 500), np.concatenate((chance, 1 - chance))
    expected = [np.mean([auc(twice, np.tile(seed, 2), weights) for seed in side]) for side in (a, b)]
    assert auc_mean(chance, a).value == pytest.approx(expected[0], abs=1e-12)
    assert auc_difference(chance, a, b).value == pytest.approx(expected[0] - expected[1], abs=1e-12)
    draws = [auc_difference((rng.random(500) < chance).astype(float), a, b).error for _ in range(20)]
    assert auc_difference(chance, a, b).error < np.mean(draws), "a probability says more than a draw of it"


def test_seeds_of_unequal_quality_widen_the_interval_and_a_mean_of_them_is_covered():
    rng = np.random.default_rng(3)
    covered, widths = 0, []
    for _ in range(200):
        labels = (rng.random(800) < 0.3).astype(float)
        a, b = (labels * (1 + 0.3 * rng.normal(size=(4, 1))) + rng.normal(size=(4, 800)) for _ in "ab")
        found = auc_difference(labels, a, b)
        covered += found.low <= 0 <= found.high
        widths.append(found.error / auc_difference(labels, a[0], b[0]).error)
    assert 0.91 < covered / 200 <= 1
    assert np.median(widths) > 1, "four seeds here know less than the rows of one seed claim"


def test_two_seeds_cover_the_truth_though_they_may_agree_by_chance():
    """Two AUCs that lie close together leave no excess, which is then not known to be none."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        labels = (rng.random(500) < 0.3).astype(float)
        shared = 0.6 * labels + 0.7 * rng.normal(size=500)
        a, b = (shared + labels * (0.5 + 0.2 * rng.normal(size=(2, 1))) + rng.normal(size=(2, 500)) for _ in "ab")
        found = auc_difference(labels, a, b)
        covered += found.low <= 0 <= found.high
    assert 0.93 < covered / 1000 < 0.98


def test_the_interval_is_never_wider_than_that_of_the_side_with_fewest_seeds():
    """Seeds that two models share vary far more than their difference does."""
    labels, a, _, _ = drawn(6, n=500, seeds=2)
    a = a + np.random.default_rng(0).normal(size=(2, 500))
    found = auc_difference(labels, a, a + 0.05 * np.random.default_rng(1).normal(size=(2, 500)))
    assert (found.high - found.low) / 2 == pytest.approx(student_t.ppf(0.975, df=1) * found.error)


def test_two_scores_of_one_model_are_paired_by_seed():
    labels, a, _, user = drawn(4, seeds=3)
    better = a + 0.05 * labels
    better[0] += np.random.default_rng(1).normal(size=3000)
    one_by_one = [auc_difference(labels, x, y, user) for x, y in zip(better, a, strict=True)]
    paired, unpaired = (auc_difference(labels, better, a, user, same_seeds=same) for same in (True, False))
    assert paired.value == pytest.approx(np.mean([found.value for found in one_by_one]), abs=1e-12)
    assert paired.value == pytest.approx(unpaired.value, abs=1e-12)
    assert auc_difference(labels, a, a + 1, user, same_seeds=True) == (0, 0, 0, 0, 1)
    one = auc_difference(labels, better[1], a[1], user, same_seeds=True)
    assert one == pytest.approx(one_by_one[1], abs=1e-12), (
        "one seed is paired by rows, and there is nothing else to pair"
    )
    with pytest.raises(MetricError, match="not 3 and 2"):
        auc_difference(labels, better, a[:2], user, same_seeds=True)


def test_a_clear_difference_has_a_small_p():
    labels, a, b, user = drawn(9)
    found = auc_difference(labels, a + labels, b, user)
    assert found.low > 0 and found.p < 1e-6
    perfect = auc_difference(np.array([0, 0, 1, 1]), np.arange(4), -np.arange(4))
    assert perfect == (1, 0, 1, 1, 0)


@pytest.mark.parametrize(
    ("labels", "a", "users", "error", "message"),
    [
        ([1, 1, 1], [1, 2, 3], None, SingleClassError, "all 3 labels are 1"),
        ([0, 0, 0], [1, 2, 3], None, SingleClassError, "all 3 labels are 0"),
        ([], [], None, SingleClassError, "no rows"),
        ([0, 1, 1], [1, 2, 3], None, MetricError, "two rows of each class, not 2 positive and 1 negative"),
        ([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 3, 3], MetricError, "two clusters with rows of each class, not 1"),
        ([0, 2, 1, 0], [1, 2, 3, 4], None, MetricError, "from 0 to 1"),
        ([0, 1, 1, 0], [1, 2, 3], None, MetricError, r"\(1, 3\) must be \[4\]"),
        ([0, 1, 1, 0], [1, 2, 3, np.nan], None, MetricError, "1 of 4 scores are not finite"),
        ([0, 1, 1, 0], [1, 2, 3, 4], [1], MetricError, "column of 4 ids"),
    ],
)
def test_wrong_inputs_are_named(labels, a, users, error, message):
    users = None if users is None else np.array(users)
    with pytest.raises(error, match=message):
        auc_difference(np.array(labels), np.array(a), np.array(a), users)
    with pytest.raises(error, match=message):
        auc_mean(np.array(labels), np.array(a), users)
