"""What was known at the end of each day, and what may be said of it however often one has looked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb
from scipy import stats

from swrec_prod.abtest.cells import BY_SCENARIO, OVERALL, aggregate, through
from swrec_prod.abtest.columns import ExperimentFile
from swrec_prod.abtest.lifts import Pair, Spread, has_covariate, spread
from swrec_prod.abtest.measures import Metric
from swrec_prod.abtest.record import Always, Estimate, Look
from swrec_prod.abtest.sequential import p_value, width, x_of_looks

Compared = tuple[str, str, str | None]  # metric, treatment, scenario


@dataclass(frozen=True)
class Looked:
    """The looks of one comparison, in order of days; x: see sequential.x_of_looks."""

    days: list[str]
    spreads: list[Spread]
    x: list[float]


def all_looks(
    con: duckdb.DuckDBPyConnection,
    file: ExperimentFile,
    metrics: tuple[Metric, ...],
    treatments: Sequence[str],
    days: Sequence[str],
    say: Callable[[str], None],
) -> dict[Compared, Looked]:
    """Every comparison at the end of every day, from the first on that has enough units; none without days."""
    seen: dict[Compared, list[tuple[str, Spread]]] = {}
    for i, day in enumerate(days, 1):
        for part in (OVERALL, BY_SCENARIO):
            for name, variants in aggregate(con, through(part, day), metrics).items():
                scenario = None if part is OVERALL else name
                for treatment in treatments:
                    for metric in metrics:
                        found = _look(file, metric, variants.get(file.control), variants.get(treatment))
                        if found:
                            seen.setdefault((metric.spec.name, treatment, scenario), []).append((day, found))
        say(f"looked at the end of {day} ({i} of {len(days)})")
    return {key: _looked(found, file) for key, found in seen.items()}


def always(looked: Looked, level: float) -> Always:
    """What the last look says, with the smallest p-value of all of them."""
    last, x = looked.spreads[-1], looked.x[-1]
    p_values = _p_values(looked)
    since = next((day for day, p in zip(looked.days, p_values, strict=True) if p < level), None)
    return Always(_around(last, x, level), _relative_around(last, x, level), min(p_values), None, since)


def look_lines(key: Compared, looked: Looked, level: float) -> list[Look]:
    """The looks of a comparison as they are reported; p_always: the smallest so far."""
    once = float(stats.norm.isf(level / 2))
    lines, smallest = [], 1.0
    for day, found, x, p in zip(looked.days, looked.spreads, looked.x, _p_values(looked), strict=True):
        smallest = min(smallest, p)
        single = Estimate(
            found.difference, found.difference - once * found.error, found.difference + once * found.error
        )
        lines.append(Look(key[0], key[1], day, single, _around(found, x, level), smallest))
    return lines


def _look(file: ExperimentFile, metric: Metric, control: object, treatment: object) -> Spread | None:
    if control is None or treatment is None:
        return None
    pair = Pair(control, treatment)
    if min(pair.control.count(), pair.treatment.count()) < file.min_units:
        return None
    return spread(metric, pair, cuped=has_covariate(metric, pair.control + pair.treatment))


def _looked(found: list[tuple[str, Spread]], file: ExperimentFile) -> Looked:
    spreads = [look for _, look in found]
    x = x_of_looks([look.error for look in spreads], file.level, file.horizon_days)
    return Looked([day for day, _ in found], spreads, x)


def _p_values(looked: Looked) -> list[float]:
    return [p_value(look.difference / look.error, x) for look, x in zip(looked.spreads, looked.x, strict=True)]


def _around(found: Spread, x: float, level: float) -> Estimate:
    half = width(x, level) * found.error
    return Estimate(found.difference, found.difference - half, found.difference + half)


def _relative_around(found: Spread, x: float, level: float) -> Estimate | None:
    half = width(x, level) * found.log_error
    if not math.isfinite(half) or found.log_ratio + half > 700:
        return None
    low, value, high = (math.expm1(found.log_ratio + shift) for shift in (-half, 0.0, half))
    return Estimate(value, low, high)
