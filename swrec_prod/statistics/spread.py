"""How uncertain a figure is, and what that makes of a weighted mean over clusters.

Shapes: K clusters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from swrec_prod.statistics.paired import as_many_alike
from swrec_prod.statistics.seeds import rows_freedom


class Spread(NamedTuple):
    """The standard error of a figure, and the degrees of freedom of that."""

    error: float
    freedom: float

    def quantile(self, level: float = 0.95) -> float:
        """How many standard errors an interval reaches to either side."""
        return float(stdtrit(self.freedom, 0.5 + level / 2))

    def p(self, value: float) -> float:
        """Two-sided, of a figure that would be 0."""
        return float(2 * stdtr(self.freedom, -abs(value) / self.error)) if self.error else float(value == 0)


def mean_and_spread(total_K: np.ndarray, weight_K: np.ndarray) -> tuple[float, Spread]:
    """sum total / sum weight, a ratio of sums over clusters, by the delta method (Deng et al., KDD 2018).

    total_K: the values in a cluster times their weights; weight_K: these. The factor that a variance of few clusters is
    too small by, and its freedom, are those of statistics/paired.py. There are two clusters or more of weight above 0.
    """
    value = float(total_K.sum() / weight_K.sum())
    influence_K, alike = (total_K - value * weight_K) / weight_K.sum(), as_many_alike(weight_K)
    variance = float(influence_K @ influence_K) * alike / (alike - 1)
    return value, Spread(float(np.sqrt(variance)), rows_freedom(influence_K))
