"""Whether the analysis of experiments keeps its word, on simulated experiments whose truth is known.

aa_false_positive          A/A tests that find a difference at a level of 5 %; *_cuped: with CUPED
aa_false_positive_always   those whose sequential interval leaves out 0 at the end of any of 14 days
aa_peeking                 for comparison: those whose ordinary interval does
ratio_coverage             95 % intervals of a lift of 10 % that hold the truth; *_cuped; *_binomial: of a test that
                           takes impressions as independent, which must fail
cuped_variance             what CUPED leaves of the variance, against 1 - correlation^2
ab_power                   lifts found, against the share that the plan's power analysis had promised
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats
from tea_tasting.aggr import Aggregates

from benchmarks.judging.experiment_world import CTR, CUPED, PLAIN, Traffic, simulate
from benchmarks.record import Figure
from swrec_prod.abtest.lifts import Pair, compare, spread
from swrec_prod.abtest.measures import EXPOSURES, Metric
from swrec_prod.abtest.sequential import p_value, x_of_looks

LEVEL, DAYS, USERS, LIFT = 0.05, 14, 2_000, 0.10
REPETITIONS, QUICK_REPETITIONS = 1_000, 100
SEED = 14
PROMISED = 0.8  # power that is planned for


@dataclass(frozen=True)
class Shares:
    """Of all repetitions, those in which something happened."""

    plain: float
    cuped: float
    binomial: float


def figures(quick: bool = False) -> Iterator[Figure]:
    """The part's figures: about a minute, --quick in a tenth of it."""
    repetitions = QUICK_REPETITIONS if quick else REPETITIONS
    nothing = rejections(repetitions, lift=0.0)
    always, peeking = peeked(repetitions)
    covered = coverage(repetitions)
    left, expected = variance_left()
    found, promised = power(repetitions)
    context = {"repetitions": repetitions, "users": USERS, "days": DAYS}
    for name, value, reference, aim, wanted in (
        ("aa_false_positive", nothing.plain, "level", LEVEL, "<= 0.06"),
        ("aa_false_positive_cuped", nothing.cuped, "level", LEVEL, "<= 0.06"),
        ("aa_false_positive_always", always, "level, 14 looks", LEVEL, "<= 0.05"),
        ("aa_peeking", peeking, "level, 14 looks at ordinary intervals", LEVEL, ""),
        ("ratio_coverage", covered.plain, "promised", 1 - LEVEL, ">= 0.936"),
        ("ratio_coverage_cuped", covered.cuped, "promised", 1 - LEVEL, ">= 0.936"),
        ("ratio_coverage_binomial", covered.binomial, "promised; impressions as units", 1 - LEVEL, "<= 0.936"),
        ("cuped_variance", left, "1 - correlation^2", expected, ""),
        ("ab_power", found, "planned", promised, ""),
    ):
        bound = "" if quick else wanted  # a hundred repetitions are too few to hold it to
        yield Figure(name, value, "share", reference, aim, bound, "value", context)


def rejections(repetitions: int, lift: float, users: int = USERS) -> Shares:
    """Experiments with p below the level: as they are, with CUPED, and with impressions as units."""
    return _share(
        [test.pvalue < LEVEL for test in (_test(PLAIN, pair), _test(CUPED, pair), _binomial(pair))]
        for pair in _pairs(repetitions, lift, users)
    )


def coverage(repetitions: int, users: int = USERS) -> Shares:
    """Experiments whose interval of the difference holds it."""
    truth = CTR * LIFT
    return _share(
        [
            test.effect_size_ci_lower <= truth <= test.effect_size_ci_upper
            for test in (_test(PLAIN, pair), _test(CUPED, pair), _binomial(pair))
        ]
        for pair in _pairs(repetitions, LIFT, users)
    )


def peeked(repetitions: int, users: int = USERS) -> tuple[float, float]:
    """A/A tests that are significant at the end of any day: by sequential intervals, by ordinary ones."""
    rng = np.random.default_rng(SEED)
    found = [_any_day(simulate(rng, users, DAYS)) for _ in range(repetitions)]
    always, ordinary = np.mean(found, axis=0)
    return float(always), float(ordinary)


def variance_left(users: int = 20_000) -> tuple[float, float]:
    """What CUPED leaves of the variance of a lift, and 1 - correlation^2 of the users' linearised ratios."""
    traffic = simulate(np.random.default_rng(SEED), users, DAYS)
    pair = traffic.pair(DAYS)
    after, before = (spread(CUPED, pair, cuped=cuped) for cuped in (True, False))
    assert after and before, "users click"
    seen = traffic.shown_UD.sum(1) > 0
    now = _residuals(traffic.clicks_UD.sum(1)[seen], traffic.shown_UD.sum(1)[seen])
    earlier = _residuals(traffic.clicks_before_U[seen], traffic.shown_before_U[seen])
    return (after.error / before.error) ** 2, 1 - float(np.corrcoef(now, earlier)[0, 1]) ** 2


def power(repetitions: int) -> tuple[float, float]:
    """Lifts found with as many users as power analysis asks for, and the power that it promised."""
    past = simulate(np.random.default_rng(SEED + 1), 20_000, DAYS).pair(DAYS)
    test = PLAIN.test(LEVEL)
    test.power, test.rel_effect_size = PROMISED, LIFT
    users = test.solve_power_from_aggregates(past.control + past.treatment, "n_obs")[0].n_obs
    return rejections(repetitions, LIFT, int(users)).plain, PROMISED


def _any_day(traffic: Traffic) -> tuple[bool, bool]:
    looks = [spread(CUPED, traffic.pair(day), cuped=True) for day in range(1, DAYS + 1)]
    found = [look for look in looks if look]
    scores = [look.difference / look.error for look in found]
    x = x_of_looks([look.error for look in found], LEVEL, DAYS)
    always = any(p_value(z, at) < LEVEL for z, at in zip(scores, x, strict=True))
    return always, any(2 * stats.norm.sf(abs(z)) < LEVEL for z in scores)


def _pairs(repetitions: int, lift: float, users: int) -> Iterator[Pair]:
    rng = np.random.default_rng(SEED)
    return (simulate(rng, users, DAYS, lift).pair(DAYS) for _ in range(repetitions))


def _test(metric: Metric, pair: Pair):
    result = compare(metric, pair, LEVEL, cuped=metric is CUPED)
    assert result, "users click"
    return result


def _binomial(pair: Pair):
    """The test of two proportions with every impression as a unit."""
    clicked = Pair(*(_as_impressions(side) for side in pair))
    result = compare(Metric(PLAIN.spec, "m0"), clicked, LEVEL, cuped=False)
    assert result, "users click"
    return result


def _as_impressions(side: Aggregates) -> Aggregates:
    rate = side.mean("m0") / side.mean(EXPOSURES)
    return Aggregates(round(side.count() * side.mean(EXPOSURES)), {"m0": rate}, {"m0": rate * (1 - rate)}, {})


def _residuals(numer: np.ndarray, denom: np.ndarray) -> np.ndarray:
    return numer - denom * numer.sum() / denom.sum()


def _share(happened: Iterator[list[bool]]) -> Shares:
    return Shares(*map(float, np.mean(list(happened), axis=0)))
