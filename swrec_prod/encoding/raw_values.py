"""Raw values, given as a pyarrow array, a numpy array or a list, as plain arrays of one type.

Every function takes the feature's name and raises DataError naming it, a value of the wrong type and the right type.
None, Arrow nulls and NaN are missing values.
"""

from __future__ import annotations

import numbers
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.encoding.pack import spread
from swrec_prod.errors import DataError, shown

FLOAT32_MAX = float(np.finfo(np.float32).max)
WHOLE_FLOATS = 2**53  # smaller whole numbers are exact as floating numbers
AS_TEXT = "; write it as a string"
Values: TypeAlias = pa.Array | pa.ChunkedArray | np.ndarray | list[Any]


class RawLists(NamedTuple):
    """Raw lists that are taken apart already. elements: those of all rows, one after the other, or RawLists where they
    are lists themselves; offsets: int64 [B + 1], which elements are those of a row.
    """

    elements: Values | RawLists
    offsets: np.ndarray

    @classmethod
    def of(cls, column: Values, name: str) -> RawLists:
        """A list a row."""
        return cls(*lists(column, name))

    @property
    def rows(self) -> int:
        """B."""
        return len(self.offsets) - 1

    def latest(self, longest: int) -> RawLists:
        """The last `longest` elements of each row."""
        if self.offsets[-1] <= longest:
            return self
        lengths = np.minimum(np.diff(self.offsets), longest)
        if self.rows == 1:  # a request's user
            return RawLists(_last(self.elements, longest), np.array([0, longest]))
        return self.chosen(self.offsets[1:] - lengths, lengths)

    def chosen(self, starts: np.ndarray, lengths: np.ndarray) -> RawLists:
        """Rows that begin at these elements and have so many of them; both int64 [rows]."""
        index, offsets = spread(starts, lengths)
        elements = self.elements
        if isinstance(elements, RawLists):
            begins = elements.offsets[index]
            return RawLists(elements.chosen(begins, elements.offsets[index + 1] - begins), offsets)
        if isinstance(elements, list):
            return RawLists([elements[i] for i in index], offsets)
        return RawLists(elements.take(pa.array(index)) if isinstance(elements, pa.Array) else elements[index], offsets)


def integers(values: Values, feature: str) -> tuple[np.ndarray, np.ndarray | None]:
    """int64 [N], and bool [N] that is True where the value is missing (None: nowhere).

    Bools are 0 and 1. Floating numbers are taken where they are whole and below 2^53: pandas makes those of whole
    numbers beside missing ones.
    """
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        array = flat(values)
        if pa.types.is_floating(array.type):
            return _whole(array.cast(pa.float64()).to_numpy(zero_copy_only=False), feature)
        if not (pa.types.is_integer(array.type) or pa.types.is_boolean(array.type) or pa.types.is_null(array.type)):
            raise wrong_type(feature, array, "int64")
        missing = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
        return _filled(array, feature).to_numpy(), missing
    array = np.asarray(values) if len(values) else np.zeros(0, np.int64)
    if array.dtype.kind in "ib":
        return array.astype(np.int64, copy=False), None
    if array.dtype.kind == "f" and isinstance(values, np.ndarray):
        return _whole(array.astype(np.float64), feature)
    plain = [_integer(value, feature) for value in values]
    return integers(_arrow(plain, pa.int64(), feature), feature)


