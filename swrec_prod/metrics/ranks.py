"""AUC: exact and tie-correct at any click rate, with its variance; `RankStatistic` adds up over ranks, shards and days
without loss. numpy only.

Shapes: N rows, K distinct scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from swrec_prod.errors import MetricError, SingleClassError
from swrec_prod.metrics.probabilities import sigmoid
from swrec_prod.metrics.rows import block_starts, block_sums, checked, checked_weights, counted_rows, one_class

COLUMNS = ("score_K", "positives_K", "negatives_K")


class Interval(NamedTuple):
    """An estimate with its standard error and the ends of a confidence interval."""

    value: float
    error: float
    low: float
    high: float


class Components(NamedTuple):
    """DeLong's components of an AUC at each distinct score, less the AUC and divided by the size of their class.

    A positive row's component is the share of negatives that it outranks, a negative row's the share of positives above
    it, ties counted half (DeLong et al., Biometrics 1988). positive_K, negative_K: of one row with that score.
    """

    auc: float
    positive_K: np.ndarray
    negative_K: np.ndarray


@dataclass(frozen=True, eq=False)
class RankStatistic:
    """All that AUC needs to know of a set of rows; `a + b` is the statistic of both sets together, to the bit.

    score_K: distinct scores, rising; positives_K, negatives_K: the rows at each score (counts, or sums of weights).
    """

    score_K: np.ndarray
    positives_K: np.ndarray
    negatives_K: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> RankStatistic:
        """The statistic of N rows. labels: [N] of {0, 1}; scores: [N] finite; weights: [N] >= 0, default 1.

        Raises MetricError when the inputs are not that. No rows give the neutral element of `+`.
        """
        labels, scores = checked(labels, scores)
        if weights is None:  # a plain sort of each class is faster than one argsort of both
            return cls._count(scores[labels == 1], positive=True) + cls._count(scores[labels == 0], positive=False)
        order = np.argsort(scores)
        scores, mass = scores[order], checked_weights(weights, len(scores))[order]
        positive = mass * labels[order]
        starts = block_starts(scores)
        return cls(scores[starts], block_sums(positive, starts), block_sums(mass - positive, starts))

    @classmethod
    def _count(cls, scores: np.ndarray, positive: bool) -> RankStatistic:
        """The statistic of rows of one class."""
        scores = np.sort(scores)
        starts = block_starts(scores)
        rows = np.diff(np.append(starts, len(scores)))
        none = np.zeros_like(rows)
        return cls(scores[starts], rows if positive else none, none if positive else rows)

    def __add__(self, other: RankStatistic) -> RankStatistic:
        return RankStatistic.merged((self, other))

    @classmethod
    def merged(cls, pieces: Sequence[RankStatistic]) -> RankStatistic:
        """The sum of any number of pieces, with one sort for all of them."""
        if len(pieces) == 1:
            return pieces[0]
        columns = (np.concatenate([getattr(piece, name) for piece in pieces] or [np.zeros(0)]) for name in COLUMNS)
        scores, positives, negatives = columns
        order = np.argsort(scores, kind="stable")
        starts = block_starts(scores[order])
        return cls(scores[order][starts], block_sums(positives[order], starts), block_sums(negatives[order], starts))

    def auc(self) -> float:
        """Area under the ROC curve, ties counted half. Raises SingleClassError when all labels are equal."""
        positives, negatives = self._totals()
        below = np.cumsum(self.negatives_K) - self.negatives_K
        return float(np.dot(self.positives_K, below + 0.5 * self.negatives_K) / (float(positives) * float(negatives)))

    def components(self) -> Components:
        """DeLong's components of the AUC, from midranks (Sun & Xu, IEEE SPL 2014, eq. 12-14).

        Raises SingleClassError when all labels are equal.
        """
        positives, negatives = self._totals()
        outranked_K = (np.cumsum(self.negatives_K) - 0.5 * self.negatives_K) / negatives
        above_K = (positives - np.cumsum(self.positives_K) + 0.5 * self.positives_K) / positives
        value = float(np.dot(self.positives_K, outranked_K) / positives)
        return Components(value, (outranked_K - value) / positives, (above_K - value) / negatives)

    def _totals(self) -> tuple[Any, Any]:
        positives, negatives = self.positives_K.sum(), self.negatives_K.sum()
        if not positives or not negatives:
            raise SingleClassError(one_class(positives, negatives))
        return positives, negatives


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve, exact, ties counted half (Fawcett 2006, sec. 7).

    sum_ij w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / sum_ij w_i w_j over all pairs of a positive row i and a negative j.

    labels: [N] of {0, 1}; scores: [N] finite, any scale; weights: [N] >= 0, default 1.
    Returns a value in [0, 1]. Raises SingleClassError when all labels are equal.
    >>> auc(np.array([0, 1]), np.array([0.1, 0.4]))
    1.0
    """
    return RankStatistic.of(labels, scores, weights).auc()


def auc_interval(
    labels: np.ndarray, scores: np.ndarray, level: float = 0.95, weights: np.ndarray | None = None
) -> Interval:
    """AUC and its confidence interval by DeLong's variance, inside [0, 1]; O(N log N).

    With weights the AUC is the weighted mean of DeLong's components, and its variance adds up their squares times the
    squared weights.
    labels: [N] of {0, 1}; scores: [N] finite; weights: [N] >= 0, default 1. Raises MetricError with fewer than two rows
    of either class.
    """
    labels, scores, weights = counted_rows(labels, scores, weights)
    counts = int(labels.sum()), int((1 - labels).sum())
    rows = RankStatistic.of(labels, scores, weights)
    squares = rows if weights is None else RankStatistic.of(labels, scores, weights**2)
    return delong_interval(rows, squares, counts, level)


def delong_interval(
    rows: RankStatistic, squares: RankStatistic, counts: tuple[int, int], level: float = 0.95
) -> Interval:
    """`auc_interval` of rows that are known by their statistic alone.

    squares: the statistic of the same rows with their squared weights, `rows` itself where every row counts once.
    counts: positive and negative rows of weight above 0. Raises MetricError with fewer than two of either.
    """
    if min(counts) < 2:
        raise MetricError(
            f"an AUC interval needs two rows of each class, not {counts[0]} positive and {counts[1]} negative"
        )
    value, positive_K, negative_K = rows.components()
    products = np.dot(squares.positives_K, positive_K**2), np.dot(squares.negatives_K, negative_K**2)
    error = float(np.sqrt(auc_variance(products, counts)))
    return auc_interval_around(value, error, NormalDist().inv_cdf(0.5 + level / 2))


def auc_variance(products: Sequence[float] | np.ndarray, counts: Sequence[float] | np.ndarray) -> float:
    """Variance of an AUC (DeLong), also of one with rows in clusters (Obuchowski, Biometrics 1997).

    products: sums over rows or clusters of products of `Components`: positive with positive, negative with negative,
    and for clusters twice positive with negative. counts: how many rows or clusters each sum is over, above 1.
    """
    counts = np.asarray(counts)
    return float(np.dot(counts / (counts - 1), products))


def auc_interval_around(value: float, error: float, quantile: float) -> Interval:
    """The interval of an AUC by the delta method on log(v / (1 - v)) (Pepe 2003, sec. 5.2); inside [0, 1].

    quantile: how many standard errors it reaches to either side. At 0 and 1 the error is 0 and so is the width.
    """
    if not 0 < value < 1:
        return Interval(value, error, value, value)
    reach = quantile * error / (value * (1 - value))
    low, high = sigmoid(np.log(value / (1 - value)) + np.array([-reach, reach]))
    return Interval(value, error, float(low), float(high))
