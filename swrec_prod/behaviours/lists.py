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
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column, Ragged, spread, stacked
from swrec_prod.schema import Feature

UNKNOWN = 0  # the time of a behaviour of which it is not known
SECOND = 1e6  # in microseconds


class Behaviours(NamedTuple):
    """Behaviours side by side, M of them.

    parts: item and fields by name: ids int32 [M], numbers float32 [M], bags Ragged over M behaviours.
    scenario: indices, int32 [M]. time: microseconds, int64 [M], UNKNOWN where it is not known.
    """

    parts: dict[str, Column]
    scenario: np.ndarray
    time: np.ndarray

    def take(self, index: np.ndarray) -> Behaviours:
        """Those at `index`."""
        parts = {
            name: part.take(index) if isinstance(part, Ragged) else part[index] for name, part in self.parts.items()
        }
        return Behaviours(parts, self.scenario[index], self.time[index])

    def followed_by(self, other: Behaviours) -> Behaviours:
        """These and then the others, which have the same parts."""
        parts = {name: stacked([part, other.parts[name]]) for name, part in self.parts.items()}
        scenario, time = (np.concatenate(pair) for pair in zip(self[1:], other[1:], strict=True))
        return Behaviours(parts, scenario, time)


class LatestBehaviours(NamedTuple):
    """The latest behaviours of every user so far, oldest first: `users[u]` has [offsets[u], offsets[u + 1]).

    users: string [U]; offsets: int64 [U + 1].
    """

    users: pa.Array
    offsets: np.ndarray
    behaviours: Behaviours

    @classmethod
    def of_nobody(cls, like: Behaviours) -> LatestBehaviours:
        """No user has a history yet. like: some behaviours, for their parts."""
        nothing = like.take(np.zeros(0, np.int64))
        return cls(pa.array([], pa.string()), np.zeros(1, np.int64), nothing)

    def without(self, users: pa.Array) -> LatestBehaviours:
        """The latest behaviours of all other users."""
        others = np.flatnonzero(~pc.is_in(self.users, users).to_numpy(zero_copy_only=False))
        index, offsets = spread(self.offsets[others], self.offsets[others + 1] - self.offsets[others])
        return LatestBehaviours(self.users.take(pa.array(others)), offsets, self.behaviours.take(index))

    def combined_with(self, other: LatestBehaviours) -> LatestBehaviours:
        """The behaviours of both, which have no user in common."""
        offsets = np.concatenate((self.offsets, self.offsets[-1] + other.offsets[1:]))
        together = self.behaviours.followed_by(other.behaviours)
        return LatestBehaviours(pa.concat_arrays([self.users, other.users]), offsets, together)

    def then(self, later: LatestBehaviours, longest: int | None) -> LatestBehaviours:
        """Of every user the behaviours here and then the later ones, of both together the `longest` latest."""
        merged = self.of(later.users).merged_with(later)
        return self.without(later.users).combined_with(merged.shortened(longest))

    def of(self, users: pa.Array) -> LatestBehaviours:
        """The behaviours of `users`, in their order; a user may have none."""
        at = pc.index_in(users, self.users).fill_null(-1).to_numpy().astype(np.int64)
        counts = np.append(np.diff(self.offsets), 0)[at]  # the last one is for at == -1
        index, offsets = spread(np.append(self.offsets[:-1], 0)[at], counts)
        return LatestBehaviours(users, offsets, self.behaviours.take(index))

    def merged_with(self, later: LatestBehaviours) -> LatestBehaviours:
        """For each user these and then the later ones; both have the same users."""
        earlier_count, later_count = np.diff(self.offsets), np.diff(later.offsets)
        offsets = self.offsets + later.offsets
        place = np.empty(offsets[-1], np.int64)
        place[spread(offsets[:-1], earlier_count)[0]] = np.arange(self.offsets[-1])
        place[spread(offsets[:-1] + earlier_count, later_count)[0]] = self.offsets[-1] + np.arange(later.offsets[-1])
        return LatestBehaviours(self.users, offsets, self.behaviours.followed_by(later.behaviours).take(place))

    def shortened(self, longest: int | None) -> LatestBehaviours:
        """The `longest` latest of every user."""
        if longest is None:
            return self
        start = np.maximum(self.offsets[:-1], self.offsets[1:] - longest)
        index, offsets = spread(start, self.offsets[1:] - start)
        return LatestBehaviours(self.users, offsets, self.behaviours.take(index))


