"""How raw values become rows of an embedding table: Vocabulary, Hashing, Buckets. See encoders.py."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.encoding.raw_values import Values, check_strings, floats, integers, is_string, strings
from swrec_prod.encoding.stable_hash import hash_integers, hash_strings, hash_texts

RawType = Literal["string", "int64"]
MANY = 4096  # from here on equal strings are looked up once only


class Table(Protocol):
    """Raw values -> ids in [0, rows). `feature` is for error messages."""

    @property
    def rows(self) -> int:
        """The height of the embedding table, row 0 (unknown, missing) included."""

    def __call__(self, values: Values, feature: str) -> np.ndarray:
        """int32 [N]. Raises DataError for values of another type than the table was fitted on."""


class _Ids(dict[str, int]):
    """Ids by value; 0 for what is not there."""

    def __missing__(self, value: object) -> int:
        return 0


@dataclass(frozen=True)
class Vocabulary:
    """values: string or int64 [V]; the value at position i has id i + 1. counts: int64 [V], as seen when fitted."""

    values: pa.Array
    counts: pa.Array

    @classmethod
    def of_counts(cls, counted: pa.Table, min_count: int) -> Vocabulary:
        """Ids by falling count, then by value (strings by their UTF-8 bytes). counted: `value` (distinct), `count`."""
        counted = counted.filter(pc.greater_equal(counted["count"], min_count))
        counted = counted.sort_by([("count", "descending"), ("value", "ascending")])
        return cls(counted["value"].combine_chunks(), counted["count"].cast(pa.int64()).combine_chunks())

    def extended(self, counted: pa.Table, min_count: int) -> Vocabulary:
        """With ids behind the known ones for the other values of `counted`; no id moves.

        Known values keep their counts.
        """
        new = counted.filter(pc.invert(pc.is_in(counted["value"], self.values)))
        more = Vocabulary.of_counts(new, min_count)
        return Vocabulary(pa.concat_arrays([self.values, more.values]), pa.concat_arrays([self.counts, more.counts]))

    @property
    def rows(self) -> int:
        """V + 1."""
        return len(self.values) + 1

    def __call__(self, values: Values, feature: str) -> np.ndarray:
        """int32 [N]: the ids; 0 for unknown and missing values."""
        return (
            self._ids_of_strings(strings(values, feature), feature)
            if self.is_text
            else self._ids_of_integers(values, feature)
        )

    @cached_property
    def is_text(self) -> bool:
        """Whether the values are strings."""
        return is_string(self.values.type)

    @cached_property
    def _id_of(self) -> _Ids:
        return _Ids((value, i) for i, value in enumerate(self.values.to_pylist(), 1))

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """The known integers in rising order, and their ids."""
        known = self.values.to_numpy()
        order = np.argsort(known)
        return known[order], (order + 1).astype(np.int32)

    @cached_property
    def ids_from(self) -> tuple[int, np.ndarray] | None:
        """The smallest known integer, and the ids of all integers from it to the largest, 0 for unknown ones.

        None where that array would be too long.
        """
        known = self.values.to_numpy()
        low, high = (int(known.min()), int(known.max())) if len(known) else (0, 0)
        if not len(known) or high - low > max(8 * len(known), MANY):
            return None
        ids = np.zeros(high - low + 2, np.int32)  # the last one stays 0: what is outside is looked up there
        ids[known - low] = np.arange(1, len(known) + 1, dtype=np.int32)
        return low, ids

    def _ids_of_strings(self, values: pa.Array | list[str | None], feature: str) -> np.ndarray:
        if not isinstance(values, list):
            if len(values) > MANY:
                coded = values.dictionary_encode()
                ids = self._ids_of_strings(coded.dictionary.to_pylist(), feature)
                return np.append(ids, np.int32(0))[coded.indices.fill_null(len(ids)).to_numpy()]
            values = values.to_pylist()
        try:
            ids = np.fromiter(map(self._id_of.__getitem__, values), np.int32, len(values))
        except TypeError:  # a value that cannot be hashed, so no string
            check_strings(values, feature)
            raise
        if not ids.all():
            check_strings([values[i] for i in np.flatnonzero(ids == 0)], feature)
        return ids

    def _ids_of_integers(self, values: Values, feature: str) -> np.ndarray:
        numbers, missing = integers(values, feature)
        if self.ids_from is not None:
            low, ids = self.ids_from
            # as unsigned numbers, those below `low` are above the last one
            places = np.minimum((numbers - low).view(np.uint64), np.uint64(len(ids) - 1))
            looked_up = ids[places]
            return looked_up if missing is None else np.where(missing, np.int32(0), looked_up)
        known, ids = self._sorted
        if not len(known):
            return np.zeros(len(numbers), np.int32)
        at = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
        is_known = known[at] == numbers
        return np.where(is_known if missing is None else is_known & ~missing, ids[at], np.int32(0))


@dataclass(frozen=True)
class Hashing:
    """1 + hash(value) % buckets (stable_hash.py); a missing value -> 0. raw: the type that the training rows had."""

    buckets: int
    raw: RawType

    @property
    def rows(self) -> int:
        """buckets + 1."""
        return self.buckets + 1

    def __call__(self, values: Values, feature: str) -> np.ndarray:
        """int32 [N]."""
        if self.raw == "int64":
            numbers, missing = integers(values, feature)
            hashes = hash_integers(numbers)
        else:
            missing, hashes = _hashed_texts(strings(values, feature), feature)
        ids = (hashes % np.uint64(self.buckets)).astype(np.int32) + np.int32(1)
        return ids if missing is None else np.where(missing, np.int32(0), ids)


def _hashed_texts(texts: pa.Array | list[str | None], feature: str) -> tuple[np.ndarray | None, np.ndarray]:
    """Where texts are missing, bool [N] (None: nowhere), and their hashes."""
    if not isinstance(texts, list):
        missing = texts.is_null().to_numpy(zero_copy_only=False) if texts.null_count else None
        return missing, hash_strings(texts)
    check_strings(texts, feature)
    known = [text for text in texts if text is not None]
    if len(known) == len(texts):
        return None, hash_texts(known)
    return np.array([text is None for text in texts]), hash_texts([text or "" for text in texts])


@dataclass(frozen=True)
class Buckets:
    """1 + how many of `boundaries` are <= value; a missing value -> 0."""

    boundaries: tuple[float, ...]

    @property
    def rows(self) -> int:
        """One more bucket than boundaries, and row 0."""
        return len(self.boundaries) + 2

    def __call__(self, values: Values, feature: str) -> np.ndarray:
        """int32 [N]."""
        numbers = floats(values, feature)
        ids = np.searchsorted(self.boundaries, numbers, side="right").astype(np.int32)
        ids += 1
        ids[np.isnan(numbers)] = 0
        return ids
