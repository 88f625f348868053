"""Estimates of another policy's value: against loops over the rows, and against worlds whose value is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from swrec_prod.errors import MetricError
from swrec_prod.statistics.off_policy import LoggedActions, OffPolicy

ITEMS = 8


def log_of(draw: np.random.Generator, rows: int, rate: float = 0.2) -> tuple[LoggedActions, float]:
    """A log of one of two kinds of users, and the true value of another policy than the one that wrote it."""
    logging_XI, target_XI = draw.dirichlet(np.ones(ITEMS), 2), draw.dirichlet(np.ones(ITEMS) / 2, 2)
    logging_XI = 0.5 * logging_XI + 0.5 / ITEMS
    rate_XI = rate * draw.uniform(0.2, 1.8, (2, ITEMS))
    guess_XI = rate_XI * draw.uniform(0.5, 1.5, (2, ITEMS))
    user_N = draw.integers(2, size=rows)
    item_N = np.array([draw.choice(ITEMS, p=logging_XI[user]) for user in user_N])
    at = user_N, item_N
    log = LoggedActions.of(
        draw.random(rows) < rate_XI[at],
        logging_XI[at],
        target_XI[at],
        predicted=guess_XI[at],
        expected=(guess_XI * target_XI).sum(1)[user_N],
    )
    return log, float((rate_XI * target_XI).sum(1).mean())


def test_estimates_are_the_papers_sums() -> None:
    draw = np.random.default_rng(3)
    log, _ = log_of(draw, 500)
    ips = clipped = ratio = dr = residual = weights = mean = 0.0
    columns = (log.reward_N, log.weight_N, log.predicted_N, log.expected_N)
    for r, w, m, e in zip(*columns, strict=True):
        ips, clipped, ratio, weights = ips + w * r, clipped + min(w, 1.5) * r, ratio + w * r, weights + w
        dr, residual, mean = dr + e + w * (r - m), residual + w * (r - m), mean + e
    found = {name: one.value for name, one in log.judged(clip=1.5).estimates.items()}
    wanted = {"ips": ips / 500, "clipped_ips": clipped / 500, "snips": ratio / weights}
    wanted |= {"dr": dr / 500, "sndr": mean / 500 + residual / weights}
    assert found == pytest.approx(wanted)


def test_the_logging_policy_is_worth_what_it_earned() -> None:
    reward = np.array([0.0, 1, 0, 1, 1, 0])
    p = np.array([0.5, 0.2, 0.3, 0.9, 0.5, 0.1])
    judged = LoggedActions.of(reward, p, p).judged()
    assert judged.estimates["ips"] == judged.estimates["snips"] == judged.logged
    assert (
        judged.weights.mean.value == 1 and judged.weights.effective_rows == 6 and judged.weights.effective_rewards == 3
    )
    assert judged.logged.error == pytest.approx(stats.sem(reward))


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr", "sndr"])
def test_errors_are_those_of_leaving_out_one_cluster(estimator: str) -> None:
    """The jackknife, which knows no derivative, agrees for many clusters."""
    log, _ = log_of(np.random.default_rng(5), 400)
    clusters = np.random.default_rng(6).integers(200, size=400)
    columns = [log.reward_N, np.full(400, 0.05), 0.05 * log.weight_N, log.predicted_N, log.expected_N]

    def value(at: np.ndarray) -> OffPolicy:
        reward, p, q, m, e = (column[at] for column in columns)  # type: ignore[index]
        return LoggedActions.of(reward, p, q, clusters[at], m, e).judged()

    every = np.unique(clusters)
    without = np.array([value(clusters != one).estimates[estimator].value for one in every])
    jackknife = np.sqrt((len(every) - 1) * without.var())
    assert value(np.ones(400, bool)).estimates[estimator].error == pytest.approx(jackknife, rel=0.05)


def test_intervals_hold_the_true_value() -> None:
    held: dict[str, int] = {}
    for seed in range(200):
        log, truth = log_of(np.random.default_rng(seed), 400)
        for name, one in log.judged().estimates.items():
            held[name] = held.get(name, 0) + (one.low <= truth <= one.high)
    assert set(held) == {"ips", "snips", "dr", "sndr"}
    for name, times in held.items():  # as often as a 95 % interval would in 999 of 1,000 such tests
        assert stats.binomtest(times, 200, 0.95).pvalue > 0.001, (name, times)


def test_rare_clicks_and_uneven_weights_are_covered_too() -> None:
    held = normal = 0
    rates = np.r_[np.full(15, 0.003), np.full(5, 0.006)]
    target = np.r_[np.full(15, 0.2 / 15), np.full(5, 0.8 / 5)]
    draw = np.random.default_rng(8)
    for _ in range(300):
        item = draw.integers(20, size=5000)
        log = LoggedActions.of(draw.random(5000) < rates[item], np.full(5000, 0.05), target[item])
        ips = log.judged().estimates["ips"]
        held += ips.low <= rates @ target <= ips.high
        normal += abs(ips.value - rates @ target) <= 1.96 * ips.error
    assert stats.binomtest(normal, 300, 0.95, "less").pvalue < 0.05
    assert stats.binomtest(held, 300, 0.95, "less").pvalue > 0.01


def test_clipping_loses_no_more_than_it_says() -> None:
    lost = mass = 0.0
    for seed in range(40):
        log, truth = log_of(np.random.default_rng(seed), 1000)
        judged = log.judged(clip=1.0)
        lost, mass = lost + truth - judged.estimates["clipped_ips"].value, mass + judged.weights.clipped_mass
        assert judged.weights.clipped_rows == (log.weight_N > 1).sum()
    assert 0.02 * 40 < lost < mass
    assert log.judged(clip=1e9).estimates["clipped_ips"] == log.judged().estimates["ips"]


def test_a_mean_weight_that_is_not_1_is_said() -> None:
    log, _ = log_of(np.random.default_rng(1), 2000)
    assert not log.judged().weights.is_off
    half = LoggedActions.of(log.reward_N, np.full(2000, 0.1), 0.05 * log.weight_N)
    assert half.judged().weights.is_off


def test_what_is_no_probability_is_counted() -> None:
    reward = np.array([0.0, 1, 1, 0])
    good = np.full(4, 0.5)
    with pytest.raises(MetricError, match="propensity: of 4 rows 2 0 or less and 1 above 1"):
        LoggedActions.of(reward, np.array([0, -0.1, 1.5, 0.5]), good)
    with pytest.raises(MetricError, match="target: of 4 rows 1 above 1"):
        LoggedActions.of(reward, good, np.array([0.5, 0, 1.01, 1]))
    with pytest.raises(MetricError, match="propensity: 1 of 4 rows have no finite number"):
        LoggedActions.of(reward, np.array([np.nan, 0.5, 0.5, 0.5]), good)
    with pytest.raises(MetricError, match="none of the 2 rows that the target would repeat has a reward"):
        LoggedActions.of(reward, good, np.array([1.0, 0, 0, 1]))
    with pytest.raises(MetricError, match="needs two clusters of rows, not 1"):
        LoggedActions.of(reward, good, good, np.zeros(4))
    with pytest.raises(MetricError, match="only one is given"):
        LoggedActions.of(reward, good, good, predicted=good)
    with pytest.raises(MetricError, match=r"target \(3,\) must be a column of 4"):
        LoggedActions.of(reward, good, good[:3])
    with pytest.raises(MetricError, match="clip is 0, expected a weight above 0"):
        LoggedActions.of(reward, good, good).judged(clip=0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1), st.floats(0, 1)), min_size=2, max_size=30))
def test_snips_lies_among_the_rewards(rows: list[tuple[float, float, float]]) -> None:
    reward, p, q = (np.array(column) for column in zip(*rows, strict=True))
    reward, q = np.append(reward, 1.0), np.append(q, 1.0)
    judged = LoggedActions.of(reward, np.append(p, 1.0), q).judged()
    assert reward.min() - 1e-9 <= judged.estimates["snips"].value <= reward.max() + 1e-9
    assert 1 - 1e-9 <= judged.weights.effective_rows <= len(reward) + 1e-9
