"""A figure under many resamples of clusters: its percentile and BCa intervals, and differences of two such figures.

Percentile intervals of few clusters are too short, as the spread of K values is without K / (K - 1), and as a normal
quantile is in place of Student's. Their levels are therefore moved outwards (Hesterberg, The American Statistician
2015, sec. 4.3): by what the jackknife finds wider than the delta method does, which resamples agree with (it is what
MacKinnon, Nielsen & Webb, J. Econometrics 2023, advise for clusters of unequal size), and with Student's degrees of
freedom (statistics/seeds.py).
BCa (Efron, JASA 1987), moved likewise, is for who asks: in our simulations it covers no better than percentiles, and
worse where positives are few.

With several seeds the interval is that of rows, stretched about the value to the error of rows and seeds.

Shapes: B resamples, C clusters, R seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from swrec_prod.errors import MetricError
from swrec_prod.metrics.ranks import Interval
from swrec_prod.statistics.paired import Difference
from swrec_prod.statistics.reweighted import Influence
from swrec_prod.statistics.seeds import SeedSpread, error_and_freedom, rows_freedom

METHODS = ("percentile", "bca")


@dataclass(frozen=True, eq=False)
class Draws:
    """A figure of one model, a mean over its seeds, or a difference of two.

    value: on the rows as they are; draw_B: under each resample, NaN where it has no value; influence: see
    reweighted.py; seeds: of each model that takes part.
    """

    value: float
    draw_B: np.ndarray
    influence: Influence
    seeds: tuple[SeedSpread, ...] = ()

    @classmethod
    def mean(cls, seeds: Sequence[Draws]) -> Draws:
        """Over a model's seeds, whose draws are of the same resamples."""
        value_R, draw_RB = np.array([seed.value for seed in seeds]), np.stack([seed.draw_B for seed in seeds])
        explained = np.var(draw_RB - draw_RB.mean(0), axis=1, ddof=1).sum() / max(len(seeds) - 1, 1) / len(seeds)
        influence = Influence(
            *(np.mean(parts, axis=0) for parts in zip(*(seed.influence for seed in seeds), strict=True))
        )
        return cls(float(value_R.mean()), draw_RB.mean(0), influence, (SeedSpread.of(value_R, float(explained)),))

    def __sub__(self, other: Draws) -> Draws:
        """The difference, paired by resample."""
        influence = self.influence + other.influence.scaled(-1)
        return Draws(self.value - other.value, self.draw_B - other.draw_B, influence, (*self.seeds, *other.seeds))

    @property
    def rows_variance(self) -> float:
        """The jackknife's variance: what other clusters would change, which more clusters lessen."""
        clusters = len(self.influence.left_out_C)
        return float(np.sum(self.influence.left_out_C**2)) * (clusters - 1) / clusters

    @property
    def seeds_variance(self) -> float:
        """What other seeds would change."""
        return sum(side.unexplained for side in self.seeds)

    def interval(self, level: float = 0.95, method: str = "percentile") -> Interval:
        """method: one of METHODS; `error` is of rows and seeds. Raises MetricError for another method."""
        if method not in METHODS:
            raise MetricError(f"bootstrap intervals are {' or '.join(METHODS)}, not {method!r}")
        error, freedom = self._error()
        spread = float(np.sqrt(np.sum(self.influence.value_C**2)))
        if not error or not spread:
            return Interval(self.value, error, self.value, self.value)
        of_rows, rows_alone = float(np.sqrt(self.rows_variance)), rows_freedom(self.influence.left_out_C)
        reach = float(stdtrit(rows_alone, 0.5 + level / 2)) * of_rows
        stretch = float(stdtrit(freedom, 0.5 + level / 2)) * error / reach
        quantiles = np.array([-reach, reach]) / spread
        levels = ndtr(self._corrected(quantiles) if method == "bca" else quantiles)
        low, high = self.value + stretch * (np.quantile(self.draw_B[np.isfinite(self.draw_B)], levels) - self.value)
        return Interval(self.value, error, float(low), float(high))

    def difference(self, level: float = 0.95, method: str = "percentile") -> Difference:
        """The interval with a two-sided p, by Student's t: B resamples know none below 1 / B."""
        error, freedom = self._error()
        p = float(2 * stdtr(freedom, -abs(self.value) / error)) if error else float(self.value == 0)
        return Difference(*self.interval(level, method), p)

    def _error(self) -> tuple[float, float]:
        return error_and_freedom(self.rows_variance, rows_freedom(self.influence.left_out_C), self.seeds)

    def _corrected(self, quantiles: np.ndarray) -> np.ndarray:
        """Normal quantiles with BCa's bias and acceleration (Efron & Tibshirani 1993, eq. 14.10, 14.14-15)."""
        draw_B, left_out_C = self.draw_B[np.isfinite(self.draw_B)], self.influence.left_out_C
        below = (np.mean(draw_B < self.value) + np.mean(draw_B <= self.value)) / 2
        bias = ndtri(np.clip(below, 1 / (len(draw_B) + 1), len(draw_B) / (len(draw_B) + 1)))
        acceleration = np.sum(left_out_C**3) / (6 * np.sum(left_out_C**2) ** 1.5)
        return bias + (bias + quantiles) / np.maximum(1 - acceleration * (bias + quantiles), 1e-3)
