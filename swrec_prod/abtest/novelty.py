"""Novelty: lifts of single days, and whether the lift changes from day to day.

Daily lifts share their users, so that errors of independent points would promise too much of a line
through them. Here the slope of the difference over days is one figure, and what each unit adds to it is its residual on
every day (the linearisation of a ratio, Deng, Knoblich and Lu, KDD 2018): with w_d the weights of the least-squares
slope and R_d the metric of a variant on day d,

    slope = sum_d w_d R_d,    z_i = slope + sum_d w_d (n_id - R_d d_id) N / sum_i d_id

of N units has the slope as its mean and, over units, its variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import duckdb
import numpy as np
import tea_tasting
from tea_tasting.aggr import read_aggregates

from swrec_prod.abtest.cells import BY_DAY, aggregate, by_unit
from swrec_prod.abtest.columns import ExperimentFile
from swrec_prod.abtest.lifts import Pair, compare, difference_of, has_covariate, relative_of
from swrec_prod.abtest.measures import Metric
from swrec_prod.abtest.record import DayLift, Estimate, Trend

FEWEST_DAYS = 3  # of a trend


def day_lifts(
    con: duckdb.DuckDBPyConnection, file: ExperimentFile, metrics: tuple[Metric, ...], treatments: Sequence[str]
) -> list[DayLift]:
    """The lift of each day alone, where both variants have enough units on it."""
    found = []
    for day, variants in sorted(aggregate(con, BY_DAY, metrics).items()):
        for treatment in treatments:
            if file.control not in variants or treatment not in variants:
                continue
            pair = Pair(variants[file.control], variants[treatment])
            if min(pair.control.count(), pair.treatment.count()) >= file.min_units:
                found += [line for metric in metrics for line in _day_lift(file, metric, treatment, day, pair)]
    return found


def _day_lift(file: ExperimentFile, metric: Metric, treatment: str, day: str, pair: Pair) -> list[DayLift]:
    result = compare(metric, pair, file.level, cuped=has_covariate(metric, pair.control + pair.treatment))
    if result is None:
        return []
    counts = pair.control.count(), pair.treatment.count()
    return [DayLift(metric.spec.name, treatment, day, *counts, difference_of(result), relative_of(result))]


def trends(
    con: duckdb.DuckDBPyConnection, file: ExperimentFile, metrics: tuple[Metric, ...], days: Sequence[str]
) -> list[Trend]:
    """The slope of each metric's daily difference, uncorrected; none for fewer than three days."""
    if len(days) < FEWEST_DAYS:
        return []
    return [trend for metric in metrics for trend in _trends(con, file, metric, days)]


def _trends(con: duckdb.DuckDBPyConnection, file: ExperimentFile, metric: Metric, days: Sequence[str]) -> list[Trend]:
    of_variants = read_aggregates(
        con.sql(_contributions(metric, days)), "variant", has_count=True, mean_cols=["z"], var_cols=["z"], cov_cols=[]
    )
    test = tea_tasting.Mean("z", confidence_level=1 - file.level)
    found = []
    for treatment in sorted(str(variant) for variant in of_variants if variant != file.control):
        with np.errstate(all="ignore"):  # a variance of 0 becomes NaN
            result = test.analyze(of_variants, file.control, treatment)
        if np.isfinite(result.pvalue):
            found.append(Trend(metric.spec.name, treatment, _slope(result), result.pvalue, result.pvalue, "steady"))
    return found


def _slope(result: object) -> Estimate:
    return difference_of(result)


def slope_weights(days: Sequence[str]) -> list[float]:
    """The weights of a least-squares slope, a day, over days (ISO)."""
    t = np.array([date.fromisoformat(day).toordinal() for day in days], float)
    centred = t - t.mean()
    return list(map(float, centred / (centred @ centred)))


def _contributions(metric: Metric, days: Sequence[str]) -> str:
    """SQL of (variant, z), one row a unit; one that was away on a day adds nothing to it."""
    columns = [metric.numer, *([metric.denom] if metric.denom else [])]
    weights = ", ".join(f"('{day}', {weight!r})" for day, weight in zip(days, slope_weights(days), strict=True))
    return f"""
        WITH daily AS (SELECT slice, unit, variant, {metric.numer} AS n, {metric.denom or 1} AS d
                       FROM ({by_unit(BY_DAY, columns)})),
        weights(slice, w) AS (VALUES {weights}),
        ratios AS (SELECT slice, variant, sum(n) / sum(d) AS r, sum(d) AS total FROM daily GROUP BY ALL),
        slopes AS (SELECT variant, sum(w * r) AS slope FROM ratios JOIN weights USING (slice) GROUP BY ALL),
        sizes AS (SELECT variant, count(*) AS n_units FROM units GROUP BY ALL),
        residuals AS (SELECT unit, sum(w * (n - r * d) / total) AS residual FROM daily
                      JOIN ratios USING (slice, variant) JOIN weights USING (slice) GROUP BY unit)
        SELECT variant, slope + n_units * coalesce(residual, 0) AS z
        FROM units LEFT JOIN residuals USING (unit) JOIN sizes USING (variant) JOIN slopes USING (variant)"""
