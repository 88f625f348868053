"""Values that may be too many for memory: put away one after the other, and taken out in the same order."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class Shelf(Generic[T]):
    """path: the file that values go to, anything that can be pickled; None keeps them in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._values: list[T] = []

    def put(self, value: T) -> None:
        """Add a value behind the others."""
        if self._path is None:
            self._values.append(value)
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                pickle.dump(value, file, protocol=5)

    def __iter__(self) -> Iterator[T]:
        """All values; from a file, one at a time."""
        if self._path is None:
            yield from self._values
        elif self._path.exists():
            with self._path.open("rb") as file:
                size = self._path.stat().st_size
                while file.tell() < size:
                    yield pickle.load(file)

    def clear(self) -> None:
        """Drop all values."""
        self._values = []
        if self._path is not None:
            self._path.unlink(missing_ok=True)
