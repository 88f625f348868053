"""What the analysis promises: as many false alarms as the level says, also for those who look every day, intervals that
hold the truth where those of independent impressions do not, and the planned power. Longer: `make bench-judging`.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from benchmarks.judging import experiments
from swrec_prod.abtest.families import holm
from swrec_prod.abtest.sample_ratio import sample_ratio
from swrec_prod.abtest.sequential import best_x, p_value, width, x_of_looks

LEVELS = st.floats(0.001, 0.2)
X = st.floats(0.05, 200)


@pytest.mark.slow
def test_tests_without_a_difference_find_one_as_often_as_the_level_says() -> None:
    found = experiments.rejections(300, lift=0.0, users=500)
    assert 0.02 <= found.plain <= 0.08 and 0.02 <= found.cuped <= 0.08  # 0.05 and 2.4 standard errors of 300
    assert found.binomial > 0.15


@pytest.mark.slow
def test_intervals_hold_the_truth_though_impressions_of_a_user_are_alike() -> None:
    covered = experiments.coverage(300, users=500)
    assert covered.plain >= 0.92 and covered.cuped >= 0.92
    assert covered.binomial < 0.85


@pytest.mark.slow
def test_looking_every_day_finds_nothing_more() -> None:
    always, ordinary = experiments.peeked(60, users=500)
    assert always <= 0.05 < 0.1 < ordinary


@pytest.mark.slow
def test_cuped_leaves_one_less_the_squared_correlation() -> None:
    left, expected = experiments.variance_left()
    assert left == pytest.approx(expected, abs=0.02) and left < 0.7


@pytest.mark.slow
def test_as_many_lifts_are_found_as_were_planned() -> None:
    found, promised = experiments.power(100)
    assert found == pytest.approx(promised, abs=0.1)  # three standard errors


@given(x=X, level=LEVELS)
def test_the_p_value_is_the_level_whose_interval_ends_at_zero(x: float, level: float) -> None:
    assert p_value(width(x, level), x) == pytest.approx(level, rel=1e-9)
    assert width(x, level) > stats.norm.isf(level / 2)  # wider than for one look


@given(x=X, z=st.floats(-8, 8))
def test_the_p_value_is_one_over_the_mixture_of_likelihood_ratios(x: float, z: float) -> None:
    """Of a score s = z sqrt(v) with variance v = x, over effects from the standard normal."""

    def ratio(effect: float) -> float:
        return float(np.exp(effect * z * np.sqrt(x) - effect**2 * x / 2) * stats.norm.pdf(effect))

    peak = z * np.sqrt(x) / (1 + x)
    mixture, _ = integrate.quad(ratio, peak - 12 / np.sqrt(1 + x), peak + 12 / np.sqrt(1 + x))
    assert p_value(z, x) == pytest.approx(min(1 / mixture, 1), rel=1e-5)


@given(LEVELS)
def test_no_x_is_much_better_than_the_best(level: float) -> None:
    others = min(width(x, level) for x in np.geomspace(0.5, 200, 300))
    assert width(best_x(level), level) <= 1.001 * others


def test_later_looks_change_nothing_of_earlier_ones() -> None:
    errors = [0.5, 0.4, 0.3, 0.2]
    assert x_of_looks(errors[:2], 0.05, 14) == x_of_looks(errors, 0.05, 14)[:2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_largest_multiple_so_far(p_values: list[float]) -> None:
    order = np.argsort(p_values, kind="stable")
    wanted, largest = np.empty(len(p_values)), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        wanted[i] = largest
    assert holm(p_values) == pytest.approx(list(wanted), abs=1e-12)


def test_a_sample_ratio_is_held_to_the_planned_shares() -> None:
    found = sample_ratio({"a": 480, "b": 270, "c": 250}, {"a": 2, "b": 1, "c": 1})
    expected = sum((seen - plan) ** 2 / plan for seen, plan in ((480, 500), (270, 250), (250, 250)))
    assert found.p == pytest.approx(stats.chi2.sf(expected, 2)) and found.ok
    assert not sample_ratio({"a": 1_000}, {"a": 1, "b": 1}).ok
