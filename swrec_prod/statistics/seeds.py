"""Figures of several training seeds: what they vary by, what that adds to an error, and what difference is invisible.

A mean over R seeds has the variance of its rows, and beside it what seeds vary *beyond* what their disagreeing on rows
explains, divided by R. One seed says nothing of others: its interval is of rows alone.

The added part is an estimate from few seeds, and the variance of rows one from few clusters, hence Student's t with the
degrees of freedom of Satterthwaite (Biometrics Bulletin 1946).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from swrec_prod.errors import MetricError

MANY = 1e9  # degrees of freedom at which Student's t is the normal


class SeedSpread(NamedTuple):
    """What the seeds of one model say of the variance of their mean. spread: as far as the seeds' figures vary;
    unexplained: the part of it that rows leave unexplained; freedom: degrees of freedom of both, 0 for one seed.
    """

    spread: float
    unexplained: float
    freedom: int

    @classmethod
    def of(cls, value_R: np.ndarray, explained: float) -> SeedSpread:
        """value_R: the figure of each seed; explained: how much of `spread` is due to seeds disagreeing on rows."""
        freedom = len(value_R) - 1
        spread = float(np.var(value_R, ddof=1)) / len(value_R) if freedom else 0.0
        return cls(spread, max(0.0, spread - explained) if freedom else 0.0, freedom)


class SeedSummary(NamedTuple):
    """A figure over seeds. mean; deviation: standard deviation over seeds, None for one; low, high: the interval of the
    mean as far as seeds vary, on the same rows; floor: see `noise_floor`.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    floor: float | None


def summary(values: Sequence[float] | np.ndarray, level: float = 0.95) -> SeedSummary:
    """Any figure of several seeds of one model on the same rows. values: [R].

    Raises MetricError without values.
    >>> round(summary([0.71, 0.72, 0.73]).floor, 4)
    0.0608
    """
    value_R = np.asarray(values, np.float64)
    if not value_R.size or not np.isfinite(value_R).all():
        raise MetricError(f"a summary of seeds needs one finite figure or more, not {value_R.tolist()}")
    mean = float(value_R.mean())
    if len(value_R) == 1:
        return SeedSummary(mean, None, None, None, None)
    deviation = float(value_R.std(ddof=1))
    reach = float(stdtrit(len(value_R) - 1, 0.5 + level / 2)) * deviation / np.sqrt(len(value_R))
    return SeedSummary(mean, deviation, mean - float(reach), mean + float(reach), noise_floor([value_R], level))


def noise_floor(models: Sequence[Sequence[float] | np.ndarray], level: float = 0.95) -> float | None:
    """How far two single runs differ by their seeds alone: of two runs of one model, `level` are closer than that.

    t sqrt(2) s, where s is the standard deviation over seeds, pooled over models, and t Student's quantile for its
    degrees of freedom. A difference of two single runs below it is invisible, whatever the number of rows.
    models: the figures of each model's seeds. None where no model has two seeds.
    """
    value_MR = [np.asarray(values, np.float64) for values in models]
    freedom = sum(len(value_R) - 1 for value_R in value_MR)
    if not freedom:
        return None
    squares = sum(float(np.sum((value_R - value_R.mean()) ** 2)) for value_R in value_MR)
    return float(stdtrit(freedom, 0.5 + level / 2) * np.sqrt(2 * squares / freedom))


def error_and_freedom(of_rows: float, freedom: float, seeds: Sequence[SeedSpread]) -> tuple[float, float]:
    """Standard error of a sum of independent models' means, and its degrees of freedom (Satterthwaite).

    of_rows: variance as far as other rows would change it, with its degrees of freedom; seeds: of each model.

    What seeds vary beyond what rows explain is as uncertain as the spread that it is a part of, 2 spread² / freedom,
    also where nothing of it is left. Spreads that rows explain can exceed the whole variance where models share their
    seeds; the freedom is never below that of a part.
    """
    variance = max(of_rows, 0.0) + sum(side.unexplained for side in seeds)
    parts = [(of_rows, freedom), *((side.spread, side.freedom) for side in seeds if side.freedom)]
    uncertain = sum(part**2 / own for part, own in parts)
    least = min(own for _, own in parts)
    return float(np.sqrt(variance)), min(max(variance**2 / uncertain, least), MANY) if uncertain else MANY


def rows_freedom(influence_K: np.ndarray) -> float:
    """Degrees of freedom of a variance that is estimated by a sum of squares, l_1² + ... + l_K².

    3 (sum l²)² / sum l⁴: Satterthwaite's, where each l is normal with a variance of its own. Many where clusters are
    alike, few where a few of them weigh most, or where there are few positives. Never below 1.
    """
    squares_K = influence_K**2
    fourth = float(squares_K @ squares_K)
    return max(1.0, min(3 * float(squares_K.sum()) ** 2 / fourth, MANY)) if fourth else MANY
