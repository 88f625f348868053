"""Figures of rows under many sets of cluster weights: sorted and summed up once, then a few passes a set of weights.

- A ratio of sums (log loss, calibration, an average over groups that lie inside clusters) needs one product of the
  weights with the clusters' sums.
- AUC, and GAUC of groups that lie across clusters, need the rows sorted once, and for each set of weights a cumulative
  sum of the negatives in that order.

Shapes: N rows, of which M negatives and P positives; C clusters; G groups; B sets of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from swrec_prod.metrics.rows import block_starts


class Influence(NamedTuple):
    """What each cluster does to a figure. value_C: its derivative by the cluster's weight, where all weights are 1;
    these add up to 0, and their squares to the delta method's variance (Efron & Tibshirani 1993, ch. 22). left_out_C:
    about how far it falls when the cluster is left out, value / (1 - share of the cluster): the jackknife's (exact for
    a `Ratio`).
    """

    value_C: np.ndarray
    left_out_C: np.ndarray

    def __add__(self, other: Influence) -> Influence:  # type: ignore[override]
        return Influence(self.value_C + other.value_C, self.left_out_C + other.left_out_C)

    def scaled(self, factor: float) -> Influence:
        """Of the figure times a number."""
        return Influence(factor * self.value_C, factor * self.left_out_C)


class Reweighted(Protocol):
    """A figure of rows whose clusters can be weighted. value: where all weights are 1; counted: how many clusters have
    rows that it is of, the fewer of those with positives and with negatives where it needs both.
    """

    @property
    def value(self) -> float:
        """See above."""

    @property
    def counted(self) -> int:
        """See above."""

    def influence(self) -> Influence:
        """For two counted clusters or more."""

    def under(self, weight_BC: np.ndarray) -> np.ndarray:
        """The figure under each set of weights, [B]; NaN where it has no value. weight_BC: whole numbers."""


@dataclass(frozen=True, eq=False)
class Ratio:
    """A sum over rows divided by another one. above_C, below_C: both sums of each cluster, below_C >= 0."""

    above_C: np.ndarray
    below_C: np.ndarray

    @property
    def value(self) -> float:
        """See `Reweighted`."""
        return float(self.above_C.sum() / self.below_C.sum())

    @property
    def counted(self) -> int:
        """See `Reweighted`."""
        return int(np.count_nonzero(self.below_C))

    def influence(self) -> Influence:
        """See `Reweighted`."""
        total = self.below_C.sum()
        value_C = (self.above_C - self.value * self.below_C) / total
        return Influence(value_C, value_C / (1 - self.below_C / total))

    def under(self, weight_BC: np.ndarray) -> np.ndarray:
        """See `Reweighted`."""
        sums_B2 = weight_BC.astype(np.float64) @ np.stack((self.above_C, self.below_C), 1)
        return _divided(sums_B2[:, 0], sums_B2[:, 1])


class Side(NamedTuple):
    """The positives or the negatives, by group and rising score. cluster: [M] or [P]; mass: their own weights, None for
    1 each; below, upto: how many of the other side, in its order, come before their score, and before or with it;
    start: how many of the other side belong to groups before theirs; first_G: the first of each group.
    """

    cluster: np.ndarray
    mass: np.ndarray | None
    below: np.ndarray
    upto: np.ndarray
    start: np.ndarray
    first_G: np.ndarray

    def weights(self, weight_BC: np.ndarray) -> np.ndarray:
        """What each of them weighs under each set of cluster weights, [B, M] or [B, P]."""
        taken = weight_BC.take(self.cluster, axis=1)
        return taken if self.mass is None else taken * self.mass

    def lower(self, other_B: np.ndarray) -> np.ndarray:
        """For each of them twice the weight of the others in its group with a lower score, ties counted half.

        other_B: running sums of the other side's weights, [B, 1 + their number].
        """
        return other_B.take(self.below, 1) + other_B.take(self.upto, 1) - 2 * other_B.take(self.start, 1)


@dataclass(frozen=True, eq=False)
class RankedRows:
    """AUC within each group, averaged with the weight of the group's rows; with one group AUC itself.

    Groups without both classes are left out: no weights give them a value. clusters: how many there are.
    """

    positives: Side
    negatives: Side
    clusters: int

    @classmethod
    def of(
        cls,
        labels_N: np.ndarray,
        scores_N: np.ndarray,
        cluster_N: np.ndarray,
        group_N: np.ndarray | None = None,
        mass_N: np.ndarray | None = None,
    ) -> RankedRows:
        """cluster_N: codes from 0; group_N: codes from 0, None for one group; mass_N: weights of rows, default 1.

        There must be a group of both classes.
        """
        group_N = np.zeros(len(labels_N), np.int64) if group_N is None else group_N
        ranks_N = np.unique(scores_N, return_inverse=True)[1]
        key_N = group_N * (ranks_N.max() + 1) + ranks_N  # rises with the group, and inside it with the score
        positive_G, negative_G = (
            np.bincount(group_N, labels_N == label, minlength=group_N.max() + 1) > 0 for label in (1, 0)
        )
        kept_N = (positive_G & negative_G)[group_N]
        rows = [np.flatnonzero(kept_N & (labels_N == label)) for label in (1, 0)]
        positive, negative = (at[np.argsort(key_N[at], kind="stable")] for at in rows)
        columns = (key_N, group_N, cluster_N, mass_N)
        return cls(_side(positive, negative, *columns), _side(negative, positive, *columns), int(cluster_N.max()) + 1)

    @property
    def value(self) -> float:
        """See `Reweighted`."""
        return float(self.under(np.ones((1, self.clusters), np.uint16))[0])

    def under(self, weight_BC: np.ndarray) -> np.ndarray:
        """See `Reweighted`."""
        positive_BP, negative_BM = self.positives.weights(weight_BC), self.negatives.weights(weight_BC)
        wins_BP = positive_BP * self.positives.lower(_running(negative_BM))
        wins_BG = np.add.reduceat(wins_BP, self.positives.first_G, axis=1) / 2
        positive_BG, negative_BG = self._totals(positive_BP, negative_BM)
        pairs_BG = positive_BG * negative_BG
        mass_BG = np.where(pairs_BG > 0, positive_BG + negative_BG, 0)
        return _divided(np.sum(mass_BG * _divided(wins_BG, pairs_BG, 0.0), axis=1), mass_BG.sum(1))

    @property
    def counted(self) -> int:
        """See `Reweighted`."""
        return min(len(np.unique(side.cluster)) for side in (self.positives, self.negatives))

    def influence(self) -> Influence:
        """See `Reweighted`; with one group its values are DeLong's components, summed over clusters."""
        ones_1C = np.ones((1, self.clusters), np.uint16)
        positive_P, negative_M = (side.weights(ones_1C)[0] for side in (self.positives, self.negatives))
        positive_G, negative_G = (sums[0] for sums in self._totals(positive_P[None], negative_M[None]))
        outranked_P = self.positives.lower(_running(negative_M[None]))[0] / 2
        above_M = _per_row(positive_G, self.negatives) - self.negatives.lower(_running(positive_P[None]))[0] / 2
        auc_G = np.add.reduceat(positive_P * outranked_P, self.positives.first_G) / positive_G / negative_G
        mass_G = positive_G + negative_G
        apart_G = auc_G - np.average(auc_G, weights=mass_G)  # a row's weight also counts in its group's
        parts = []
        for side, mass, won, own_G, other_G in (
            (self.positives, positive_P, outranked_P, positive_G, negative_G),
            (self.negatives, negative_M, above_M, negative_G, positive_G),
        ):
            component = won / _per_row(other_G, side) - _per_row(auc_G, side)
            value = mass * (_per_row(apart_G, side) + _per_row(mass_G / own_G, side) * component) / mass_G.sum()
            parts.append(_influence(side.cluster, value, mass, self.clusters))
        return parts[0] + parts[1]

    def _totals(self, positive_BP: np.ndarray, negative_BM: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weight of each group's positives and negatives, [B, G] each."""
        sides = ((positive_BP, self.positives), (negative_BM, self.negatives))
        positive_BG, negative_BG = (
            np.add.reduceat(weight, side.first_G, axis=1, dtype=_total_type(weight)) for weight, side in sides
        )
        return positive_BG, negative_BG


def _side(
    own: np.ndarray,
    other: np.ndarray,
    key_N: np.ndarray,
    group_N: np.ndarray,
    cluster_N: np.ndarray,
    mass_N: np.ndarray | None,
) -> Side:
    """own, other: row numbers of both sides, sorted by key."""
    key, other_key, group = key_N[own], key_N[other], group_N[own]
    return Side(
        cluster_N[own].astype(np.intp),
        None if mass_N is None else mass_N[own],
        np.searchsorted(other_key, key, "left"),
        np.searchsorted(other_key, key, "right"),
        np.searchsorted(group_N[other], group, "left"),
        block_starts(group),
    )


def _influence(cluster: np.ndarray, value: np.ndarray, mass: np.ndarray, clusters: int) -> Influence:
    """Of one side's rows, from the derivatives by their weights; a cluster's share is that of the side's weight."""
    value_C, mass_C = (np.bincount(cluster, rows, minlength=clusters) for rows in (value, mass))
    return Influence(value_C, value_C / (1 - mass_C / mass_C.sum()))


def _per_row(values_G: np.ndarray, side: Side) -> np.ndarray:
    """A group's value for each row of one side."""
    return np.repeat(values_G, np.diff(np.append(side.first_G, len(side.cluster))))


def _running(weights_B: np.ndarray) -> np.ndarray:
    """Running sums along rows, with a 0 in front."""
    sums = np.zeros((len(weights_B), weights_B.shape[1] + 1), _total_type(weights_B))
    np.cumsum(weights_B, axis=1, out=sums[:, 1:])
    return sums


def _total_type(weights: np.ndarray) -> type:
    """Sums of whole weights are exact."""
    return np.int64 if np.issubdtype(weights.dtype, np.integer) else np.float64


def _divided(above: np.ndarray, below: np.ndarray, without: float = np.nan) -> np.ndarray:
    """above / below, and `without` where below is 0."""
    return np.divide(above, below, out=np.full(np.shape(above), without), where=below > 0)
