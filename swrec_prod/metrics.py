"""How good predictions are: exact figures from labels and logits. numpy only.

- AUC is exact and tie-correct at any click rate; `RankStatistic` adds up over ranks, shards and days without loss.
- A weight w counts a row as w rows would: each figure with whole weights is that of the rows repeated. Rows of weight 0
  do not count. Figures of the rows of a group (GAUC, NDCG) are in within_groups.py.
- A figure that has no value (one class, no rows) raises MetricError here and is null with its reason in summary.py.

Shapes: N rows, K distinct scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from swrec_prod.errors import MetricError, SingleClassError


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
        labels, scores = _checked(labels, scores)
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
        scores = np.concatenate((self.score_K, other.score_K))
        order = np.argsort(scores, kind="stable")
        starts = block_starts(scores[order])
        positives = np.concatenate((self.positives_K, other.positives_K))[order]
        negatives = np.concatenate((self.negatives_K, other.negatives_K))[order]
        return RankStatistic(scores[order][starts], block_sums(positives, starts), block_sums(negatives, starts))

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
            raise SingleClassError(_one_class(positives, negatives))
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
    if min(counts) < 2:
        raise MetricError(
            f"an AUC interval needs two rows of each class, not {counts[0]} positive and {counts[1]} negative"
        )
    rows = RankStatistic.of(labels, scores, weights)
    squares = rows if weights is None else RankStatistic.of(labels, scores, weights**2)
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


def logloss(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean negative log-likelihood in nats, from logits, so that no probability rounds to 0 or 1.

    sum_i w_i l_i / sum_i w_i, where l_i is -log(p_i) of a positive row and -log(1 - p_i) of a negative one.
    labels: [N] of {0, 1}; logits: [N] finite; weights: [N] >= 0, default 1. Raises MetricError without rows.
    """
    labels, logits, weights = _some(labels, logits, weights)
    losses = np.maximum(logits, 0) - labels * logits + np.log1p(np.exp(-np.abs(logits)))
    return float(np.average(losses, weights=weights))


