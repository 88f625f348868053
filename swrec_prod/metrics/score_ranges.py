"""Figures of rows that nobody holds all of: each rank, or each turn, has a range of the scores, of all rows.

    edges = range_edges([sample(own) of every rank], ranges)
    parts = cut(own, edges)              one statistic a range; those of range r, of every rank, are merged by one rank
    sums = [ScoreSums.of(range, below, total) for each range]
    whole = ScoreSums.merged(sums)       whole.auc(), whole.logloss() ... are those of all rows

Exact, whatever the ranges: where every row counts once, AUC is the same to the bit.

Shapes: K distinct scores, R ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from swrec_prod.errors import MetricError, SingleClassError
from swrec_prod.metrics.probabilities import sigmoid
from swrec_prod.metrics.ranks import RankStatistic
from swrec_prod.metrics.rows import one_class

SAMPLE = 1024  # scores that tell a rank's share of each range to a thousandth
BINS = 20  # as in `calibration_bins`


class Masses(NamedTuple):
    """What positive and negative rows weigh: their numbers, where every row counts once."""

    positives: float
    negatives: float

    @classmethod
    def of(cls, scores: RankStatistic) -> Masses:
        """Of all rows of a statistic."""
        return cls(float(scores.positives_K.sum()), float(scores.negatives_K.sum()))


@dataclass(frozen=True, eq=False)
class ScoreSums:
    """What the rows of a range of scores add up to.

    wins: the mass of pairs that are in order, ties half, of a positive row in the range and any negative row. losses:
    log loss times mass. predicted: probability times mass. bins: [BINS, 3], mass, predicted and positives of each bin
    of equal mass of all rows.
    """

    positives: float
    negatives: float
    wins: float
    losses: float
    predicted: float
    bins: np.ndarray

    @classmethod
    def of(cls, scores: RankStatistic, below: Masses, total: Masses) -> ScoreSums:
        """scores: of the range, float64 logits. below: of all rows with lower scores; total: of all rows."""
        mass_K = scores.positives_K + scores.negatives_K
        probability_K = sigmoid(scores.score_K)
        negatives_below_K = below.negatives + np.cumsum(scores.negatives_K) - scores.negatives_K
        wins = np.dot(scores.positives_K, negatives_below_K + 0.5 * scores.negatives_K)
        log_loss_K = np.logaddexp(0, scores.score_K)
        losses = np.dot(mass_K, log_loss_K) - np.dot(scores.positives_K, scores.score_K)
        before_K = sum(below) + np.cumsum(mass_K) - mass_K
        bin_K = np.minimum(before_K * BINS // max(sum(total), 1e-300), BINS - 1).astype(np.int64)
        columns = (mass_K, mass_K * probability_K, scores.positives_K)
        bins = np.stack([np.bincount(bin_K, column, minlength=BINS) for column in columns], axis=1)
        return cls(*Masses.of(scores), float(wins), float(losses), float(columns[1].sum()), bins)

    @classmethod
    def merged(cls, ranges: Sequence[ScoreSums]) -> ScoreSums:
        """The sums of one or more ranges."""
        return cls(*(sum(getattr(sums, field.name) for sums in ranges) for field in fields(cls)))

    def auc(self) -> float:
        """`ranks.auc`. Raises SingleClassError when all labels are equal."""
        if not self.positives or not self.negatives:
            raise SingleClassError(one_class(self.positives, self.negatives))
        return self.wins / (self.positives * self.negatives)

    def logloss(self) -> float:
        """`probabilities.logloss`. Raises MetricError when no row counts."""
        return self.losses / self._mass()

    def ne(self) -> float:
        """`probabilities.ne`. Raises SingleClassError when all labels are equal."""
        rate = self.positives / self._mass()
        if rate in (0, 1):
            raise SingleClassError(one_class(self.positives, self.negatives))
        return self.logloss() / float(-rate * np.log(rate) - (1 - rate) * np.log1p(-rate))

    def calibration(self) -> float:
        """`probabilities.calibration`. Raises SingleClassError without a positive label."""
        if not self.positives:
            self._mass()
            raise SingleClassError(one_class(0, self.negatives))
        return self.predicted / self.positives

    def ece(self) -> float:
        """`probabilities.ece`. Raises MetricError when no row counts."""
        _, predicted, positives = self.bins.T
        return float(np.abs(predicted - positives).sum() / self._mass())

    def _mass(self) -> float:
        if not self.positives and not self.negatives:
            raise MetricError("there are no rows")
        return self.positives + self.negatives


def sample(scores: RankStatistic) -> np.ndarray:
    """At most SAMPLE scores, rising, which cut the distinct ones evenly."""
    K = len(scores.score_K)
    return scores.score_K[np.unique(np.linspace(0, K - 1, min(K, SAMPLE)).astype(np.int64))]


def range_edges(samples: Sequence[np.ndarray], ranges: int) -> np.ndarray:
    """float64 [R - 1]: the lowest score of every range but the first, rising."""
    together = np.sort(np.concatenate(samples))
    if not len(together):
        return np.zeros(ranges - 1)
    return together[np.arange(1, ranges) * len(together) // ranges]


def cut(scores: RankStatistic, edges: np.ndarray) -> list[RankStatistic]:
    """The part of a statistic in each range."""
    ends = np.searchsorted(scores.score_K, edges)
    columns = (np.split(column, ends) for column in (scores.score_K, scores.positives_K, scores.negatives_K))
    return [RankStatistic(*part) for part in zip(*columns, strict=True)]
