"""What judged rows of one task add up to, so that they can be judged in pieces: on ranks, by day. numpy only.

A score with the weight of its positive and of its negative rows is a row again, one of each label. So a tally keeps the
distinct scores, and every figure of probabilities is that of these weighted rows: to the bit the same, whatever the
pieces and their order, where rows count once, and to rounding where they have weights.

Shapes: N rows, K distinct scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from swrec_prod.metrics.ranks import Interval, RankStatistic, delong_interval
from swrec_prod.metrics.rows import counted_rows
from swrec_prod.metrics.within_groups import GroupSums, gauc_sums, ndcg_sums

NDCG_K = 10


class Rows(NamedTuple):
    """What a metric may look at; each is [N], weights None where every row counts once. groups: the rows that GAUC and
    NDCG compare with each other; k: the places that NDCG looks at.
    """

    labels: np.ndarray
    logits: np.ndarray
    groups: np.ndarray
    weights: np.ndarray | None = None
    k: int = NDCG_K

    def take(self, rows: np.ndarray) -> Rows:
        """Some of the rows; rows: int or bool index."""
        weights = None if self.weights is None else self.weights[rows]
        return Rows(self.labels[rows], self.logits[rows], self.groups[rows], weights, self.k)


GROUPED: dict[str, Callable[[Rows], GroupSums]] = {
    "gauc": lambda rows: gauc_sums(rows.labels, rows.logits, rows.groups, rows.weights),
    "ndcg": lambda rows: ndcg_sums(rows.labels, rows.logits, rows.groups, rows.k, rows.weights),
}


def group_sums(rows: Rows) -> dict[str, GroupSums]:
    """The sums of every metric of `GROUPED`; of no rows where a score is no finite number."""
    judged = rows if np.isfinite(rows.logits).all() else rows.take(np.arange(0))
    return {name: sums(judged) for name, sums in GROUPED.items()}


@dataclass(frozen=True, eq=False)
class Tally:
    """What some rows add up to; `a + b` is the tally of both sets, where no group has rows in both.

    counts: int64 [5], how many rows, how many of them positive, both again of the rows of weight above 0, and how many
    scores are no finite number: where some are, no row is in the rest of the tally. scores: the weight of each score;
    squares: that of squared weights, which intervals need, None where every row counts once. grouped: the sums of each
    metric of `GROUPED`, by its name.
    """

    counts: np.ndarray
    scores: RankStatistic
    squares: RankStatistic | None = None
    grouped: dict[str, GroupSums] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Rows) -> Tally:
        """The tally of N rows. Raises MetricError for labels, groups or weights that cannot be judged."""
        counts, broken = [len(rows.labels), np.sum(rows.labels)], np.count_nonzero(~np.isfinite(rows.logits))
        rows = rows.take(np.arange(0)) if broken else rows
        labels, logits, weights = counted_rows(rows.labels, rows.logits, rows.weights)
        squares = None if weights is None else RankStatistic.of(labels, logits, weights**2)
        counts += [len(labels), labels.sum(), broken]
        return cls(np.array(counts, np.int64), RankStatistic.of(labels, logits, weights), squares, group_sums(rows))

    @classmethod
    def merged(cls, pieces: Sequence[Tally]) -> Tally:
        """The sum of one or more tallies, with one sort for all of them."""
        weighted = any(piece.squares is not None for piece in pieces)
        squares = RankStatistic.merged([piece.squares or piece.scores for piece in pieces]) if weighted else None
        names = dict.fromkeys(name for piece in pieces for name in piece.grouped)
        grouped = {name: sum((p.grouped[name] for p in pieces if name in p.grouped), GroupSums()) for name in names}
        counts = np.sum([piece.counts for piece in pieces], axis=0)
        return cls(counts, RankStatistic.merged([piece.scores for piece in pieces]), squares, grouped)

    def __add__(self, other: Tally) -> Tally:
        return Tally.merged((self, other))

    @property
    def rows(self) -> int:
        """How many rows, whatever their weights."""
        return int(self.counts[0])

    @property
    def positives(self) -> int:
        """How many positive rows, whatever their weights."""
        return int(self.counts[1])

    @property
    def broken(self) -> int:
        """How many scores are no finite number."""
        return int(self.counts[4])

    def weighted_rows(self) -> dict[str, Any]:
        """labels, logits, weights [2K]: what all rows say of probabilities, as one row of each label a score.

        Those of weight 0 do not count; weights are None where there are no rows.
        """
        scores = self.scores
        labels = np.repeat([1.0, 0.0], len(scores.score_K))
        weights = np.concatenate((scores.positives_K, scores.negatives_K)) if self.rows else None
        return {"labels": labels, "logits": np.tile(scores.score_K, 2), "weights": weights}

    def auc_interval(self, level: float = 0.95) -> Interval:
        """AUC with DeLong's interval (`ranks.auc_interval`). Raises MetricError with fewer than two rows of a class."""
        rows, positives = int(self.counts[2]), int(self.counts[3])
        return delong_interval(self.scores, self.squares or self.scores, (positives, rows - positives), level)
