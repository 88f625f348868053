"""How right predicted probabilities are: log loss, normalised entropy, calibration. numpy only.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from swrec_prod.errors import MetricError, SingleClassError
from swrec_prod.metrics.rows import block_starts, class_masses, counted_rows, one_class, some_rows


def logloss(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean negative log-likelihood in nats, from logits, so that no probability rounds to 0 or 1.

    sum_i w_i l_i / sum_i w_i, where l_i is -log(p_i) of a positive row and -log(1 - p_i) of a negative one.
    labels: [N] of {0, 1}; logits: [N] finite; weights: [N] >= 0, default 1. Raises MetricError without rows.
    """
    return LossSum.of(labels, logits, weights).mean()


class LossSum(NamedTuple):
    """What `logloss` is the mean of, for rows that are judged in pieces. total: sum_i w_i l_i; mass: sum_i w_i."""

    total: float
    mass: float

    @classmethod
    def of(cls, labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> LossSum:
        """Arguments and errors are those of `logloss`, but that there may be no rows."""
        labels, logits, weights = counted_rows(labels, logits, weights)
        losses = np.maximum(logits, 0) - labels * logits + np.log1p(np.exp(-np.abs(logits)))
        if weights is None:
            return cls(float(losses.sum()), float(len(losses)))
        return cls(float((losses * weights).sum()), float(weights.sum()))

    @classmethod
    def merged(cls, pieces: Sequence[LossSum]) -> LossSum:
        """Of all rows of some pieces."""
        return cls(sum(piece.total for piece in pieces), sum(piece.mass for piece in pieces))

    def mean(self) -> float:
        """The log loss. Raises MetricError where no row counts."""
        if not self.mass:
            raise MetricError("there are no rows of weight above 0")
        return self.total / self.mass


def ne(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Normalised entropy: log loss over the entropy of the base rate (He et al., ADKDD 2014, eq. 1). Below 1 is better
    than predicting the mean click rate for everybody.

    logloss / -(r log r + (1 - r) log(1 - r)), with the rate r = sum_i w_i y_i / sum_i w_i.
    labels: [N] of {0, 1}; logits: [N] finite; weights: [N] >= 0, default 1. Raises SingleClassError when all labels
    are equal.
    """
    labels, logits, weights = some_rows(labels, logits, weights)
    rate = np.average(labels, weights=weights)
    if rate in (0, 1):
        raise SingleClassError(one_class(*class_masses(labels, weights)))
    return logloss(labels, logits, weights) / float(-rate * np.log(rate) - (1 - rate) * np.log1p(-rate))


def calibration(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean predicted probability over mean label; 1 is right, above 1 promises too many clicks.

    sum_i w_i p_i / sum_i w_i y_i.
    labels: [N] of {0, 1}; logits: [N] finite; weights: [N] >= 0, default 1. Raises SingleClassError without a positive
    label.
    """
    labels, logits, weights = some_rows(labels, logits, weights)
    if not labels.any():
        raise SingleClassError(one_class(*class_masses(labels, weights)))
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
    labels, logits, weights = some_rows(labels, logits, weights)
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
