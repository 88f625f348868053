"""Ranks that are threads of this process: what the exchange between ranks does, without processes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError
from typing import Any, TypeVar

T = TypeVar("T")
WAIT = 20  # seconds; a rank that is alone with a collective breaks it for all


class FakeRank:
    """One of them. largest: the bytes of the largest parcel that came to it."""

    def __init__(self, rank: int, board: list[Any], barrier: Barrier) -> None:
        self.rank, self.world_size, self._board, self._barrier = rank, len(board), board, barrier
        self.largest = 0

    def to_all(self, value: T) -> list[T]:
        self._board[self.rank] = pickle.dumps(value)
        self._barrier.wait(WAIT)
        everyone = [pickle.loads(of) for of in self._board]
        self._barrier.wait(WAIT)
        return everyone

    def exchange(self, parcels: Sequence[T]) -> list[T]:
        assert len(parcels) == self.world_size
        self._board[self.rank] = [pickle.dumps(parcel) for parcel in parcels]
        self._barrier.wait(WAIT)
        mine = [of[self.rank] for of in self._board]
        self._barrier.wait(WAIT)
        self.largest = max(self.largest, sum(map(len, mine)))
        return [pickle.loads(parcel) for parcel in mine]


def on_ranks(world_size: int, work: Callable[[FakeRank], T]) -> list[T]:
    """What `work` gives on each of so many ranks; what one of them raises is raised, and ends the others."""
    board, barrier, failures = [None] * world_size, Barrier(world_size), []

    def one(rank: int) -> T | None:
        try:
            return work(FakeRank(rank, board, barrier))
        except BrokenBarrierError:  # of another one's failure
            return None
        except BaseException as failure:
            failures.append(failure)
            barrier.abort()
            return None

    with ThreadPoolExecutor(world_size) as pool:
        results = list(pool.map(one, range(world_size)))
    if failures:
        raise failures[0]
    return results