def ne(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Normalised entropy: log loss over the entropy of the base rate (He et al., ADKDD 2014, eq. 1). Below 1 is better
    than predicting the mean click rate for everybody.

    logloss / -(r log r + (1 - r) log(1 - r)), with the rate r = sum_i w_i y_i / sum_i w_i.
    labels: [N] of {0, 1}; logits: [N] finite; weights: [N] >= 0, default 1. Raises SingleClassError when all labels
    are equal.
    """
    labels, logits, weights = _some(labels, logits, weights)
    rate = np.average(labels, weights=weights)
    if rate in (0, 1):
        raise SingleClassError(_one_class(int(labels.sum()), int((1 - labels).sum())))
    return logloss(labels, logits, weights) / float(-rate * np.log(rate) - (1 - rate) * np.log1p(-rate))


def calibration(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean predicted probability over mean label; 1 is right, above 1 promises too many clicks.

    sum_i w_i p_i / sum_i w_i y_i.
    labels: [N] of {0, 1}; logits: [N] finite; weights: [N] >= 0, default 1. Raises SingleClassError without a positive
    label.
    """
    labels, logits, weights = _some(labels, logits, weights)
    if not labels.any():
        raise SingleClassError(_one_class(0, len(labels)))
    return float(np.average(sigmoid(logits), weights=weights) / np.average(labels, weights=weights))


class Bins(NamedTuple):
    """Equal-mass bins of rising prediction. rows: int64; mass: float64, the sum of the rows' weights; predicted,
    observed: mean probability and mean label.
    """

    rows: np.ndarray
    mass: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray


def calibration_bins(labels: np.ndarray, logits: np.ndarray, bins: int = 20, weights: np.ndarray | None = None) -> Bins:
    """Rows cut into at most `bins` bins of equal mass by prediction; equal predictions share a bin.

    labels: [N] of {0, 1}; logits: [N] finite; weights: [N] >= 0, default 1. Raises MetricError without rows.
    """
    labels, logits, weights = _some(labels, logits, weights)
    order = np.argsort(logits)
    labels, logits = labels[order], logits[order]
    weights = np.ones(len(labels)) if weights is None else weights[order]
    ties = block_starts(logits)
    sizes = np.diff(np.append(ties, len(logits)))
    before = np.cumsum(weights)[ties] - weights[ties]
    starts = block_starts(np.repeat(before * bins // weights.sum(), sizes))  # a tie lies where its first row lies
    rows, mass = np.diff(np.append(starts, len(logits))), np.add.reduceat(weights, starts)
    predicted, observed = (np.add.reduceat(weights * values, starts) / mass for values in (sigmoid(logits), labels))
    return Bins(rows, mass, predicted, observed)


def ece(labels: np.ndarray, logits: np.ndarray, bins: int = 20, weights: np.ndarray | None = None) -> float:
    """Expected calibration error: mean |predicted - observed| over equal-mass bins (Nguyen & O'Connor, EMNLP 2015).

    sum_b m_b |predicted_b - observed_b| / sum_b m_b, where m_b is the weight of the rows of bin b.
    labels: [N] of {0, 1}; logits: [N] finite; weights: [N] >= 0, default 1. Raises MetricError without rows.
    """
    _, mass, predicted, observed = calibration_bins(labels, logits, bins, weights)
    return float(np.average(np.abs(predicted - observed), weights=mass))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z)) in float64, without overflow."""
    small = np.exp(-np.abs(np.asarray(logits, np.float64)))
    return np.where(np.asarray(logits) >= 0, 1.0, small) / (1.0 + small)


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise MetricError(f"labels {labels.shape} and scores {scores.shape} must be two equally long columns")
    wrong = (labels != 0) & (labels != 1)
    if wrong.any():
        raise MetricError(f"a label is 0 or 1, not {labels[wrong][0]:g} ({wrong.sum()} of {len(labels)} rows)")
    finite = np.isfinite(scores)
    if not finite.all():
        raise MetricError(f"{(~finite).sum()} of {len(scores)} scores are not finite numbers")
    return labels, scores


def _some(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The rows that count, checked."""
    labels, scores, weights = counted_rows(labels, scores, weights)
    if not len(labels):
        raise MetricError("there are no rows" + ("" if weights is None else " of weight above 0"))
    return labels, scores, weights


def counted_rows(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The rows without those of weight 0. Raises MetricError for labels, scores or weights that cannot be judged."""
    labels, scores = _checked(labels, scores)
    if weights is None:
        return labels, scores, None
    weights = checked_weights(weights, len(scores))
    counts = weights > 0
    return labels[counts], scores[counts], weights[counts]


def checked_weights(weights: np.ndarray, rows: int) -> np.ndarray:
    """float64 [rows]. Raises MetricError for another shape, or a weight that is no number >= 0."""
    weights = np.asarray(weights, np.float64)
    if weights.shape != (rows,) or not (weights >= 0).all():
        raise MetricError(f"weights {weights.shape} must be {rows} numbers >= 0")
    return weights


def _one_class(positives: Any, negatives: Any) -> str:
    total = positives + negatives
    return f"all {total:g} labels are {int(positives > 0)}" if total else "there are no rows"


def block_starts(*columns: np.ndarray) -> np.ndarray:
    """Where a run of equal values (of all columns) starts; [] for no rows."""
    if not len(columns[0]):
        return np.zeros(0, np.int64)
    changes = np.zeros(len(columns[0]) - 1, bool)
    for column in columns:
        changes |= column[1:] != column[:-1]
    return np.concatenate(([0], np.flatnonzero(changes) + 1))


def block_sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The sum of the values of each block, by its start; [] for no blocks."""
    return np.add.reduceat(values, starts) if len(starts) else values[:0]
