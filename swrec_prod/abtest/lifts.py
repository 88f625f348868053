"""One metric of one treatment against control, from the aggregates of both."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import stats
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics.mean import MeanResult

from swrec_prod.abtest.columns import ExperimentFile
from swrec_prod.abtest.measures import Metric
from swrec_prod.abtest.record import Estimate, Guardrail, Lift


class Pair(NamedTuple):
    """Figures of the units of control and of a treatment."""

    control: Aggregates
    treatment: Aggregates


class Spread(NamedTuple):
    """A difference with its standard error, and the log of the ratio with its own; NaN where there is no ratio."""

    difference: float
    error: float
    log_ratio: float
    log_error: float


def lift(file: ExperimentFile, metric: Metric, treatment: str, scenario: str | None, pair: Pair | None) -> Lift:
    """The lift, uncorrected; `reason` says why there is none. pair: None where a variant was not seen."""
    counts = (pair.control.count(), pair.treatment.count()) if pair else (0, 0)
    empty = Lift(metric.spec.name, treatment, scenario, *counts)
    if pair is None or min(counts) < file.min_units:
        return replace(empty, reason=f"fewer than {file.min_units} units in a variant")
    cuped = has_covariate(metric, pair.control + pair.treatment)
    result = compare(metric, pair, file.level, cuped=cuped)
    if result is None:
        return replace(empty, reason=f"{metric.spec.value} does not vary")
    return replace(
        empty,
        control=float(result.control),
        treatment_value=float(result.treatment),
        difference=difference_of(result),
        relative=relative_of(result),
        p=result.pvalue,
        variance_left=_variance_left(metric, pair) if cuped else None,
        unadjusted=_unadjusted(metric, pair, file.level) if cuped else None,
        guardrail=_guardrail(metric, pair, file.level, cuped),
    )


def compare(metric: Metric, pair: Pair, level: float, *, cuped: bool, normal: bool = False) -> MeanResult | None:
    """tea-tasting's result; None where nothing varies, or where control's value is too close to 0 for a ratio."""
    try:
        with np.errstate(all="ignore"):  # a variance or a value of 0 becomes NaN
            result = metric.test(level, cuped=cuped, normal=normal).analyze_aggregates(*pair)
    except OverflowError:  # the exponential of the interval of a ratio
        return None
    return result if math.isfinite(result.pvalue) else None


def has_covariate(metric: Metric, total: Aggregates) -> bool:
    """Whether there is a covariate that varies, without which CUPED has nothing to do."""
    if metric.covariate is None:
        return False
    covariates = metric.covariate, metric.covariate_per
    return total.with_zero_div().ratio_var(*covariates) > 0


def difference_of(result: MeanResult) -> Estimate:
    """The difference in the metric's unit."""
    return Estimate(float(result.effect_size), float(result.effect_size_ci_lower), float(result.effect_size_ci_upper))


def relative_of(result: MeanResult) -> Estimate | None:
    """The difference as a fraction of control's value; None where that is 0 or has no interval."""
    ends = (result.rel_effect_size, result.rel_effect_size_ci_lower, result.rel_effect_size_ci_upper)
    return Estimate(*map(float, ends)) if all(map(math.isfinite, ends)) else None


def spread(metric: Metric, pair: Pair, *, cuped: bool) -> Spread | None:
    """Estimates with their standard errors, read off normal intervals; None where nothing varies."""
    level = 0.05
    result = compare(metric, pair, level, cuped=cuped, normal=True)
    if result is None:
        return None
    q = float(stats.norm.isf(level / 2))
    difference, relative = difference_of(result), relative_of(result)
    error = (difference.high - difference.low) / 2 / q  # type: ignore[operator]
    if relative is None or relative.value <= -1:
        return Spread(difference.value, error, math.nan, math.nan)
    ratio = math.log1p(relative.value)
    return Spread(difference.value, error, ratio, (math.log1p(relative.high) - ratio) / q)  # type: ignore[arg-type]


def _variance_left(metric: Metric, pair: Pair) -> float | None:
    after, before = spread(metric, pair, cuped=True), spread(metric, pair, cuped=False)
    return (after.error / before.error) ** 2 if after and before else None


def _unadjusted(metric: Metric, pair: Pair, level: float) -> Estimate | None:
    result = compare(metric, pair, level, cuped=False)
    return relative_of(result) if result else None


def _guardrail(metric: Metric, pair: Pair, level: float, cuped: bool) -> Guardrail | None:
    """Non-inferiority by the end of a one-sided interval; broken where even its good end is beyond the margin."""
    margin = metric.spec.margin
    if margin is None:
        return None
    with np.errstate(all="ignore"):
        above = metric.test(level, "greater", cuped=cuped).analyze_aggregates(*pair).rel_effect_size_ci_lower
        below = metric.test(level, "less", cuped=cuped).analyze_aggregates(*pair).rel_effect_size_ci_upper
    worst, best = (above, below) if metric.higher else (-below, -above)
    if not math.isfinite(worst):
        return None
    verdict = "holds" if worst > -margin else "broken" if best < -margin else "not proven"
    return Guardrail(margin, float(worst if metric.higher else -worst), verdict)  # type: ignore[arg-type]
