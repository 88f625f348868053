"""A small decision tree over binned columns, grown leaf by leaf: the split that gains most log-likelihood comes next.

For a label of two values the best split of a column without order is one of its values by their rate of positives
(Breiman et al., Classification and Regression Trees, 1984, theorem 4.5).

Shapes: N rows, V bins of a column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import xlogy

SMALLEST = 0.01  # share of the rows that a leaf has at least
NOTHING = 1e-9  # a gain that is rounding


class Binned(NamedTuple):
    """A column as few bins. ordered: of a number, cut at `edges`; an id is its own bin. size: how many bins."""

    edges: np.ndarray
    ordered: bool
    size: int

    @classmethod
    def of(cls, values_N: np.ndarray, ordered: bool, rows: int, bins: int) -> Binned:
        """A number is cut at quantiles of what it has here; rows: how many ids there are."""
        if not ordered:
            return cls(np.zeros(0), False, rows)
        edges = np.unique(np.quantile(values_N, np.arange(1, bins) / bins, method="lower"))
        return cls(edges, True, len(edges) + 1)

    def bins(self, values_N: np.ndarray) -> np.ndarray:
        """The bin of each value: int [N]. A number equal to an edge is below it."""
        return np.searchsorted(self.edges, values_N, side="left") if self.ordered else values_N

    def said(self, left_V: np.ndarray, yes: bool) -> str:
        """A condition in words."""
        if self.ordered:
            return f"{'<=' if yes else '>'} {self.edges[int(left_V.sum()) - 1]:.4g}"
        chosen = np.flatnonzero(left_V[: self.size] == yes).tolist()
        return f"in ids {', '.join(map(str, chosen[:8]))}{' ...' if len(chosen) > 8 else ''}"


class Cut(NamedTuple):
    """A split of a leaf into two: rows whose bin of `column` is in left_V [V], which stay, and others, a new leaf."""

    leaf: int
    column: str
    left_V: np.ndarray
    gain: float


class Tree(NamedTuple):
    """cuts: in the order in which they were made; the new leaf of the i-th is i + 1."""

    cuts: tuple[Cut, ...]

    @property
    def leaves(self) -> int:
        """How many leaves there are."""
        return len(self.cuts) + 1

    def leaf_of(self, bins: Mapping[str, np.ndarray]) -> np.ndarray:
        """The leaf of each row, by its bins of every column: int32 [N]."""
        leaf_N = np.zeros(len(next(iter(bins.values()))), np.int32)
        for new, cut in enumerate(self.cuts, 1):
            leaf_N[(leaf_N == cut.leaf) & ~cut.left_V[bins[cut.column]]] = new
        return leaf_N

    def rules(self, said: Mapping[str, Callable[[np.ndarray, bool], str]]) -> list[str]:
        """What rows of each leaf are like, in words."""
        words: list[list[str]] = [[]]
        for cut in self.cuts:
            words.append([*words[cut.leaf], f"{cut.column} {said[cut.column](cut.left_V, False)}"])
            words[cut.leaf] = [*words[cut.leaf], f"{cut.column} {said[cut.column](cut.left_V, True)}"]
        return [" and ".join(conditions) or "all" for conditions in words]


def grow(columns: Mapping[str, Binned], bins: Mapping[str, np.ndarray], label_N: np.ndarray, leaves: int) -> Tree:
    """A tree of at most so many leaves; fewer where no split gains anything.

    bins: of every column, int [N]; label_N: 0 or 1.
    """
    leaf_N, cuts = np.zeros(len(label_N), np.int32), list[Cut]()
    best = {0: best_cut(columns, bins, label_N, leaf_N, 0)}
    while len(cuts) + 1 < leaves:
        cut = max((cut for cut in best.values() if cut), key=lambda cut: cut.gain, default=None)
        if cut is None:
            break
        cuts.append(cut)
        leaf_N[(leaf_N == cut.leaf) & ~cut.left_V[bins[cut.column]]] = len(cuts)
        for leaf in (cut.leaf, len(cuts)):
            best[leaf] = best_cut(columns, bins, label_N, leaf_N, leaf)
    return Tree(tuple(cuts))


def best_cut(
    columns: Mapping[str, Binned], bins: Mapping[str, np.ndarray], label_N: np.ndarray, leaf_N: np.ndarray, leaf: int
) -> Cut | None:
    """The split of one leaf that gains most, over all columns; None where none gains."""
    at = np.flatnonzero(leaf_N == leaf)
    smallest = max(1, int(SMALLEST * len(leaf_N)))
    best: Cut | None = None
    for name, column in columns.items():
        left_V, gain = _of_column(column, bins[name][at], label_N[at], smallest)
        if gain > (best.gain if best else NOTHING):
            best = Cut(leaf, name, left_V, gain)
    return best


def _of_column(column: Binned, bin_N: np.ndarray, label_N: np.ndarray, smallest: int) -> tuple[np.ndarray, float]:
    """The bins on the left of the best split of these rows, bool [V], and what it gains; 0 where none does."""
    rows_V = np.bincount(bin_N, minlength=column.size)
    positives_V = np.bincount(bin_N, label_N, minlength=column.size)
    order = np.arange(column.size) if column.ordered else np.argsort(positives_V / np.maximum(rows_V, 1), kind="stable")
    rows, positives = np.cumsum(rows_V[order]), np.cumsum(positives_V[order])
    gain = likelihood(rows, positives) + likelihood(rows[-1] - rows, positives[-1] - positives)
    gain -= likelihood(rows[-1], positives[-1])
    gain[np.minimum(rows, rows[-1] - rows) < smallest] = 0
    left_V = np.zeros(column.size, bool)
    left_V[order[: int(gain.argmax()) + 1]] = True
    return left_V, float(gain.max())


def likelihood(rows: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Log-likelihood of labels at their own rate."""
    return xlogy(positives, positives) + xlogy(rows - positives, rows - positives) - xlogy(rows, rows)
