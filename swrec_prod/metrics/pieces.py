"""Judged rows in pieces: of every task and scenario what its rows add up to, as arrays that can be sent and kept.

    whole = Piece.merged([Piece.of(...) of each rank, day or file])     or piece + piece
    whole.record()                                                      what metrics.json says of all rows together

Everything but what is measured inside groups (GAUC, NDCG) is exact however rows are cut. Those are exact where all rows
of a group are in one piece: deal rows by `piece_of_group`. Where a group is in several pieces, as a user is in several
days, the sum takes it for several groups, a user on a day each.

Shapes: N rows, T tasks, S scenarios, K distinct scores of all scenarios together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from swrec_prod.errors import MetricError
from swrec_prod.metrics.ranks import COLUMNS, RankStatistic
from swrec_prod.metrics.tally import NDCG_K, Rows, Tally, group_sums
from swrec_prod.metrics.within_groups import GroupSums, group_codes

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class TaskTally:
    """The tallies of one task. scenarios: by value, also values without rows. grouped: the sums over the groups of all
    scenarios together, as a user's rows in several scenarios are one group. given: by the task that this one follows,
    the tallies of the rows where that one happened.
    """

    scenarios: dict[str, Tally]
    grouped: dict[str, GroupSums]
    given: dict[str, TaskTally] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Rows, scenarios: np.ndarray, names: Sequence[str]) -> TaskTally:
        """scenarios: int [N], indices into names. Raises MetricError for an index without a name."""
        if len(scenarios) and not 0 <= scenarios.min() <= scenarios.max() < len(names):
            least, most = scenarios.min(), scenarios.max()
            raise MetricError(f"scenario indices run from {least} to {most}, but {len(names)} scenarios are named")
        order = np.argsort(scenarios, kind="stable")
        parts = np.split(order, np.searchsorted(scenarios[order], np.arange(1, len(names))))
        tallies = {name: Tally.of(rows.take(part)) for name, part in zip(names, parts, strict=True)}
        return cls(tallies, group_sums(rows))

    @classmethod
    def merged(cls, pieces: Sequence[TaskTally]) -> TaskTally:
        """The sum of one or more pieces."""
        scenarios = _by_name([piece.scenarios for piece in pieces], Tally.merged)
        grouped = _by_name([piece.grouped for piece in pieces], lambda sums: sum(sums, GroupSums()))
        return cls(scenarios, grouped, _by_name([piece.given for piece in pieces], TaskTally.merged))

    def overall(self) -> Tally:
        """The tally of all scenarios together."""
        return replace(Tally.merged(list(self.scenarios.values())), grouped=self.grouped)

    def to_arrays(self) -> Arrays:
        """Plain numeric and string arrays by name; `from_arrays` makes the same tallies of them."""
        tallies = list(self.scenarios.values())
        weighted = any(tally.squares is not None for tally in tallies)
        statistics = {"scores": [t.scores for t in tallies]}
        if weighted:
            statistics["squares"] = [t.squares or t.scores for t in tallies]
        grouped = [*(t.grouped for t in tallies), self.grouped]
        arrays = {
            "scenario": np.array(list(self.scenarios), np.str_),
            "counts": np.array([t.counts for t in tallies], np.int64).reshape(-1, 5),
            "sizes": np.array([len(t.scores.score_K) for t in tallies], np.int64),
            "metric": np.array(list(self.grouped), np.str_),
            "grouped": np.array([[of[name].as_tuple() for name in self.grouped] for of in grouped], np.float64),
        }
        for kind, of_scenarios in statistics.items():
            arrays |= {f"{kind}/{c}": np.concatenate([getattr(s, c) for s in of_scenarios]) for c in COLUMNS}
        for first, task in self.given.items():
            arrays |= {f"given/{first}/{name}": array for name, array in task.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> TaskTally:
        """What `to_arrays` was given by. Raises MetricError when an array is missing."""
        own, given = _parted(arrays, "given/")
        names, metrics = (_array(own, name).tolist() for name in ("scenario", "metric"))
        *grouped, overall = (_group_sums(metrics, sums) for sums in _array(own, "grouped"))
        scores = _statistics(own, "scores")
        squares = _statistics(own, "squares") if "squares/score_K" in own else [None] * len(scores)
        tallies = map(Tally, _array(own, "counts"), scores, squares, grouped)
        return cls(
            dict(zip(names, tallies, strict=True)),
            overall,
            {first: cls.from_arrays(task) for first, task in given.items()},
        )


@dataclass(frozen=True, eq=False)
class Piece:
    """The tallies of every task, by its name, in order; `a + b` is the piece of both sets of rows."""

    tasks: dict[str, TaskTally]

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
        groups, scenarios = group_codes(groups, len(labels_NT)), np.asarray(scenarios)
        rows = (Rows(labels_NT[:, t], logits_NT[:, t], groups, weights, k) for t in range(len(names)))
        return cls({name: TaskTally.of(own, scenarios, scenario_values) for name, own in zip(names, rows, strict=True)})

    @classmethod
    def merged(cls, pieces: Iterable[Piece]) -> Piece:
        """The sum of one or more pieces, with one sort a scenario. Raises MetricError where tasks differ."""
        pieces = list(pieces)
        for piece in pieces:
            if list(piece.tasks) != list(pieces[0].tasks):
                raise MetricError(f"pieces of tasks {list(pieces[0].tasks)} and {list(piece.tasks)} have no sum")
        return cls(_by_name([piece.tasks for piece in pieces], TaskTally.merged))

    def __add__(self, other: Piece) -> Piece:
        return Piece.merged((self, other))

    def to_arrays(self) -> Arrays:
        """Plain numeric and string arrays by name, such as `numpy.savez` writes; no objects."""
        return {f"{name}/{key}": array for name, task in self.tasks.items() for key, array in task.to_arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Piece:
        """What `to_arrays` was given by. Raises MetricError when an array is missing."""
        return cls({name: TaskTally.from_arrays(task) for name, task in _parted(arrays, "")[1].items()})


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


def _by_name(pieces: Sequence[Mapping[str, Any]], merged: Callable[[list[Any]], Any]) -> dict[str, Any]:
    """What is under the same name in several pieces, merged."""
    names = dict.fromkeys(name for piece in pieces for name in piece)
    return {name: merged([piece[name] for piece in pieces if name in piece]) for name in names}


def _parted(arrays: Mapping[str, np.ndarray], prefix: str) -> tuple[Arrays, dict[str, Arrays]]:
    """The arrays whose names do not begin with the prefix, and the others by the word behind it."""
    own: Arrays = {}
    parts: dict[str, Arrays] = {}
    for name, array in arrays.items():
        if not name.startswith(prefix):
            own[name] = array
            continue
        word, _, rest = name.removeprefix(prefix).partition("/")
        parts.setdefault(word, {})[rest] = array
    return own, parts


def _array(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise MetricError(f"a piece of judged rows lacks the array {name!r}; it has {', '.join(arrays) or 'none'}")
    return arrays[name]


def _statistics(arrays: Mapping[str, np.ndarray], kind: str) -> list[RankStatistic]:
    """The statistic of each scenario."""
    ends = np.cumsum(_array(arrays, "sizes"))[:-1]
    columns = [np.split(_array(arrays, f"{kind}/{column}"), ends) for column in COLUMNS]
    return [RankStatistic(*of) for of in zip(*columns, strict=True)]


def _group_sums(metrics: Sequence[str], sums: np.ndarray) -> dict[str, GroupSums]:
    return {
        name: GroupSums(float(total), float(weight), *map(int, counts))
        for name, (total, weight, *counts) in zip(metrics, sums, strict=True)
    }
