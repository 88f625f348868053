"""Who takes which rows of a window, so that a rank needs to read only a part of it although all of it is shuffled.

A window is cut into *lanes* of consecutive rows, equally many in each. Every lane is shuffled on its own, and the
window's order deals one row of every lane in turn, round after round: it knows nothing of ranks. A rank owns
neighbouring lanes, hence consecutive rows of the files, and takes of every step what the step holds of its lanes. The
turns visit the lanes as a van der Corput sequence does (halves, then quarters, ...: van der Corput,
Verteilungsfunktionen, 1935), so any step, however short, holds nearly as many rows of one rank as of another: exactly
as many for 2, 4, ... 64 ranks, otherwise a few more or fewer.

960 lanes share out evenly among most numbers of ranks. Windows too small for lanes, steps too short for them (tiny
batches) and the last rows of a window that a run resumes with are read by every rank, and every step of them is shared
row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from swrec_prod.data.windows import count_steps, share, steps

LANES = 960
ROWS_A_LANE = 16  # at least; a smaller window is decoded in milliseconds, and shuffled as a whole

Draw = Callable[[int], np.random.Generator]


class Batches(NamedTuple):
    """Rows of a step, all ranks together: at least `smallest`, so that every rank has one, and at most `largest`."""

    smallest: int
    largest: int


@dataclass(frozen=True)
class Share:
    """What one rank takes of a window of `rows` rows, of which `begin` are done. own: its lanes; count: the steps left.

    rank, world_size: how the rows of `own` are shared out, where they are not all this rank's.
    """

    rows: int
    begin: int
    lanes: int
    own: range
    count: int
    rank: int = 0
    world_size: int = 1

    @property
    def span(self) -> tuple[int, int]:
        """The rows of the window, in file order, that the rank needs to decode."""
        starts = lane_starts(self.rows, self.lanes)
        return int(starts[self.own.start]), int(starts[self.own.stop])

    def order(self, draw: Draw | None) -> np.ndarray:
        """The rows of the span in the order they are taken, counted from its first: int32.

        draw: by lane; None: file order.
        """
        starts = lane_starts(self.rows, self.lanes)
        turns = self._turns
        table = np.empty((len(turns), -(-self.rows // self.lanes)), np.int32)
        for line, lane in zip(table, turns.tolist(), strict=True):
            size = int(starts[lane + 1] - starts[lane])
            line[:size] = np.arange(size, dtype=np.int32) if draw is None else draw(lane).permutation(size)
            line[:size] += starts[lane] - starts[self.own.start]
        first, last = self.span
        return table.T.reshape(-1)[: last - first]  # lanes that are a row shorter have the later turns

    def steps(self) -> Iterator[tuple[slice, int]]:
        """Of every step that is left: the rank's part of `order`, and the rows of the window that are done after it."""
        turns = np.flatnonzero(self._owned)
        for start, stop in steps(self.begin, self.rows, self.count):
            before, after = (
                p // self.lanes * len(turns) + int(np.searchsorted(turns, p % self.lanes)) for p in (start, stop)
            )
            yield slice(*share(before, after, self.rank, self.world_size)), stop

    @property
    def _owned(self) -> np.ndarray:
        """Which turns of a round are those of own lanes: bool [lanes]."""
        turns = lane_turns(self.lanes)
        return (turns >= self.own.start) & (turns < self.own.stop)

    @property
    def _turns(self) -> np.ndarray:
        """The own lanes in the order of their turns."""
        return lane_turns(self.lanes)[self._owned]


@dataclass(frozen=True)
class Shares:
    """The shares of one rank of all windows.

    shuffle: rows are shuffled, otherwise each rank has its part in file order.
    max_lanes: of a window that has rows_a_lane rows or more for each; a smaller window is one lane.
    rows_a_step: of all ranks together, at most; 0: as many as let no rank have more than batch_size. Given, steps are
    the same at any number of ranks, and a rank may have a few rows more.
    """

    rank: int
    world_size: int
    batch_size: int
    shuffle: bool
    max_lanes: int = LANES
    rows_a_lane: int = ROWS_A_LANE
    rows_a_step: int = 0

    def of(self, rows: int, begin: int = 0) -> Share:
        """The share of what is left of a window; rows - begin must be at least world_size."""
        lanes = self.lanes(rows)
        left = rows - begin
        sizes = step_sizes(lanes, self.world_size, self.batch_size)
        if left < sizes.smallest or sizes.largest < 2 * sizes.smallest:  # which stays as it is from step to step
            count = count_steps(left, self.world_size, self.rows_a_step or self.world_size * self.batch_size)
            return Share(rows, begin, lanes, range(lanes), count, self.rank, self.world_size)
        count = count_steps(left, sizes.smallest, self.rows_a_step or sizes.largest)
        return Share(rows, begin, lanes, range(*share(0, lanes, self.rank, self.world_size)), count)

    def lanes(self, rows: int) -> int:
        """How many lanes a window has.

        Shuffled, that must not depend on the ranks: they may be others when the run resumes.
        """
        if not self.shuffle:
            return self.world_size
        return self.max_lanes if rows >= self.max_lanes * self.rows_a_lane else 1


@lru_cache(maxsize=8)
def lane_turns(lanes: int) -> np.ndarray:
    """The lane of every turn of a round: int64 [lanes]. The digits of the turn, reversed, are those of the lane."""
    rest, lane = np.arange(lanes), np.zeros(lanes, np.int64)
    for base in _factors(lanes):
        rest, digit = np.divmod(rest, base)
        lane = lane * base + digit
    return lane


@lru_cache(maxsize=8)
def lane_starts(rows: int, lanes: int) -> np.ndarray:
    """The first row of every lane of a window, and `rows`: int64 [lanes + 1].

    What does not divide goes to the first turns.
    """
    sizes = np.full(lanes, rows // lanes)
    sizes[lane_turns(lanes)[: rows % lanes]] += 1
    return np.concatenate([[0], np.cumsum(sizes)])


@lru_cache(maxsize=8)
def step_sizes(lanes: int, world_size: int, batch_size: int) -> Batches:
    """The steps in which every rank has 1 to batch_size rows of its lanes, wherever they begin;
    largest 0 where there are none.

    A rank with m of L lanes has s * m / L rows of a step of s rows, give or take E / L at most, where E is how far L
    times the number of its turns among the first j strays from j * m.
    """
    bounds = np.array([share(0, lanes, rank, world_size)[0] for rank in range(world_size)] + [lanes])
    m = np.diff(bounds)
    if m.min() == 0:
        return Batches(1, 0)
    taken = np.zeros((lanes + 1, world_size), np.int64)
    taken[np.arange(1, lanes + 1), np.searchsorted(bounds, lane_turns(lanes), side="right") - 1] = 1
    strays = lanes * np.cumsum(taken, axis=0) - np.arange(lanes + 1)[:, None] * m
    wide = strays.max(axis=0) - strays.min(axis=0)
    return Batches(int((wide // m).max()) + 1, int((((batch_size + 1) * lanes - 1 - wide) // m).min()))


def _factors(number: int) -> list[int]:
    """The prime factors of a number, in ascending order."""
    for prime in range(2, int(number**0.5) + 1):
        if number % prime == 0:
            return [prime, *_factors(number // prime)]
    return [number]
