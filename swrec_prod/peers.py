"""The processes that judge rows together, each with rows of its own: what judging asks of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from swrec_prod.errors import SwrecError

T = TypeVar("T")


class Peers(Protocol):
    """Every one of them calls the same methods in the same order. Values are whatever can be pickled."""

    @property
    def rank(self) -> int:
        """Which one this process is, from 0."""
        ...

    @property
    def world_size(self) -> int:
        """How many they are."""
        ...

    def to_all(self, value: T) -> list[T]:
        """The values of all ranks, in their order, on each of them: for what is small."""
        ...

    def exchange(self, parcels: Sequence[T]) -> list[T]:
        """Send parcels[r] to rank r, for every r; gives what came from each rank, in their order."""
        ...


class Alone:
    """One process, which has all rows."""

    rank, world_size = 0, 1

    def to_all(self, value: T) -> list[T]:
        """Its own value."""
        return [value]

    def exchange(self, parcels: Sequence[T]) -> list[T]:
        """Its parcel to itself."""
        return list(parcels)


ALONE = Alone()


def of_all(peers: Peers, action: Callable[[], T]) -> list[T]:
    """What `action` gives on every rank, in their order; what is wrong on one of them is raised on all, so that nobody
    waits for it.
    """
    try:
        mine: T | SwrecError = action()
    except SwrecError as failure:
        mine = failure
    everyone = peers.to_all(mine)
    for value in everyone:
        if isinstance(value, SwrecError):
            raise value
    return everyone  # type: ignore[return-value]  # none is an error
