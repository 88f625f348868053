"""Several columns of one row count, encoded in a handful of numpy calls for all of them: what their tables and scalers
make of each alone.

A request has many columns of few rows, where a numpy call costs more than its work.

Shapes: C id columns, F columns of numbers, N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from swrec_prod.encoding.lookups import Hashing, Table, Vocabulary
from swrec_prod.encoding.raw_values import FLOAT32_MAX
from swrec_prod.encoding.scaler import Scaler
from swrec_prod.encoding.stable_hash import hash_integers

LONGEST = 1 << 20  # entries of a vocabulary's array that is copied to stand with others; longer ones stay by themselves


class IntegerColumns:
    """tables: by column, those that take integers. names: the C columns in the order in which `__call__` wants them."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        direct = {name: place for name, table in tables.items() if (place := _direct(table)) is not None}
        hashed = {name: table.buckets for name, table in tables.items() if isinstance(table, Hashing)}
        self._rest = {name: table for name, table in tables.items() if name not in direct and name not in hashed}
        self.names = (*direct, *hashed, *self._rest)
        self._direct, self._hashed = _DirectTables(list(direct.values())), _column(list(hashed.values()), np.uint64)

    def __call__(self, values_CN: np.ndarray) -> np.ndarray:
        """values_CN: int64. Returns ids, int32 [C, N]."""
        direct, hashed = self._direct.columns, len(self._hashed)
        if direct == len(values_CN):
            return self._direct(values_CN)
        ids_CN = np.empty(values_CN.shape, np.int32)
        if direct:
            ids_CN[:direct] = self._direct(values_CN[:direct])
        if hashed:
            ids_CN[direct : direct + hashed] = hash_integers(values_CN[direct : direct + hashed]) % self._hashed
            ids_CN[direct : direct + hashed] += 1
        for i, (name, table) in enumerate(self._rest.items(), direct + hashed):
            ids_CN[i] = table(values_CN[i], name)
        return ids_CN


class _DirectTables:
    """Vocabularies whose ids lie in arrays (Vocabulary.ids_from), all of them one after the other."""

    def __init__(self, places: list[tuple[int, np.ndarray]]) -> None:
        sizes = [len(ids) for _, ids in places]
        self.columns = len(places)
        self._low = _column([low for low, _ in places], np.int64)
        self._last = _column([size - 1 for size in sizes], np.uint64)
        self._begin = _column(list(accumulate(sizes, initial=0))[:-1], np.uint64)
        self._ids = np.concatenate([ids for _, ids in places]) if places else np.zeros(0, np.int32)

    def __call__(self, values_CN: np.ndarray) -> np.ndarray:
        places = (values_CN - self._low).view(np.uint64)  # a value below the lowest becomes a very large one
        np.minimum(places, self._last, out=places)
        places += self._begin
        return self._ids.take(places.view(np.int64))


class NumberColumns:
    """scalers: by column. names: the F columns in the order in which `__call__` wants them.

    farthest: scaled numbers are held at most so far from 0.
    """

    def __init__(self, scalers: Mapping[str, Scaler], farthest: float = np.inf) -> None:
        self.names = tuple(scalers)
        self._scalers = dict(scalers)
        every = list(scalers.values())
        self._shift, self._scale, self._missing = (
            _column([getattr(scaler, name) for scaler in every], np.float64) for name in ("shift", "scale", "missing")
        )
        self._low = _column([-np.inf if scaler.low is None else scaler.low for scaler in every], np.float64)
        self._high = _column([np.inf if scaler.high is None else scaler.high for scaler in every], np.float64)
        self._is_held = any(scaler.low is not None for scaler in every)
        self._logs = [i for i, scaler in enumerate(every) if scaler.kind == "log1p"]
        ranges = [(0.0, 1.0) if scaler.kind == "minmax" else (-farthest, farthest) for scaler in every]
        self._least, self._most = (_column([ends[i] for ends in ranges], np.float64) for i in (0, 1))

    def __call__(self, numbers_FN: np.ndarray) -> np.ndarray:
        """numbers_FN: float64, NaN where missing. Returns float32 [F, N]. Raises DataError as the scalers do."""
        if (np.abs(numbers_FN) > FLOAT32_MAX).any() or (self._logs and (numbers_FN[self._logs] < 0).any()):
            self._refuse(numbers_FN)
        terms = np.minimum(np.maximum(numbers_FN, self._low), self._high) if self._is_held else numbers_FN.copy()
        for i in self._logs:
            np.log1p(terms[i], out=terms[i])
        scaled = np.where(np.isnan(terms), self._missing, terms)
        scaled -= self._shift
        scaled /= self._scale
        np.minimum(np.maximum(scaled, self._least, out=scaled), self._most, out=scaled)
        with np.errstate(over="ignore"):
            result = scaled.astype(np.float32)
        if not np.isfinite(result).all():
            self._refuse(numbers_FN)
        return result

    def _refuse(self, numbers_FN: np.ndarray) -> None:
        """Raises the DataError of the first column that has one."""
        for name, numbers in zip(self.names, numbers_FN, strict=True):
            self._scalers[name](numbers, name)


def _direct(table: Table) -> tuple[int, np.ndarray] | None:
    """Where the ids of a vocabulary begin, and these, if it is one of few integers that lie close together."""
    place = table.ids_from if isinstance(table, Vocabulary) and not table.is_text else None
    return place if place is not None and len(place[1]) <= LONGEST else None


def _column(values: Sequence[float], kind: type) -> np.ndarray:
    """[C, 1]"""
    return np.array(values, kind).reshape(-1, 1)
