"""Which items the first k places of requests go to: how many different ones, and how well known. numpy only.

Rows of equal score stand in the order in which they are given.

Shapes: N rows, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swrec_prod.errors import MetricError
from swrec_prod.metrics.group_sums import Grouped, GroupSums, check_places
from swrec_prod.metrics.rows import block_starts, block_sums


def coverage(scores: np.ndarray, requests: np.ndarray, items: np.ndarray, k: int = 10) -> float:
    """Which share of all items that were candidates is among the k highest scores of at least one request (Ge et al.,
    RecSys 2010, catalogue coverage).

    scores: [N] finite; requests, items: [N] ids. Rows of weight 0 do not count. Raises MetricError without rows, and
    for k below 1.
    >>> coverage(np.array([0.1, 0.4, 0.3, 0.6]), np.array([7, 7, 8, 8]), np.array(["a", "b", "a", "b"]), k=1)
    0.5
    """
    names, codes = np.unique(items, return_inverse=True)
    return ItemCounts.of(names.astype(np.str_), codes, first_places(scores, requests, k)).coverage()


def novelty(
    scores: np.ndarray,
    requests: np.ndarray,
    information: np.ndarray,
    k: int = 10,
    weights: np.ndarray | None = None,
) -> Grouped:
    """How little known the items of the k highest scores of a request are, in bits, averaged over requests (Vargas &
    Castells, RecSys 2011, mean self-information).

    sum_g w_g I_g / sum_g w_g, where I_g is the mean of -log2 ((n_i + 1) / (n + 1)) over the places 1..k, n_i the number
    of training rows with item i, n of all of them, and w_g the mean weight of the request's rows, 1 without weights.
    scores: [N] finite; requests: [N] ids; information: [N] the bits of each row's item; weights: [N] >= 0, default 1.
    Raises MetricError without rows, and for k below 1.
    """
    return novelty_sums(scores, requests, information, k, weights).mean("a row")


def novelty_sums(
    scores: np.ndarray, requests: np.ndarray, information: np.ndarray, k: int, weights: np.ndarray | None = None
) -> GroupSums:
    """What `novelty` is the mean of, for rows that are judged in pieces. Rows of weight 0 count as all others do."""
    order = np.argsort(requests, kind="stable")
    starts = block_starts(np.asarray(requests)[order])
    shown = first_places(scores, requests, k)[order]
    bits = block_sums(np.where(shown, information[order], 0.0), starts) / block_sums(shown.astype(np.int64), starts)
    rows = np.diff(np.append(starts, len(order)))
    weight = np.ones(len(rows)) if weights is None else block_sums(weights[order], starts) / rows
    return GroupSums(float(np.dot(bits, weight)), float(weight.sum()), len(order), len(rows))


def first_places(scores: np.ndarray, requests: np.ndarray, k: int) -> np.ndarray:
    """bool [N]: the rows with the k highest scores of their request. Raises MetricError for k below 1."""
    check_places("the first places", k)
    order = np.lexsort((-np.asarray(scores), requests))
    starts = block_starts(np.asarray(requests)[order])
    sizes = np.diff(np.append(starts, len(order)))
    first = np.empty(len(order), bool)
    first[order] = np.arange(len(order)) - np.repeat(starts, sizes) < k
    return first


@dataclass(frozen=True, eq=False)
class ItemCounts:
    """Items by name. offered: in how many rows each is; shown: in how many of these it is in one of the first k places.

    name_I: strings, rising; offered_I, shown_I: int64.
    """

    name_I: np.ndarray
    offered_I: np.ndarray
    shown_I: np.ndarray

    @classmethod
    def of(cls, names: np.ndarray, item_N: np.ndarray, shown_N: np.ndarray) -> ItemCounts:
        """names: of all items, rising; item_N: index into names; shown_N: bool."""
        offered, shown = (np.bincount(items, minlength=len(names)) for items in (item_N, item_N[shown_N]))
        present = offered > 0
        return cls(names[present], offered[present], shown[present])

    @classmethod
    def merged(cls, pieces: Sequence[ItemCounts]) -> ItemCounts:
        """The counts of all pieces together."""
        names, item = np.unique(np.concatenate([piece.name_I for piece in pieces]), return_inverse=True)
        offered = np.zeros((2, len(names)), np.int64)
        np.add.at(offered[0], item, np.concatenate([piece.offered_I for piece in pieces]))
        np.add.at(offered[1], item, np.concatenate([piece.shown_I for piece in pieces]))
        return cls(names, *offered)

    def coverage(self) -> float:
        """See `coverage`."""
        if not len(self.name_I):
            raise MetricError("no row has both a page and an item")
        return float(np.count_nonzero(self.shown_I) / len(self.name_I))
