"""Bootstrap intervals against scipy's, against loops over drawn rows, and against truths that are known."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from benchmarks.judging import covered_worlds
from benchmarks.judging.coverage import covered
from benchmarks.judging.covered_worlds import WORLDS
from swrec_prod.errors import MetricError, SingleClassError
from swrec_prod.metrics.probabilities import logloss
from swrec_prod.metrics.ranks import auc
from swrec_prod.metrics.within_groups import gauc
from swrec_prod.statistics import bootstrap as module
from swrec_prod.statistics.bootstrap import FIGURES, bootstrap
from swrec_prod.statistics.draws import Draws
from swrec_prod.statistics.paired import auc_difference, auc_mean


def drawn(seed: int = 0, users: int = 200, rows: int = 8, models: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores [models, N] and users whose rows are alike."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), random.integers(2, 2 * rows, users))
    taste = random.normal(size=users)[user]
    labels = (random.random(len(user)) < 1 / (1 + np.exp(1 - taste))).astype(int)
    return labels, 0.5 * labels + taste + random.normal(size=(models, len(user))), user


def test_docstring_examples():
    assert doctest.testmod(module).failed == 0


def test_values_are_those_of_scikit_learn():
    labels, scores, user = drawn()
    found = {
        name: [draws.value for draws in column]
        for name, column in bootstrap(tuple(FIGURES), labels, scores, user, resamples=2, k=3).items()
    }
    chance = 1 / (1 + np.exp(-scores))
    assert found["auc"] == pytest.approx([roc_auc_score(labels, z) for z in scores], abs=1e-12)
    assert found["logloss"] == pytest.approx([log_loss(labels, p) for p in chance], abs=1e-12)
    assert found["calibration"] == pytest.approx(chance.mean(1) / labels.mean(), abs=1e-12)
    both = [at for u in np.unique(user) if 0 < labels[at := user == u].mean() < 1]
    of_users = [np.mean([ndcg_score([labels[at]], [z[at]], k=3) for at in both]) for z in scores]
    assert found["ndcg"] == pytest.approx(of_users, abs=1e-12)
    assert found["gauc"] == pytest.approx([gauc(labels, z, user).value for z in scores], abs=1e-12)


@pytest.mark.parametrize("figure", ["auc", "gauc", "logloss"])
def test_errors_and_percentiles_are_those_of_a_loop_over_drawn_users(figure):
    labels, scores, user = drawn(users=120, rows=5)
    of = {
        "auc": lambda at, z: auc(labels[at], z[at]),
        "gauc": lambda at, z: gauc(labels[at], z[at], user[at]).value,
        "logloss": lambda at, z: logloss(labels[at], z[at]),
    }[figure]
    random, rows_of = np.random.default_rng(1), [np.flatnonzero(user == u) for u in np.unique(user)]
    again = []
    for _ in range(1500):
        at = np.concatenate([rows_of[k] for k in random.integers(0, len(rows_of), len(rows_of))])
        again.append(of(at, scores[0]) - of(at, scores[1]))
    first, second = bootstrap([figure], labels, scores, user, resamples=3000)[figure]
    found = (first - second).difference()
    assert np.std((first - second).draw_B) == pytest.approx(np.std(again), rel=0.08)
    assert found.error == pytest.approx(np.std(again), rel=0.12)
    assert [found.low, found.high] == pytest.approx(np.quantile(again, [0.025, 0.975]), abs=0.25 * found.error)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_of_many_rows_are_scipys(method):
    """Of a skewed mean, where BCa and percentile lie apart; 400 clusters leave next to nothing to move outwards."""
    random = np.random.default_rng(2)
    labels, scores = np.tile([0, 1], 200), random.exponential(3, 400) * np.tile([1, -1], 200)
    loss = np.log1p(np.exp(scores * np.where(labels == 1, -1, 1)))
    wanted = scipy_bootstrap((loss,), np.mean, n_resamples=4000, method=method, rng=3).confidence_interval
    found = bootstrap(["logloss"], labels, scores, np.arange(400), resamples=4000)["logloss"][0].interval(method=method)
    assert [found.low, found.high] == pytest.approx([wanted.low, wanted.high], abs=0.06 * (wanted.high - wanted.low))


def test_ties_of_figures_and_threads_change_nothing():
    labels, scores, user = drawn()
    request = np.arange(len(user)) // 3
    one, other = (
        bootstrap(["auc", "gauc"], labels, scores, request, groups=user, resamples=50, threads=threads)
        for threads in (1, 3)
    )
    for figure in one:
        assert all((a.draw_B == b.draw_B).all() for a, b in zip(one[figure], other[figure], strict=True))
    alone = bootstrap(["gauc"], labels, scores[1], request, groups=user, resamples=50)["gauc"][0]
    assert (alone.draw_B == one["gauc"][1].draw_B).all(), "all models have the same resamples"
    assert (alone - alone).difference() == (0, 0, 0, 0, 1)


def test_a_users_rows_in_several_requests_may_be_drawn_apart():
    """GAUC of users whose rows lie in several clusters: each draw against gauc with the rows' weights."""
    labels, scores, user = drawn(users=40)
    request = np.arange(len(user)) // 3
    draws = bootstrap(["gauc"], labels, scores, request, groups=user, resamples=30)["gauc"][0]
    weights = module.cluster_weights(
        np.random.default_rng(np.random.SeedSequence(0).spawn(1)[0]), 30, request.max() + 1
    )
    wanted = [gauc(labels, scores[0], user, weight[request]).value for weight in weights.astype(float)]
    assert draws.draw_B == pytest.approx(wanted, abs=1e-12)


