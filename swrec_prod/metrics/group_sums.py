"""Rows by group and score, and sums over groups: what figures of the rows of one user or request are made of.

numpy only. Shapes: N rows; K blocks, each the rows of one group with one score; G groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from swrec_prod.errors import MetricError, SingleClassError
from swrec_prod.metrics.rows import block_starts, block_sums, checked_weights, counted_rows

BOTH = "both a positive and a negative row"


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

    def mean(self, counts: str = BOTH) -> Grouped:
        """The average over groups. counts: what a group that counts has. Raises SingleClassError when none does."""
        if not self.groups:
            raise SingleClassError(f"none of {self.left_out} groups has {counts}")
        return Grouped(self.total / self.weight, self.rows, self.groups)


class ByGroup(NamedTuple):
    """A metric of each group that counts. group_G: the group, as `group_codes` has it; value_G: the metric; weight_G:
    its weight in the average; rows_G: the group's rows; left_out: how many groups do not count.
    """

    group_G: np.ndarray
    value_G: np.ndarray
    weight_G: np.ndarray
    rows_G: np.ndarray
    left_out: int

    def sums(self) -> GroupSums:
        """The sums over these groups."""
        total, weight = float(np.dot(self.value_G, self.weight_G)), float(self.weight_G.sum())
        return GroupSums(total, weight, int(self.rows_G.sum()), len(self.rows_G), self.left_out)


class Blocks(NamedTuple):
    """Rows by group and rising score. rows_K, hits_K: rows and positive ones; positives_K, negatives_K: their weights;
    first_G: the first block of each group; group_G: the groups.
    """

    rows_K: np.ndarray
    hits_K: np.ndarray
    positives_K: np.ndarray
    negatives_K: np.ndarray
    first_G: np.ndarray
    group_G: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray | None) -> Blocks:
        """The blocks of N rows, those of weight 0 left out. Raises MetricError for columns that cannot be judged."""
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
        group_K = group[order][starts]
        first_G = block_starts(group_K)
        return cls(rows, block_sums(hit, starts), positives, negatives, first_G, group_K[first_G])

    @property
    def sizes_G(self) -> np.ndarray:
        """How many blocks each group has."""
        return np.diff(np.append(self.first_G, len(self.rows_K)))

    def sums(self, values_K: np.ndarray) -> np.ndarray:
        """The sum over the blocks of each group, [G]."""
        return block_sums(values_K, self.first_G)

    def before(self, values_K: np.ndarray) -> np.ndarray:
        """The sum over the blocks of the same group with a lower score, [K]."""
        running = np.cumsum(values_K) - values_K
        return running - np.repeat(running[self.first_G], self.sizes_G)

    def above(self) -> np.ndarray:
        """How many rows of the same group have a higher score, [K]."""
        return np.repeat(self.sums(self.rows_K), self.sizes_G) - self.before(self.rows_K) - self.rows_K

    def mean_weight(self) -> np.ndarray:
        """The mean weight of the rows of each group, [G]; 1 where every row counts once."""
        return (self.sums(self.positives_K) + self.sums(self.negatives_K)) / self.sums(self.rows_K)

    def both_classes(self) -> np.ndarray:
        """bool [G]: the groups with a positive and a negative row."""
        hits, rows = self.sums(self.hits_K), self.sums(self.rows_K)
        return (hits > 0) & (hits < rows)

    def values(self, value_G: np.ndarray, weight_G: np.ndarray, counted_G: np.ndarray) -> ByGroup:
        """A metric of the groups that count."""
        rows_G, left_out = self.sums(self.rows_K)[counted_G], int((~counted_G).sum())
        return ByGroup(self.group_G[counted_G], value_G[counted_G], weight_G[counted_G], rows_G, left_out)

    def totals(self, value_G: np.ndarray, weight_G: np.ndarray, counted_G: np.ndarray) -> GroupSums:
        """The sums over the groups that count."""
        return self.values(value_G, weight_G, counted_G).sums()


def group_codes(groups: np.ndarray, rows: int) -> np.ndarray:
    """Groups as integers, whatever their type; as they are where they are integers.

    Raises MetricError unless [rows].
    """
    groups = np.asarray(groups)
    if groups.shape != (rows,):
        raise MetricError(f"groups {groups.shape} must be a column of {rows} ids")
    return groups if np.issubdtype(groups.dtype, np.integer) else np.unique(groups, return_inverse=True)[1]


def check_places(name: str, k: int) -> None:
    """Raises MetricError where a figure is to look at no rows."""
    if k < 1:
        raise MetricError(f"{name} looks at the first k rows of a group, k is {k}, expected 1 or more")