def floats(values: Values, feature: str) -> np.ndarray:
    """float64 [N], NaN where the value is missing; bools are 0 and 1. Infinite values are an error."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        array = flat(values)
        if not (_is_number(array.type) or pa.types.is_null(array.type)):
            raise wrong_type(feature, array, "a number")
        result = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    else:
        result = np.asarray(values) if len(values) else np.zeros(0)
        if result.dtype.kind not in "iufb":
            result = _floats_one_by_one(list(values), feature)
    result = result.astype(np.float64, copy=False)
    if np.isinf(result).any():
        raise DataError(f"feature {feature!r}: value {result[np.isinf(result)][0]} is not finite")
    return result


def check_fits_float32(numbers: np.ndarray, feature: str) -> None:
    """Raises DataError for a finite number that is larger than any float32, which is what models compute with."""
    if len(numbers) and (too_large := np.abs(numbers) > FLOAT32_MAX).any():
        wrong = numbers[too_large][0]
        raise DataError(f"feature {feature!r}: value {wrong} overflows float32 ({FLOAT32_MAX:.3g}); rescale the column")


def strings(values: Values, feature: str) -> pa.Array | list[Any]:
    """Arrow values as a string array, others as a list whose elements are not checked yet (see `check_strings`).

    Bytes in Arrow arrays are text where they are UTF-8.
    """
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        array = flat(values)
        if not (is_string(array.type) or is_binary(array.type) or pa.types.is_null(array.type)):
            raise wrong_type(feature, array, "string")
        return _text(array, feature)
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def check_strings(values: list[Any], feature: str) -> None:
    """Raises DataError for the first value that is neither a string nor None."""
    if set(map(type, values)) <= {str, type(None)}:
        return
    for value in values:
        if value is not None and not isinstance(value, str):
            raise wrong_type(feature, value, "string")


def lists(values: Values | RawLists, feature: str) -> tuple[Values, np.ndarray]:
    """The elements of all rows one after the other, and int64 offsets [N + 1]. A missing list is empty."""
    if isinstance(values, RawLists):
        return values
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
            raise wrong_type(feature, array, "a list")
        lengths = pc.list_value_length(array).fill_null(0).to_numpy()
        return array.flatten(), _offsets(lengths)
    rows: list[Any] = list(values)
    for kind in set(map(type, rows)) - {list, tuple, np.ndarray}:
        if kind is not type(None):
            raise wrong_type(feature, next(row for row in rows if type(row) is kind), "a list")
        rows = [() if row is None else row for row in rows]
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return list(chain.from_iterable(rows)), _offsets(lengths)


def flat(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One chunk, dictionaries decoded."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def is_string(kind: pa.DataType) -> bool:
    """Any of Arrow's types of UTF-8 text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_binary(kind: pa.DataType) -> bool:
    """Any of Arrow's types of bytes."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def wrong_type(feature: str, given: Any, expected: str) -> DataError:
    """The error for a value, or an array, of the wrong type."""
    if not isinstance(given, pa.Array):
        return DataError(f"feature {feature!r}: value {shown(given)} is {type(given).__name__}, expected {expected}")
    known = given.drop_null()
    example = f" (for example {known[0].as_py()!r})" if len(known) else ""
    return DataError(f"feature {feature!r}: values are {given.type}{example}, expected {expected}")


def _filled(array: pa.Array, feature: str) -> pa.Array:
    try:
        return array.cast(pa.int64()).fill_null(0)
    except pa.ArrowInvalid:
        raise DataError(f"feature {feature!r}: value {pc.max(array).as_py()} does not fit int64{AS_TEXT}") from None


def _arrow(values: list[Any], kind: pa.DataType, feature: str) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (OverflowError, pa.ArrowInvalid):
        worst = max((v for v in values if v is not None), key=abs)
        raise DataError(f"feature {feature!r}: value {worst} does not fit {kind}{AS_TEXT}") from None


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _whole(values: np.ndarray, feature: str) -> tuple[np.ndarray, np.ndarray]:
    """Floating numbers as int64, and where they are missing. Raises DataError for one that is no exact integer."""
    missing = np.isnan(values)
    wrong = ~missing & ((np.abs(values) >= WHOLE_FLOATS) | (values != np.round(values)))
    if wrong.any():
        raise not_whole(feature, values[wrong][0])
    return np.where(missing, 0, values).astype(np.int64), missing


def _integer(value: Any, feature: str) -> int | None:
    """One value of `integers`."""
    if value is None or (isinstance(value, numbers.Real) and value != value):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    if not isinstance(value, (float, np.floating)):
        raise wrong_type(feature, value, "int64")
    number = float(value)
    if abs(number) >= WHOLE_FLOATS or not number.is_integer():
        raise not_whole(feature, number)
    return int(number)


def not_whole(feature: str, value: float) -> DataError:
    """The error for a floating number that is no id."""
    large = abs(value) >= WHOLE_FLOATS
    what = f"a floating number of 2^53 or more, which is not exact{AS_TEXT}" if large else "no whole number"
    return DataError(f"feature {feature!r}: value {value} is {what}; ids are whole numbers or strings")


def _text(array: pa.Array, feature: str) -> pa.Array:
    """As strings. Raises DataError showing the first bytes that are no UTF-8, which Arrow calls text unseen."""
    try:
        text = array.cast(pa.string())
        text.validate(full=True)
        return text
    except pa.ArrowInvalid:
        values = array.cast(pa.binary()).to_pylist()
        wrong = next(value for value in values if value is not None and not _is_utf8(value))
        remedy = "write text as UTF-8, or read the bytes as numbers"
        raise DataError(f"feature {feature!r}: value {wrong[:40]!r} is no UTF-8 text; {remedy}") from None


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _floats_one_by_one(values: list[Any], feature: str) -> np.ndarray:
    for value in values:
        if not (value is None or isinstance(value, numbers.Real)):
            raise wrong_type(feature, value, "a number")
    return np.array([np.nan if value is None else float(value) for value in values], np.float64)


def _last(values: Values | RawLists, count: int) -> Values | RawLists:
    """The last `count` of several values or lists."""
    if not isinstance(values, RawLists):
        return values[len(values) - count :]
    offsets = values.offsets[values.rows - count :]
    return RawLists(_last(values.elements, int(offsets[-1] - offsets[0])), offsets - offsets[0])


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def label_values(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """int8 [N] of {0, 1}. Raises DataError naming the column and the first other value."""
    array = flat(column)
    numeric = array.cast(pa.int8()) if pa.types.is_boolean(array.type) else array
    good = pc.fill_null(pc.is_in(numeric, pa.array([0, 1], numeric.type)), False)
    if not pc.all(good).as_py():
        row = pc.index(good, False).as_py()
        raise DataError(f"label column {name!r} has the value {array[row].as_py()!r}, expected 0 or 1")
    return numeric.cast(pa.int8()).to_numpy()


def weight_values(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """float32 [N]. Raises DataError naming the column and the first value that is missing or negative."""
    weights = floats(column, name)
    bad = ~(weights >= 0)
    if bad.any():
        raise DataError(f"weight column {name!r} has the value {weights[bad][0]}, expected a number >= 0")
    return weights.astype(np.float32)
