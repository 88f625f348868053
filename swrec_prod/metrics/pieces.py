"""Judged rows in pieces: of every task and scenario what its rows add up to, as arrays that can be sent and kept.

    whole = Piece.merged([Piece.of(...) of each rank, day or file])     or piece + piece
    summary.record_of(whole)                                            what metrics.json says of all rows together

Everything but what is measured inside groups and requests is exact however rows are cut. That is exact where all rows
of a group, and of a request, are in one piece: deal rows by `piece_of_group`. Where a group is in several pieces, as a
user is in several days, the sum takes it for several groups, a user on a day each.

Shapes: N rows, T tasks, S scenarios, K distinct scores of all scenarios together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from swrec_prod.errors import MetricError
from swrec_prod.metrics.group_sums import group_codes
from swrec_prod.metrics.inside import Inside
from swrec_prod.metrics.named_arrays import Arrays, inner, packed, under, unpacked
from swrec_prod.metrics.rows import NDCG_K, Rows
from swrec_prod.metrics.score_ranges import ScoreSums
from swrec_prod.metrics.tally import Tally, inside_of


@dataclass(frozen=True, eq=False)
class TaskTally:
    """The tallies of one task. scenarios: by value, also values without rows. inside: of the groups and requests of all
    scenarios together, as a user's rows in several scenarios are one group. given: by the task that this one follows,
    the tallies of the rows where that one happened. summed: of all scenarios together, as `Tally.summed`.
    """

    scenarios: dict[str, Tally]
    inside: Inside
    given: dict[str, TaskTally] = field(default_factory=dict)
    summed: ScoreSums | None = None

    @classmethod
    def of(cls, rows: Rows, scenarios: np.ndarray, names: Sequence[str]) -> TaskTally:
        """scenarios: int [N], indices into names. Raises MetricError for an index without a name."""
        if len(scenarios) and not 0 <= scenarios.min() <= scenarios.max() < len(names):
            least, most = scenarios.min(), scenarios.max()
            raise MetricError(f"scenario indices run from {least} to {most}, but {len(names)} scenarios are named")
        order = np.argsort(scenarios, kind="stable")
        parts = np.split(order, np.searchsorted(scenarios[order], np.arange(1, len(names))))
        tallies = {name: Tally.of(rows.take(part)) for name, part in zip(names, parts, strict=True)}
        return cls(tallies, tallies[names[0]].inside if len(names) == 1 else inside_of(rows))

    @classmethod
    def merged(cls, pieces: Sequence[TaskTally]) -> TaskTally:
        """The sum of one or more pieces."""
        scenarios = by_name([piece.scenarios for piece in pieces], Tally.merged)
        inside = Inside.merged([piece.inside for piece in pieces])
        return cls(scenarios, inside, by_name([piece.given for piece in pieces], TaskTally.merged))

    def overall(self) -> Tally:
        """The tally of all scenarios together."""
        return replace(Tally.merged(list(self.scenarios.values())), inside=self.inside, summed=self.summed)

    def to_arrays(self) -> Arrays:
        """As `Piece.to_arrays`."""
        scenarios = packed({name: tally.to_arrays() for name, tally in self.scenarios.items()})
        given = packed({name: task.to_arrays() for name, task in self.given.items()})
        return under("scenarios", scenarios) | under("inside", self.inside.to_arrays()) | under("given", given)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> TaskTally:
        """As `Piece.from_arrays`."""
        scenarios, given = (unpacked(inner(name, arrays)) for name in ("scenarios", "given"))
        return cls(
            {name: Tally.from_arrays(tally) for name, tally in scenarios.items()},
            Inside.from_arrays(inner("inside", arrays)),
            {name: cls.from_arrays(task) for name, task in given.items()},
        )


@dataclass(frozen=True, eq=False)
class Piece:
    """The tallies of every task, by its name, in order; `a + b` is the piece of both sets of rows.

    apart: pieces of some of the rows, by name, such as those with an unknown item.
    """

    tasks: dict[str, TaskTally]
    apart: dict[str, Piece] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        logits: np.ndarray,
        groups: np.ndarray,
        scenarios: np.ndarray,
        scenario_values: Sequence[str],
        tasks: Sequence[str] = (),
        *,
        weights: np.ndarray | None = None,
        k: int = NDCG_K,
    ) -> Piece:
        """The tallies of N rows.

        labels, logits: [N] or [N, T]; groups, weights, k: as in `Rows`; scenarios: int [N], indices into
        scenario_values. Without tasks there is one, without a name. Raises MetricError for an index without a name or
        tasks that do not fit the logits.
        """
        labels_NT, logits_NT = (a[:, None] if a.ndim == 1 else a for a in map(np.asarray, (labels, logits)))
        names = list(tasks) or [""]
        if len(names) != logits_NT.shape[1] or labels_NT.shape != logits_NT.shape:
            raise MetricError(f"labels {labels_NT.shape} and logits {logits_NT.shape} do not fit tasks {list(tasks)}")
        groups = group_codes(groups, len(labels_NT))
        rows = {name: Rows(labels_NT[:, t], logits_NT[:, t], groups, weights, k) for t, name in enumerate(names)}
        return cls.of_rows(rows, scenarios, scenario_values)

    @classmethod
    def of_rows(cls, tasks: Mapping[str, Rows], scenarios: np.ndarray, scenario_values: Sequence[str]) -> Piece:
        """The tallies of N rows with all that is known of them, by task. Raises MetricError as `of` does."""
        scenarios = np.asarray(scenarios)
        return cls({name: TaskTally.of(rows, scenarios, scenario_values) for name, rows in tasks.items()})

    @classmethod
    def merged(cls, pieces: Iterable[Piece]) -> Piece:
        """The sum of one or more pieces, with one sort a scenario. Raises MetricError where tasks differ."""
        pieces = list(pieces)
        for piece in pieces:
            if list(piece.tasks) != list(pieces[0].tasks):
                raise MetricError(f"pieces of tasks {list(pieces[0].tasks)} and {list(piece.tasks)} have no sum")
        tasks = by_name([piece.tasks for piece in pieces], TaskTally.merged)
        return cls(tasks, by_name([piece.apart for piece in pieces], Piece.merged))

    def __add__(self, other: Piece) -> Piece:
        return Piece.merged((self, other))

    def to_arrays(self) -> Arrays:
        """Plain numeric and string arrays by name, such as `numpy.savez` writes; no objects."""
        tasks, apart = (
            packed({name: part.to_arrays() for name, part in parts.items()}) for parts in (self.tasks, self.apart)
        )
        return under("tasks", tasks) | under("apart", apart)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Piece:
        """What `to_arrays` was given by. Raises MetricError when an array is missing."""
        tasks, apart = (unpacked(inner(name, arrays)) for name in ("tasks", "apart"))
        return cls(
            {name: TaskTally.from_arrays(task) for name, task in tasks.items()},
            {name: cls.from_arrays(piece) for name, piece in apart.items()},
        )


def piece_of_group(groups: np.ndarray, pieces: int) -> np.ndarray:
    """int64 [N]: which of so many pieces the rows of each group belong to, the same on every machine and in every call.

    groups: [N] integers or strings, of one type in all calls. Pieces get about equally many groups.
    """
    groups = np.asarray(groups)
    if np.issubdtype(groups.dtype, np.integer):
        return (_mixed(groups.astype(np.uint64)) % np.uint64(pieces)).astype(np.int64)
    values, codes = np.unique(groups.astype(np.str_), return_inverse=True)
    digests = (hashlib.blake2b(value.encode(), digest_size=8).digest() for value in values.tolist())
    return np.array([int.from_bytes(digest, "little") % pieces for digest in digests], np.int64)[codes]


def _mixed(keys: np.ndarray) -> np.ndarray:
    """splitmix64 (Steele et al., OOPSLA 2014): neighbouring integers become far ones."""
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def by_name(pieces: Sequence[Mapping[str, Any]], merged: Callable[[list[Any]], Any]) -> dict[str, Any]:
    """What is under the same name in several pieces, merged."""
    names = dict.fromkeys(name for piece in pieces for name in piece)
    return {name: merged([piece[name] for piece in pieces if name in piece]) for name in names}
