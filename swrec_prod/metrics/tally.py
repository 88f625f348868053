"""What judged rows of one task add up to, so that they can be judged in pieces: on ranks, by day. numpy only.

A score with the weight of its positive and of its negative rows is a row again, one of each label. So a tally keeps the
distinct scores, and every figure of probabilities is of what they add up to: to the bit the same, whatever the pieces
and their order, where rows count once, and to rounding where they have weights.

Shapes: N rows, K distinct scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from swrec_prod.metrics.inside import Inside
from swrec_prod.metrics.named_arrays import Arrays, array_of, inner, under
from swrec_prod.metrics.ranks import COLUMNS, Interval, RankStatistic, delong_interval
from swrec_prod.metrics.rows import Rows, counted_rows
from swrec_prod.metrics.score_ranges import Masses, ScoreSums


def inside_of(rows: Rows) -> Inside:
    """What rows add up to inside groups; nothing where a score is no finite number."""
    return Inside.of(rows if np.isfinite(rows.logits).all() else rows.take(np.arange(0)))


@dataclass(frozen=True, eq=False)
class Tally:
    """What some rows add up to; `a + b` is the tally of both sets, where no group has rows in both.

    counts: int64 [5], how many rows, how many of them positive, both again of the rows of weight above 0, and how many
    scores are no finite number: where some are, no row is in the rest of the tally. scores: the weight of each score;
    squares: that of squared weights, which intervals need, None where every row counts once. inside: its groups.
    summed: what the scores add up to, where `scores` does not have them all (`all_scores.AllScores`).
    """

    counts: np.ndarray
    scores: RankStatistic
    squares: RankStatistic | None = None
    inside: Inside = field(default_factory=Inside)
    summed: ScoreSums | None = None

    @classmethod
    def of(cls, rows: Rows) -> Tally:
        """The tally of N rows. Raises MetricError for labels, groups or weights that cannot be judged."""
        counts, broken = [len(rows.labels), np.sum(rows.labels)], np.count_nonzero(~np.isfinite(rows.logits))
        rows = rows.take(np.arange(0)) if broken else rows
        labels, logits, weights = counted_rows(rows.labels, rows.logits, rows.weights)
        squares = None if weights is None else RankStatistic.of(labels, logits, weights**2)
        counts += [len(labels), labels.sum(), broken]
        return cls(np.array(counts, np.int64), RankStatistic.of(labels, logits, weights), squares, inside_of(rows))

    @classmethod
    def merged(cls, pieces: Sequence[Tally]) -> Tally:
        """The sum of one or more tallies, with one sort for all of them."""
        weighted = any(piece.squares is not None for piece in pieces)
        squares = RankStatistic.merged([piece.squares or piece.scores for piece in pieces]) if weighted else None
        inside = Inside.merged([piece.inside for piece in pieces])
        counts = np.sum([piece.counts for piece in pieces], axis=0)
        return cls(counts, RankStatistic.merged([piece.scores for piece in pieces]), squares, inside)

    def to_arrays(self) -> Arrays:
        """Plain arrays by name; `from_arrays` makes the same tally of them."""
        arrays = {"counts": self.counts} | under("scores", vars(self.scores)) | under("inside", self.inside.to_arrays())
        return arrays if self.squares is None else arrays | under("squares", vars(self.squares))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Tally:
        """Raises MetricError when an array is missing."""
        scores, squares = (_statistic(inner(kind, arrays)) for kind in ("scores", "squares"))
        inside = Inside.from_arrays(inner("inside", arrays))
        return cls(array_of(arrays, "counts"), scores or RankStatistic.merged([]), squares, inside)

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
    def counted(self) -> tuple[int, int]:
        """How many rows of weight above 0, and how many of them positive."""
        return int(self.counts[2]), int(self.counts[3])

    @property
    def broken(self) -> int:
        """How many scores are no finite number."""
        return int(self.counts[4])

    @cached_property
    def sums(self) -> ScoreSums:
        """What the scores add up to: AUC, and what rows say of probabilities. Those of weight 0 do not count."""
        return self.summed or ScoreSums.of(self.scores, Masses(0.0, 0.0), Masses.of(self.scores))

    def auc_interval(self, level: float = 0.95) -> Interval:
        """AUC with DeLong's interval (`ranks.auc_interval`). Raises MetricError with fewer than two rows of a class."""
        rows, positives = self.counted
        return delong_interval(self.scores, self.squares or self.scores, (positives, rows - positives), level)


def _statistic(arrays: Mapping[str, np.ndarray]) -> RankStatistic | None:
    return RankStatistic(*(array_of(arrays, column) for column in COLUMNS)) if arrays else None
