"""How well the rows of one group are ordered: a user's, a request's, those of any column. numpy only.

A ranked page holds the candidates of one request, so only their order among each other can be seen. Both figures are of
the groups that have a positive and a negative row: with one class there is no order that is better than another.

Shapes: N rows; K blocks, each the rows of one group with one score; G groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from swrec_prod.errors import MetricError, SingleClassError
from swrec_prod.metrics.rows import block_starts, block_sums, checked_weights, counted_rows


class Grouped(NamedTuple):
    """A metric averaged over groups. value: the average; rows, groups: how many of them took part."""

    value: float
    rows: int
    groups: int


@dataclass(frozen=True)
class GroupSums:
    """A metric's sums over groups; `a + b` is that of both sets of rows, where no group has rows in both.

    total: of value times weight, over the groups that count; weight: of their weights; rows, groups: how many they
    are; left_out: groups that do not count.
    """

    total: float = 0.0
    weight: float = 0.0
    rows: int = 0
    groups: int = 0
    left_out: int = 0

    def __add__(self, other: GroupSums) -> GroupSums:
        return GroupSums(*(a + b for a, b in zip(self.as_tuple(), other.as_tuple(), strict=True)))

    def as_tuple(self) -> tuple[float, float, int, int, int]:
        """The fields, in order."""
        return self.total, self.weight, self.rows, self.groups, self.left_out

    def mean(self) -> Grouped:
        """The average over groups. Raises SingleClassError when no group counts."""
        if not self.groups:
            raise SingleClassError(f"none of {self.left_out} groups has both a positive and a negative row")
        return Grouped(self.total / self.weight, self.rows, self.groups)


class _Blocks(NamedTuple):
    """Rows by group and rising score. rows_K, hits_K: rows and positive ones; positives_K, negatives_K: their weights;
    first_G: the first block of each group.
    """

    rows_K: np.ndarray
    hits_K: np.ndarray
    positives_K: np.ndarray
    negatives_K: np.ndarray
    first_G: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray | None) -> _Blocks:
        group = group_codes(groups, len(np.asarray(scores)))
        if weights is not None:
            group = group[checked_weights(weights, len(group)) > 0]
        labels, scores, weights = counted_rows(labels, scores, weights)
        order = np.argsort(scores)
        order = order[np.argsort(group[order], kind="stable")]
        hit = labels[order].astype(np.int64)
        mass = np.ones_like(hit) if weights is None else weights[order]
        starts = block_starts(group[order], scores[order])
        rows, positives = np.diff(np.append(starts, len(hit))), block_sums(mass * hit, starts)
        negatives = block_sums(mass * (1 - hit), starts)
        return cls(rows, block_sums(hit, starts), positives, negatives, block_starts(group[order][starts]))

    def sums(self, values_K: np.ndarray) -> np.ndarray:
        """The sum over the blocks of each group, [G]."""
        return block_sums(values_K, self.first_G)

    def before(self, values_K: np.ndarray) -> np.ndarray:
        """The sum over the blocks of the same group with a lower score, [K]."""
        running = np.cumsum(values_K) - values_K
        return running - np.repeat(running[self.first_G], np.diff(np.append(self.first_G, len(values_K))))

    def both_classes(self) -> np.ndarray:
        """bool [G]: the groups with a positive and a negative row."""
        hits, rows = self.sums(self.hits_K), self.sums(self.rows_K)
        return (hits > 0) & (hits < rows)

    def totals(self, value_G: np.ndarray, weight_G: np.ndarray, counted_G: np.ndarray) -> GroupSums:
        """The sums over the groups that count."""
        weight_G, groups = weight_G[counted_G], int(counted_G.sum())
        total = float(np.dot(value_G[counted_G], weight_G))
        rows = int(self.sums(self.rows_K)[counted_G].sum())
        return GroupSums(total, float(weight_G.sum()), rows, groups, len(counted_G) - groups)


def gauc(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray | None = None) -> Grouped:
    """AUC within each group, averaged with the group's impressions as weight (Zhou et al., KDD 2018, eq. 6).

    sum_g W_g AUC_g / sum_g W_g, where W_g is the weight of all rows of group g, their number without weights, and AUC_g
    counts a pair with the product of its weights.
    labels: [N] of {0, 1}; scores: [N] finite; groups: [N] ids of any type; weights: [N] >= 0, default 1. Groups whose
    labels are all equal are left out; `rows` and `groups` say how many rows and groups counted. Raises SingleClassError
    when no group counts.
    >>> gauc(np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.4, 0.3, 0.6, 0.9]), np.array([7, 7, 8, 8, 9]))
    Grouped(value=0.5, rows=4, groups=2)
    """
    return gauc_sums(labels, scores, groups, weights).mean()


def gauc_sums(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray | None = None
) -> GroupSums:
    """What `gauc` is the mean of, for rows that are judged in pieces."""
    blocks = _Blocks.of(labels, scores, groups, weights)
    counted = blocks.both_classes()
    below_K = blocks.before(blocks.negatives_K) + 0.5 * blocks.negatives_K
    wins_G = blocks.sums(blocks.positives_K * below_K)
    positives_G, negatives_G = blocks.sums(blocks.positives_K), blocks.sums(blocks.negatives_K)
    value_G = wins_G / np.where(counted, positives_G * negatives_G, 1)
    return blocks.totals(value_G, positives_G + negatives_G, counted)


def ndcg(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, k: int = 10, weights: np.ndarray | None = None
) -> Grouped:
    """Normalised discounted cumulative gain of the k highest scores of each group, averaged over groups (Järvelin &
    Kekäläinen, TOIS 2002).

    sum_g w_g DCG_g / IDCG_g / sum_g w_g, where DCG_g is the sum of y_i / log2(1 + i) over the places i = 1..k, IDCG_g
    that of the best order, and w_g the mean weight of the group's rows, 1 without weights. Rows of equal score share
    the mean of their places' discounts (McSherry & Najork, ECIR 2008), as in scikit-learn's ndcg_score.
    labels: [N] of {0, 1}; scores: [N] finite; groups: [N] ids of any type; weights: [N] >= 0, default 1. Left out and
    raised is what `gauc` leaves out and raises; MetricError also for k below 1.
    >>> ndcg(np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.4, 0.3, 0.6, 0.9]), np.array([7, 7, 8, 8, 9]), k=1)
    Grouped(value=0.5, rows=4, groups=2)
    """
    return ndcg_sums(labels, scores, groups, k, weights).mean()


def ndcg_sums(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, k: int = 10, weights: np.ndarray | None = None
) -> GroupSums:
    """What `ndcg` is the mean of, for rows that are judged in pieces."""
    if k < 1:
        raise MetricError(f"NDCG looks at the first k rows of a group, k is {k}, expected 1 or more")
    blocks = _Blocks.of(labels, scores, groups, weights)
    counted = blocks.both_classes()
    rows_G, hits_G = blocks.sums(blocks.rows_K), blocks.sums(blocks.hits_K)
    discounts = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, min(k, int(rows_G.max(initial=0))) + 2)))))
    last = len(discounts) - 1
    sizes_G = np.diff(np.append(blocks.first_G, len(blocks.rows_K)))
    above_K = np.repeat(rows_G, sizes_G) - blocks.before(blocks.rows_K) - blocks.rows_K
    shared_K = discounts[np.minimum(above_K + blocks.rows_K, last)] - discounts[np.minimum(above_K, last)]
    dcg_G = blocks.sums(blocks.hits_K / blocks.rows_K * shared_K)
    value_G = dcg_G / np.where(counted, discounts[np.minimum(hits_G, last)], 1)
    weight_G = (blocks.sums(blocks.positives_K) + blocks.sums(blocks.negatives_K)) / rows_G
    return blocks.totals(value_G, weight_G, counted)


def group_codes(groups: np.ndarray, rows: int) -> np.ndarray:
    """Groups as integers, whatever their type; as they are where they are integers.

    Raises MetricError unless [rows].
    """
    groups = np.asarray(groups)
    if groups.shape != (rows,):
        raise MetricError(f"groups {groups.shape} must be a column of {rows} ids")
    return groups if np.issubdtype(groups.dtype, np.integer) else np.unique(groups, return_inverse=True)[1]
