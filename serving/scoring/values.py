"""A column's bytes as raw values, as encoders take them: over the message's own memory, and no larger than allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from swrec_prod.encoding.raw_values import RawLists
from swrec_prod.errors import RequestError, shown
from swrec_prod.serving.protocol.call import Column, Limits
from swrec_prod.serving.protocol.wire import FLOATS, INTS
from swrec_prod.serving.scoring.columns import ITEMS, Slot, lengths_name


class ColumnReader:
    """The raw values of one column. name, slot: its own; part: of the request; limits: what it may hold."""

    def __init__(self, name: str, slot: Slot, limits: Limits) -> None:
        self.name, self.part, self._slot, self._limits = name, slot.part, slot, limits
        self.where = f"{slot.part}: feature {name!r}"

    def rows(self, column: Column) -> int:
        """How many rows it has. Raises RequestError where that is not said."""
        if column.lengths is not None:
            return len(column.lengths)
        if self._slot.shape == "one":
            return len(column.values)
        if self.part == ITEMS:
            if len(column.values):
                raise RequestError(f"{self.where} holds several values a row and needs lengths, one a candidate")
            return 0
        return 1

    def known(self, column: Column) -> np.ndarray | None:
        """Of a column with one value a row: bool [N], in which rows it is known; None: in all.

        Raises RequestError for other lengths than 0 and 1.
        """
        if column.lengths is None:
            return None
        lengths = self._lengths(column.lengths, len(column.values))
        if lengths.max(initial=0) > 1:
            raise RequestError(f"{self.where} has one value a row, but lengths say {int(lengths.max())}")
        return None if lengths.all() else lengths > 0

    def integers(self, column: Column) -> np.ndarray | None:
        """int64 [N] of a column that holds an integer in every row; None for others."""
        values = column.values
        is_plain = column.lengths is None and isinstance(values, np.ndarray) and values.dtype == INTS
        return values if is_plain else None  # type: ignore[return-value]

    def texts(self, column: Column) -> np.ndarray | list[str]:
        """The values, whatever they are. Raises RequestError for a string that is too long."""
        values, longest = column.values, self._limits.text
        if isinstance(values, list) and values and (found := max(map(len, values))) > longest:
            raise RequestError(f"{self.where} has a text of {found} characters, allowed are {longest}; shorten it")
        return values

    def numbers(self, column: Column) -> np.ndarray:
        """float64 or int64 [N] of a column with one number a row, NaN where it is not known.

        Raises RequestError for one that is not finite.
        """
        values, known = self.finite(column), self.known(column)
        if known is None:
            return values
        spread = np.full(len(known), np.nan)
        spread[known] = values
        return spread

    def finite(self, column: Column) -> np.ndarray:
        """The numbers of all rows. Raises RequestError for text, and for a number that is not finite."""
        values = column.values
        if isinstance(values, list):
            if values:
                wrong = f"takes floats or ints, not strings such as {shown(values[0])}"
                raise RequestError(f"{self.where} is dense and {wrong}")
            return np.zeros(0)
        if values.dtype == FLOATS and not (finite := np.isfinite(values)).all():
            rule = "a dense value is finite, and left out (lengths 0) where it is unknown"
            raise RequestError(f"{self.where} has the value {values[~finite][0]}; {rule}")
        return values

    def whole(self, column: Column) -> Any:
        """The values of a column with one value a row: as they came, else an Arrow array with nulls."""
        values, known = self.texts(column), self.known(column)
        return values if known is None else _with_nulls(values, known)

    def lists(self, column: Column, most: int | None = None) -> RawLists:
        """The values of a column with several a row. most: how many a row may have."""
        values = self._checked(column)
        offsets = self._offsets(column, len(values))
        if most is not None and (longest := _longest(offsets)) > most:
            raise RequestError(f"{self.where} has {longest} values in a row, allowed are {most}; send fewer")
        return RawLists(values, offsets)

    def behaviours(self, column: Column, counts: Column | None, *, bag: bool) -> RawLists:
        """A column of behaviours. counts: the column `lengths_name`, where the request has it; bag: whether each has
        several values, which are a list of its own then.
        """
        values = self._checked(column)
        if counts is None:
            return RawLists(values, self._behaviours(self._offsets(column, len(values))))
        each = self._counts(counts, len(values), bag=bag)
        rows = self._behaviours(self._offsets(counts, len(each)))
        if bag:
            return RawLists(RawLists(values, _cumulated(each)), rows)
        return RawLists(values if each.all() else _with_nulls(values, each > 0), rows)

    def _checked(self, column: Column) -> np.ndarray | list[str]:
        return self.finite(column) if self._slot.number else self.texts(column)

    def _behaviours(self, offsets: np.ndarray) -> np.ndarray:
        """`offsets`. Raises RequestError where a row has too many behaviours."""
        longest, allowed = _longest(offsets), self._limits.behaviours
        if longest > allowed:
            raise RequestError(f"{self.where} has {longest} behaviours, allowed are {allowed}; send the latest")
        return offsets

    def _counts(self, counts: Column, total: int, *, bag: bool) -> np.ndarray:
        """How many values each behaviour has, int64."""
        each, name = counts.values, lengths_name(self.name)
        if isinstance(each, list) and not each:
            each = np.zeros(0, np.int64)
        if isinstance(each, list) or each.dtype != INTS or each.min(initial=0) < 0:
            raise RequestError(f"{self.part}: feature {name!r} holds counts, whole numbers >= 0")
        most = int(each.max(initial=0))
        if most > total or int(each.sum()) != total:
            raise RequestError(f"{self.where} has {total} values, but {name} counts {sum(each.tolist())}")
        if not bag and most > 1:
            raise RequestError(f"{self.where} has one value for each behaviour, but {most} are given")
        if most > self._limits.values:
            raise RequestError(
                f"{self.where} has {most} values for a behaviour, allowed are {self._limits.values}; send fewer"
            )
        return each

    def _offsets(self, column: Column, total: int) -> np.ndarray:
        """Which values are those of a row: int64 [B + 1]; all of them are a user's one row's where that is not said."""
        lengths = column.lengths
        if lengths is None:
            return np.array([0, total][: self.rows(column) + 1], np.int64)
        if len(lengths) == 1 and lengths[0] == total:
            return np.array([0, total], np.int64)
        return _cumulated(self._lengths(lengths, total))

    def _lengths(self, lengths: np.ndarray, total: int) -> np.ndarray:
        """`lengths` as int64. Raises RequestError where they do not fit the number of values."""
        lengths = lengths.astype(np.int64)
        if lengths.min(initial=0) < 0 or lengths.sum() != total:
            raise RequestError(
                f"{self.where}: lengths must be >= 0 and sum to the number of values, {total}, not {int(lengths.sum())}"
            )
        return lengths


def _cumulated(lengths: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _longest(offsets: np.ndarray) -> int:
    """The most values that a row has."""
    return int(offsets[1]) if len(offsets) == 2 else int(np.diff(offsets).max(initial=0))


def _with_nulls(values: np.ndarray | list[str], known: np.ndarray) -> pa.Array:
    """One entry a row, null where the value is not known."""
    if not len(values):
        return pa.nulls(len(known))
    if isinstance(values, list):
        taken = iter(values)
        return pa.array([next(taken) if is_known else None for is_known in known.tolist()], pa.string())
    spread = np.zeros(len(known), values.dtype)
    spread[known] = values
    return pa.array(spread, mask=~known)
