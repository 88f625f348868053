"""What rows add up to inside groups and requests, by metric; numpy only. Exact where no group is in two pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from swrec_prod.metrics.group_sums import BOTH, Blocks, GroupSums, check_places
from swrec_prod.metrics.named_arrays import Arrays, array_of, inner, under
from swrec_prod.metrics.rows import Rows
from swrec_prod.metrics.top_items import ItemCounts, first_places, novelty_sums
from swrec_prod.metrics.within_groups import gauc_sums, ndcg_sums
from swrec_prod.metrics.within_requests import hit_rate_sums, mrr_sums, recall_sums

OF_GROUPS: dict[str, Callable[[Blocks, int], GroupSums]] = {"gauc": lambda rows, k: gauc_sums(rows), "ndcg": ndcg_sums}
OF_REQUESTS: dict[str, Callable[[Blocks, int], GroupSums]] = {
    "sgauc": lambda rows, k: gauc_sums(rows),
    "recall": recall_sums,
    "hit_rate": hit_rate_sums,
    "mrr": mrr_sums,
}


@dataclass(frozen=True, eq=False)
class Inside:
    """sums: of each metric, by its name; those of requests where rows have them. items: what the first places of
    pages hold, None where rows have no items.
    """

    sums: dict[str, GroupSums] = field(default_factory=dict)
    items: ItemCounts | None = None

    @classmethod
    def of(cls, rows: Rows) -> Inside:
        """Of rows with finite logits. Raises MetricError for groups or weights that are not [N] of ids or numbers >= 0,
        and for k below 1.
        """
        check_places("NDCG", rows.k)
        blocks = Blocks.of(rows.labels, rows.logits, rows.groups, rows.weights)
        sums = {name: of(blocks, rows.k) for name, of in OF_GROUPS.items()}
        pages = rows.pages if rows.requests is None else rows.requests
        if pages is None:
            return cls(sums)
        shown, pages = _of_pages(rows, pages)
        if rows.requests is not None:
            sums |= _request_sums(shown, pages)
        return cls(sums | _novelty(shown, pages), _items(shown, pages))

    @classmethod
    def merged(cls, pieces: Sequence[Inside]) -> Inside:
        """The sum of pieces."""
        names = dict.fromkeys(name for piece in pieces for name in piece.sums)
        sums = {name: sum((p.sums[name] for p in pieces if name in p.sums), GroupSums()) for name in names}
        items = [piece.items for piece in pieces if piece.items is not None]
        return cls(sums, ItemCounts.merged(items) if items else None)

    def has(self, metric: str) -> bool:
        """Whether rows have what a metric needs."""
        return self.items is not None if metric == "coverage" else metric in self.sums

    def mean(self, metric: str, counts: str = BOTH) -> float:
        """The average over groups. counts: what groups that count have. Raises SingleClassError when none does."""
        return self.sums[metric].mean(counts).value

    def coverage(self) -> float:
        """`top_items.coverage`. Raises MetricError when no row has a page and an item."""
        assert self.items is not None, "ask `has` first"
        return self.items.coverage()

    def rows_with_both(self) -> dict[str, int]:
        """How many rows are in groups, and in requests, with both classes."""
        rows = {"grouped_rows": self.sums["gauc"].rows}
        return rows | {"request_rows": self.sums["sgauc"].rows} if "sgauc" in self.sums else rows

    def to_arrays(self) -> Arrays:
        """Plain arrays by name; `from_arrays` makes the same of them."""
        sums = np.array([of.as_tuple() for of in self.sums.values()], np.float64).reshape(-1, 5)
        arrays = {"metric": np.array(list(self.sums), np.str_), "sums": sums}
        return arrays if self.items is None else arrays | under("items", vars(self.items))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Inside:
        """Raises MetricError when an array is missing."""
        named = zip(array_of(arrays, "metric").tolist(), array_of(arrays, "sums").tolist(), strict=True)
        sums = {name: GroupSums(total, weight, *map(int, counts)) for name, (total, weight, *counts) in named}
        items = inner("items", arrays)
        return cls(sums, ItemCounts(**items) if items else None)


def _request_sums(rows: Rows, requests: np.ndarray) -> dict[str, GroupSums]:
    blocks = Blocks.of(rows.labels, rows.logits, requests, rows.weights)
    return {name: of(blocks, rows.k) for name, of in OF_REQUESTS.items()}


def _novelty(rows: Rows, pages: np.ndarray) -> dict[str, GroupSums]:
    if rows.information is None:
        return {}
    return {"novelty": novelty_sums(rows.logits, pages, rows.information, rows.k, rows.weights)}


def _items(rows: Rows, pages: np.ndarray) -> ItemCounts | None:
    if rows.items is None or rows.item_names is None:
        return None
    return ItemCounts.of(rows.item_names, rows.items, first_places(rows.logits, pages, rows.k))


def _of_pages(rows: Rows, pages: np.ndarray) -> tuple[Rows, np.ndarray]:
    """The rows that are on a page and count, in order, and their pages."""
    on = np.flatnonzero(pages >= 0 if rows.weights is None else (pages >= 0) & (np.asarray(rows.weights) > 0))
    on = on if rows.order is None else on[np.argsort(rows.order[on], kind="stable")]
    return rows.take(on), pages[on]
