"""How much data a difference takes, against simulated experiments; and what seeds of one model vary by."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp
from scipy.stats import t as student_t

from swrec_prod.errors import MetricError
from swrec_prod.metrics.ranks import auc
from swrec_prod.statistics import power, seeds
from swrec_prod.statistics.paired import ClusteredRows
from swrec_prod.statistics.power import (
    Variances,
    clusters_needed,
    planned_auc_error,
    planned_difference_error,
    smallest_difference,
    times_the_data,
)
from swrec_prod.statistics.seeds import SeedSpread, error_and_freedom, noise_floor, rows_freedom, summary


@pytest.mark.parametrize("module", [power, seeds])
def test_docstring_examples(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("chance", [0.8, 0.95])
def test_the_needed_users_see_the_difference_as_often_as_is_said(chance):
    """Means of users' differences, of which 100 were seen: their error says how many it takes."""
    random = np.random.default_rng(0)
    needed = clusters_needed(0.25, Variances(1 / 100), 100, power=chance)
    assert needed is not None
    samples = 0.25 + random.normal(size=(4000, needed))
    assert np.mean(ttest_1samp(samples, 0, axis=1).pvalue < 0.05) == pytest.approx(chance, abs=0.02)


def test_the_smallest_difference_is_the_one_that_takes_the_data_there_is():
    variances = Variances(0.002**2, 0.001**2)
    smallest = smallest_difference(variances, level=0.9, power=0.7)
    error = np.hypot(0.002, 0.001)
    assert norm.sf(norm.ppf(0.95) - smallest / error) == pytest.approx(0.7)
    assert times_the_data(smallest, variances, level=0.9, power=0.7) == pytest.approx(1)
    assert clusters_needed(-smallest, variances, 500, level=0.9, power=0.7) == 500, "in either direction"


def test_seeds_are_a_floor_that_users_do_not_lower():
    assert times_the_data(0.001, Variances(1e-8, 1e-6)) is None
    assert clusters_needed(0.001, Variances(1e-8, 1e-6), 100) is None
    assert clusters_needed(0.01, Variances(1e-5, 1e-6), 100) > clusters_needed(0.01, Variances(1e-5), 100)


def test_four_times_the_users_halve_the_error_of_an_auc():
    random = np.random.default_rng(1)
    labels, user = (random.random(800) < 0.3).astype(float), np.repeat(np.arange(80), 10)
    scores = labels + random.normal(size=(2, 800))
    once, often = ClusteredRows.of(labels, user), ClusteredRows.of(np.tile(labels, 4), np.arange(3200) // 10)
    one = once.variances([once.seeds(scores[0]), -once.seeds(scores[1])])
    four = often.variances([often.seeds(np.tile(scores[0], 4)), -often.seeds(np.tile(scores[1], 4))])
    assert one[0] / four[0] == pytest.approx(4, rel=0.05) and one[1] == four[1] == 0


def test_planned_error_of_an_auc_is_what_exponential_scores_have():
    """Hanley & McNeil's formula is exact for them: AUC = rate / (1 + rate)."""
    random = np.random.default_rng(2)
    labels = np.repeat([1, 0], [30, 300])
    drawn = random.exponential(size=(3000, 330)) * np.where(labels == 1, 3.0, 1.0)
    found = np.std([auc(labels, scores) for scores in drawn])
    assert planned_auc_error(0.75, 30, 300) == pytest.approx(found, rel=0.05)
    assert planned_auc_error(0.75, 30, 300, design_effect=4) == 2 * planned_auc_error(0.75, 30, 300)


def test_planned_error_of_a_difference_follows_from_the_correlation():
    random = np.random.default_rng(3)
    a, b = random.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 40_000).T
    assert planned_difference_error(1.0, 0.9) == pytest.approx(np.std(a - b), rel=0.02)


def test_two_seeds_lie_within_the_noise_floor_in_19_of_20_cases():
    random = np.random.default_rng(4)
    close = 0
    for _ in range(3000):
        floor = noise_floor(random.normal(size=(2, 3)))
        assert floor is not None
        close += abs(np.subtract(*random.normal(size=2))) < floor
    assert close / 3000 == pytest.approx(0.95, abs=0.012)
    assert noise_floor([[0.7], [0.8]]) is None


def test_a_summary_of_seeds_is_students_interval_of_their_mean():
    values = [0.71, 0.74, 0.72, 0.75]
    found = summary(values, level=0.9)
    low, high = student_t.interval(0.9, 3, np.mean(values), np.std(values, ddof=1) / 2)
    assert (found.mean, found.deviation) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert summary([0.7]) == (0.7, None, None, None, None)


def test_degrees_of_freedom_are_those_of_welch():
    spreads = [SeedSpread.of(np.array(values), 0.0) for values in ([1.0, 2.0, 4.0], [3.0, 3.5])]
    error, freedom = error_and_freedom(0.0, 1.0, spreads)
    variances = np.var([1, 2, 4], ddof=1) / 3, np.var([3, 3.5], ddof=1) / 2
    assert error == pytest.approx(np.sqrt(sum(variances)))
    assert freedom == pytest.approx(sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2))


def test_a_sum_of_normal_squares_has_the_freedom_of_its_clusters():
    random = np.random.default_rng(5)
    assert np.median([rows_freedom(random.normal(size=200)) for _ in range(200)]) == pytest.approx(200, rel=0.05)
    assert rows_freedom(np.array([9.0, *[0.01] * 50])) == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: times_the_data(0, Variances(1)), "difference to be seen is 0"),
        (lambda: smallest_difference(Variances(1), power=1), "power 1 are probabilities"),
        (lambda: planned_auc_error(1, 30, 30), "AUC 1 with 30 positive"),
        (lambda: planned_difference_error(0.01, 1), "correlation of two AUCs is 1"),
        (lambda: summary([]), "one finite figure or more"),
    ],
)
def test_wrong_inputs_are_named(call, message):
    with pytest.raises(MetricError, match=message):
        call()
