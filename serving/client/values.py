"""Python values as the columns of a request.

    a number, a string, None      one value of one row; None and NaN are unknown
    a list of those               the rows of items, or the values of one row of a bag or of a sequence
    a list of lists               rows of a bag; or a sequence whose behaviours have bags, or values that are unknown

In place of a list: a tuple, any other sequence, a numpy array, whatever has `to_numpy` (pandas, polars) or `to_pylist`
(Arrow). The quick ways are arrays of numbers, and lists whose values are of one of Python's own types.
"""

from __future__ import annotations

import math
import numbers
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from swrec_prod.errors import RequestError
from swrec_prod.serving.protocol.call import Column
from swrec_prod.serving.protocol.wire import FLOATS, INTS, LENGTHS

WHOLE = {int, bool}
NUMBERS = {int, bool, float}
KNOWN = {int, bool, str}
SINGLE = {int, bool, float, str, type(None)}
TEXT = (str, bytes, bytearray, memoryview)


class _Short(reprlib.Repr):
    """A repr that is short for any value, and never fails."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 100


_short = _Short()


def user_columns(name: str, value: Any) -> list[Column]:
    """The columns of a feature of the user or of the moment: one row. Raises RequestError."""
    if type(value) is np.ndarray and value.ndim == 1 and _is_plain(value):
        return [Column(name, _numbers(name, value), _lengths([len(value)]))]
    value = _python(name, value)
    return _rows_of_lists(name, [value]) if isinstance(value, list) else [_single(name, [value])]


def item_columns(name: str, values: Any) -> list[Column]:
    """The columns of a feature of the candidates: N rows. Raises RequestError."""
    if type(values) is np.ndarray and values.ndim in (1, 2) and values.dtype.kind in "iubf":
        return [_of_array(name, values)]
    rows = _python(name, values)
    if not isinstance(rows, list):
        raise RequestError(f"feature {shown(name)}: {shown(values)} is no sequence; give one value for each candidate")
    if set(map(type, rows)) <= SINGLE:
        return [_single(name, rows)]
    rows = [_python(name, row) for row in rows]
    return _rows_of_lists(name, rows) if any(isinstance(row, list) for row in rows) else [_single(name, rows)]


def _is_plain(array: np.ndarray) -> bool:
    """Whether all are known numbers."""
    return array.dtype.kind in "iub" or (array.dtype.kind == "f" and not np.isnan(array).any())


def _of_array(name: str, array: np.ndarray) -> Column:
    """Rows of one number each [N], or of k each [N, k]."""
    if array.ndim == 2:
        return Column(name, _numbers(name, array.reshape(-1)), np.full(len(array), array.shape[1], LENGTHS))
    if array.dtype.kind != "f" or not (unknown := np.isnan(array)).any():
        return Column(name, _numbers(name, array), None)
    return Column(name, _numbers(name, array[~unknown]), (~unknown).astype(LENGTHS))


def _single(name: str, rows: list[Any]) -> Column:
    """Rows of one value each."""
    kinds = set(map(type, rows))
    if kinds <= KNOWN:
        return Column(name, _flat(name, rows), None)
    if float in kinds and kinds <= {*NUMBERS, type(None)}:
        return _of_array(name, _array(name, rows, FLOATS))  # None becomes NaN
    known = [row for row in rows if not _is_unknown(row)]
    lengths = None if len(known) == len(rows) else _lengths([not _is_unknown(row) for row in rows])
    return Column(name, _flat(name, known), lengths)


def _rows_of_lists(name: str, rows: list[Any]) -> list[Column]:
    """Rows of several values: two columns where behaviours have lists of values, or some that are unknown."""
    lists = [[] if _is_unknown(row) else row for row in rows]
    for i, row in enumerate(lists):
        if not isinstance(row, list):
            raise RequestError(f"feature {shown(name)}: row {i} is {shown(row)}, but others are lists; give a list")
    lengths = _lengths([len(row) for row in lists])
    values = [value for row in lists for value in row]
    if "." not in name or set(map(type, values)) <= KNOWN:
        return [Column(name, _flat(name, values), lengths)]
    values = [_python(name, value) for value in values]
    if not any(isinstance(value, list) or _is_unknown(value) for value in values):
        return [Column(name, _flat(name, values), lengths)]
    behaviours = [_of_behaviour(value) for value in values]
    flat = _flat(name, [value for several in behaviours for value in several])
    counts = np.array([len(several) for several in behaviours], INTS)
    return [Column(name, flat, None), Column(f"{name}.length", counts, lengths)]


def _of_behaviour(value: Any) -> list[Any]:
    if _is_unknown(value):
        return []
    return value if isinstance(value, list) else [value]


def _python(name: str, value: Any) -> Any:
    """A list where the value is any sequence, else the value itself."""
    if type(value) in SINGLE or type(value) is list or isinstance(value, (*TEXT, np.generic)):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "iubfUTO":
            raise RequestError(f"feature {shown(name)}: an array of {value.dtype}; give numbers, strings or objects")
        return value.tolist()
    for method in ("to_pylist", "to_numpy"):
        if hasattr(value, method) and not isinstance(value, type):
            return _converted(name, value, method)
    return list(value) if isinstance(value, Sequence) else value


def _converted(name: str, value: Any, method: str) -> Any:
    try:
        values = getattr(value, method)()
        if hasattr(value, "to_list") and getattr(values, "dtype", None) == FLOATS and np.isnan(values).any():
            values = value.to_list()  # integers of which some are unknown became floats
    except Exception as failure:  # whatever another library raises
        raise RequestError(
            f"feature {shown(name)}: {method}() of {shown(value)} fails with {type(failure).__name__}; give a list"
        ) from None
    if not isinstance(values, (list, np.ndarray)):
        raise RequestError(f"feature {shown(name)}: {method}() of {shown(value)} gives no array; give a list")
    return _python(name, values)


def _is_unknown(value: Any) -> bool:
    if value is None or type(value).__name__ == "NAType":  # of pandas, which refuses to be compared
        return True
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def _flat(name: str, values: list[Any]) -> np.ndarray | list[str]:
    """Values of one kind. Raises RequestError for several kinds, and what is neither number nor string."""
    kinds = set(map(type, values))
    if kinds <= {str}:
        return values
    if not kinds <= NUMBERS:
        values = [_scalar(name, value) for value in values]
        kinds = set(map(type, values))
    if str in kinds and len(kinds) > 1:
        other = next(value for value in values if type(value) is not type(values[0]))
        raise RequestError(
            f"feature {shown(name)}: values are strings or numbers, all of one kind, "
            f"not {shown(values[0])} and {shown(other)}"
        )
    if kinds == {str}:
        return values
    return _array(name, values, INTS if kinds <= WHOLE else FLOATS)


def _array(name: str, values: list[Any], kind: np.dtype) -> np.ndarray:
    try:
        return np.array(values, kind)
    except OverflowError:
        raise _too_large(name, max((value for value in values if value is not None), key=abs)) from None


def _scalar(name: str, value: Any) -> Any:
    """The value as one of Python's own types."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return str.__str__(value)  # that of an enumeration would be its name
    if isinstance(value, bool):
        return value
    try:
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real):
            return float(value)
    except OverflowError:
        raise _too_large(name, value) from None
    if isinstance(value, (list, tuple, np.ndarray)):
        raise RequestError(f"feature {shown(name)}: {shown(value)} lies too deep; a row has a value, or a list of them")
    if _is_unknown(value):
        raise RequestError(f"feature {shown(name)}: None among the values of one row; leave out what is unknown")
    raise RequestError(
        f"feature {shown(name)}: values are strings or numbers, all of one kind, "
        f"not {shown(value)}, which is {type(value).__name__}"
    )


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        return np.ascontiguousarray(array, FLOATS)
    if array.dtype == np.uint64 and array.max(initial=0) >= 1 << 63:
        raise _too_large(name, array.max())
    return np.ascontiguousarray(array, INTS)


def _lengths(lengths: list[Any]) -> np.ndarray:
    return np.array(lengths, LENGTHS)


def _too_large(name: str, value: Any) -> RequestError:
    return RequestError(f"feature {shown(name)}: {str(value)[:40]} does not fit a 64-bit integer")


def shown(value: Any) -> str:
    """A value as a message quotes it: short, and on one line."""
    return " ".join(_short.repr(value.item() if isinstance(value, np.generic) else value).split())