class Sequence(NamedTuple):
    """The lists of one sequence feature: row i of a table has behaviours [start[i], stop[i]), oldest first.

    moment: of the rows, int64 microseconds [N]. ages: the sequence's encoders, where the age of behaviours is asked
    for.
    """

    name: str
    start: np.ndarray
    stop: np.ndarray
    behaviours: Behaviours
    moment: np.ndarray
    ages: Encoders | None = None

    def columns(self, first: int, last: int) -> dict[str, pa.Array]:
        """The columns `<name>.<part>` of rows [first, last) as lists (see data/day_files.py).

        Made for some rows at a time: all lists together are many times larger than the table.
        """
        start = self.start[first:last]
        lengths = self.stop[first:last] - start
        index, offsets = spread(start, lengths)
        lists: dict[str, pa.Array] = {}
        for name, part in self.behaviours.parts.items():
            lists |= _lists(f"{self.name}.{name}", part, index, offsets)
        lists[f"{self.name}.scenario"] = list_array(Ragged(self.behaviours.scenario[index], offsets))
        time = self.behaviours.time[index]
        if self.ages is None:
            lists[f"{self.name}.time"] = list_array(Ragged(time, offsets)).cast(pa.list_(MICROSECONDS))
            return lists
        ages = age(self.ages, self.name, np.repeat(self.moment[first:last], lengths), time)
        return lists | {f"{self.name}.age": list_array(Ragged(ages, offsets))}


def age(encoders: Encoders, sequence: str, moment: np.ndarray, time: np.ndarray) -> np.ndarray:
    """How long before `moment` a behaviour at `time` was, int32 [N] buckets; both int64 microseconds [N]."""
    seconds = (moment - time) / SECOND
    seconds[time == UNKNOWN] = np.nan
    return encoders.encode(f"{sequence}.age", seconds)  # type: ignore[return-value]


def _lists(name: str, part: Column, index: np.ndarray, offsets: np.ndarray) -> dict[str, pa.Array]:
    """The lists of one part; of a bag the values of all behaviours, and how many each has."""
    if not isinstance(part, Ragged):
        return {name: list_array(Ragged(part[index], offsets))}
    bags = part.take(index)
    lengths = np.diff(bags.offsets).astype(np.int32)
    return {
        name: list_array(Ragged(bags.values, bags.offsets[offsets])),
        f"{name}.length": list_array(Ragged(lengths, offsets)),
    }


def sequence(
    feature: Feature,
    user: pa.Array,
    before: np.ndarray,
    happened: np.ndarray,
    rows: Behaviours,
    latest: LatestBehaviours,
    ages: Encoders | None = None,
) -> tuple[Sequence, LatestBehaviours]:
    """The lists of one feature for N rows in order of (time, row), and the latest behaviours for the rows after them.

    user: string [N]. before: int64 [N], behaviours of the user among these rows strictly before the row. happened: bool
    [N], whether the row is a behaviour; rows: what it is as one. latest: behaviours of the days before, which all are
    earlier. ages: the encoders, where the age of behaviours is asked for.
    """
    coded = user.dictionary_encode()
    code, users = coded.indices.to_numpy(), coded.dictionary
    new = np.flatnonzero(happened)
    new = new[np.argsort(code[new], kind="stable")]  # user by user, by (time, row) within
    new_offsets = np.concatenate(([0], np.cumsum(np.bincount(code[new], minlength=len(users)))))
    old = latest.of(users)
    own = old.merged_with(LatestBehaviours(users, new_offsets, rows.take(new)))
    begin, longest = own.offsets[:-1], feature.max_length
    stop = (begin + np.diff(old.offsets))[code] + before
    start = begin[code] if longest is None else np.maximum(begin[code], stop - longest)
    lists = Sequence(feature.name, start, stop, own.behaviours, rows.time, ages)
    return lists, latest.without(users).combined_with(own.shortened(longest))
