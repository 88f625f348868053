"""Behaviours as flat arrays: the latest of every user on the days before (LatestBehaviours),
and the lists of the rows of one table (Sequence).

Which behaviours a row has was decided by the engine (windowed.py): it says how many came before. Here they are only
fetched, and they lie user by user, so that a row's list is one run of neighbouring values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.data.day_files import MICROSECONDS, list_array
from swrec_prod.encoding.pack import Ragged, spread


class Behaviours(NamedTuple):
    """Items (ids), scenarios (indices), times (microseconds) of behaviours, side by side: int32, int32, int64 [M]."""

    item: np.ndarray
    scenario: np.ndarray
    time: np.ndarray

    def take(self, index: np.ndarray) -> Behaviours:
        """Those at `index`."""
        return Behaviours(self.item[index], self.scenario[index], self.time[index])


class LatestBehaviours(NamedTuple):
    """The latest behaviours of every user so far, oldest first: `users[u]` has [offsets[u], offsets[u + 1]).

    users: string [U]; offsets: int64 [U + 1].
    """

    users: pa.Array
    offsets: np.ndarray
    behaviours: Behaviours

    @classmethod
    def empty(cls) -> LatestBehaviours:
        """No user has a history yet."""
        nothing = Behaviours(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64))
        return cls(pa.array([], pa.string()), np.zeros(1, np.int64), nothing)

    @classmethod
    def of_table(cls, rows: pa.Table) -> LatestBehaviours:
        """rows: as windowed.latest gives them, in any order."""
        rows = rows.sort_by([("user", "ascending"), ("time", "ascending"), ("row", "ascending")])
        coded = rows["user"].combine_chunks().dictionary_encode()
        counts = np.bincount(coded.indices.to_numpy(), minlength=len(coded.dictionary))
        time = rows["time"].cast(pa.int64()).to_numpy()
        behaviours = Behaviours(rows["item"].to_numpy(), rows["scenario"].to_numpy(), time)
        return cls(coded.dictionary.cast(pa.string()), np.concatenate(([0], np.cumsum(counts))), behaviours)

    def without(self, users: pa.Array) -> LatestBehaviours:
        """The latest behaviours of all other users."""
        others = np.flatnonzero(~pc.is_in(self.users, users).to_numpy(zero_copy_only=False))
        index, offsets = spread(self.offsets[others], self.offsets[others + 1] - self.offsets[others])
        return LatestBehaviours(self.users.take(pa.array(others)), offsets, self.behaviours.take(index))

    def combined_with(self, other: LatestBehaviours) -> LatestBehaviours:
        """The behaviours of both, which have no user in common."""
        offsets = np.concatenate((self.offsets, self.offsets[-1] + other.offsets[1:]))
        behaviours = Behaviours(*map(np.concatenate, zip(self.behaviours, other.behaviours, strict=True)))
        return LatestBehaviours(pa.concat_arrays([self.users, other.users]), offsets, behaviours)


class Sequence(NamedTuple):
    """The lists of one sequence feature: row i of a table has behaviours [start[i], stop[i]), oldest first."""

    name: str
    start: np.ndarray
    stop: np.ndarray
    behaviours: Behaviours

    def columns(self, first: int, last: int) -> dict[str, pa.Array]:
        """`<name>.item`, `<name>.scenario`, `<name>.time` of rows [first, last) as lists.

        Made for some rows at a time: all lists together are many times larger than the table.
        """
        start = self.start[first:last]
        index, offsets = spread(start, self.stop[first:last] - start)
        parts = self.behaviours._asdict().items()
        lists = {f"{self.name}.{part}": list_array(Ragged(values[index], offsets)) for part, values in parts}
        lists[f"{self.name}.time"] = lists[f"{self.name}.time"].cast(pa.list_(MICROSECONDS))
        return lists


def sequence(
    name: str,
    user: pa.Array,
    before: np.ndarray,
    happened: np.ndarray,
    rows: Behaviours,
    max_length: int | None,
    latest: LatestBehaviours,
) -> tuple[Sequence, LatestBehaviours]:
    """The lists of one feature for N rows in order of (time, row), and the latest behaviours for the rows after them.

    user: string [N]. before: int64 [N], behaviours of the user among these rows strictly before the row. happened: bool
    [N], whether the row is a behaviour; rows: its item, scenario and time. latest: behaviours of the days before,
    which all are earlier.
    """
    coded = user.dictionary_encode()
    code, users = coded.indices.to_numpy(), coded.dictionary
    new = np.flatnonzero(happened)
    new = new[np.argsort(code[new], kind="stable")]  # user by user, by (time, row) within
    new_count = np.bincount(code[new], minlength=len(users))
    old_start, old_count = _owned(latest, users)
    begin = np.concatenate(([0], np.cumsum(old_count + new_count)))
    own = _merged(latest.behaviours, old_start, old_count, rows.take(new), new_count, begin)
    stop = (begin[:-1] + old_count)[code] + before
    start = begin[:-1][code] if max_length is None else np.maximum(begin[:-1][code], stop - max_length)
    first = begin[:-1] if max_length is None else np.maximum(begin[:-1], begin[1:] - max_length)
    index, offsets = spread(first, begin[1:] - first)
    after = latest.without(users).combined_with(LatestBehaviours(users, offsets, own.take(index)))
    return Sequence(name, start, stop, own), after


def _owned(latest: LatestBehaviours, users: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Where the behaviours of each of `users` begin in `latest`, and how many there are: int64 [U] both."""
    at = pc.index_in(users, latest.users).fill_null(-1).to_numpy().astype(np.int64)
    counts = np.append(np.diff(latest.offsets), 0)  # the last one is for at == -1
    return np.append(latest.offsets[:-1], 0)[at], counts[at]


def _merged(
    old: Behaviours,
    old_start: np.ndarray,
    old_count: np.ndarray,
    new: Behaviours,
    new_count: np.ndarray,
    begin: np.ndarray,
) -> Behaviours:
    """For each user the old behaviours and then the new ones; user u's begin at begin[u]."""
    source, _ = spread(old_start, old_count)
    to_old, _ = spread(begin[:-1], old_count)
    to_new, _ = spread(begin[:-1] + old_count, new_count)
    merged = []
    for before, after in zip(old, new, strict=True):
        values = np.empty(begin[-1], after.dtype)
        values[to_old], values[to_new] = before[source], after
        merged.append(values)
    return Behaviours(*merged)