def test_weights_of_rows_count_as_rows_do():
    labels, scores, user = drawn(users=60)
    times = np.random.default_rng(3).integers(0, 3, len(labels))
    repeated = [np.repeat(column, times) for column in (labels, scores[0], user)]
    for figure in ("auc", "gauc", "logloss", "calibration"):
        one = bootstrap([figure], labels, scores[0], user, weights=times, resamples=200)[figure][0]
        other = bootstrap([figure], *repeated, resamples=200)[figure][0]
        assert one.value == pytest.approx(other.value, abs=1e-12)
        assert one.influence.left_out_C == pytest.approx(other.influence.left_out_C, abs=1e-12)


def test_a_mean_of_seeds_has_the_error_of_seeds_too():
    """AUC has a closed form for rows and seeds together."""
    labels, scores, user = drawn(models=6)
    scores = scores + labels * np.array([0, 0.6, 1.2, 0, 0.6, 1.2])[:, None]
    draws = bootstrap(["auc"], labels, scores, user)["auc"]
    one, other = Draws.mean(draws[:3]), Draws.mean(draws[3:])
    wanted = auc_mean(labels, scores[:3], user)
    assert one.interval()[:2] == pytest.approx(wanted[:2], rel=0.05)
    assert [*one.interval()[2:]] == pytest.approx(wanted[2:], abs=0.15 * (wanted.high - wanted.low))
    found, wanted = (one - other).difference(), auc_difference(labels, scores[:3], scores[3:], user)
    assert (found.value, found.error) == pytest.approx((wanted.value, wanted.error), rel=0.05, abs=1e-12)
    assert found.high - found.low == pytest.approx(wanted.high - wanted.low, rel=0.1)
    assert one.interval().error > 2 * draws[0].interval().error, "these seeds differ far more than rows explain"


@pytest.mark.slow
@pytest.mark.parametrize("world", ["few skewed users", "few positives"])
def test_intervals_cover_the_truth_where_data_are_few(world, monkeypatch):
    """The benchmark `coverage` counts over 2,000 logs; here are 120, in whose share 0.02 is a standard error."""
    monkeypatch.setattr(covered_worlds, "LARGE", 150_000)
    hits = covered(world, WORLDS[world].truths(), 0, 120, resamples=200)
    assert len(hits) == 8 and {name: n for name, n in hits.items() if not 0.89 <= n / 120 <= 1} == {}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": [1, 1, 1, 1]}, SingleClassError, "all 4 labels are 1"),
        ({"labels": [0, 1, 2, 0]}, MetricError, "0 or 1, not 2"),
        ({"scores": [1, 2, np.inf, 4]}, MetricError, "1 of 4 scores are not finite"),
        ({"clusters": [1, 2, 3]}, MetricError, r"clusters \(3,\) must be a column of 4 ids"),
        ({"clusters": [1, 1, 1, 1]}, MetricError, "two clusters that count, not 1"),
        ({"weights": [1, 1, -1, 1]}, MetricError, "weights"),
        ({"resamples": 1}, MetricError, "two resamples or more, not 1"),
        ({"figures": ["aucc"]}, MetricError, "aucc.*did you mean auc"),
        ({"figures": ["ndcg"], "groups": [1, 2, 2, 1]}, MetricError, "hold whole groups"),
        ({"figures": ["gauc"], "groups": [1, 2, 3, 4]}, SingleClassError, "none of 4 groups"),
    ],
)
def test_wrong_inputs_are_named(change, error, message):
    given = {"figures": ["auc"], "labels": [0, 1, 0, 1], "scores": [1, 2, 3, 4], "clusters": [1, 1, 2, 2], **change}
    columns = {name: value if name in ("figures", "resamples") else np.array(value) for name, value in given.items()}
    with pytest.raises(error, match=message):
        bootstrap(**columns)


def test_an_unknown_method_is_named():
    labels, scores, user = drawn(users=20)
    with pytest.raises(MetricError, match="percentile or bca, not 'student'"):
        bootstrap(["auc"], labels, scores, user, resamples=10)["auc"][0].interval(method="student")
