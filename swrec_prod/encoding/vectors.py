"""Raw values that are several numbers a row: vectors of one length, and the weights of a bag's values."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import pyarrow as pa

from swrec_prod.encoding.pack import Ragged
from swrec_prod.encoding.raw_values import Values, check_fits_float32, floats, lists
from swrec_prod.encoding.scaler import Scaler
from swrec_prod.errors import DataError


def vectors(values: Values, width: int, scaler: Scaler | None, feature: str) -> np.ndarray:
    """float32 [N, width] of lists or fixed-size lists of numbers, in float32 arithmetic since they may be many; a
    missing or empty one is 0 everywhere, which is the mean where there is a `scaler` (of kind standard).

    Raises DataError naming the first row whose vector has another width, or a value that is missing or not finite.
    """
    elements, offsets = _lists(values, feature)
    lengths = np.diff(offsets)
    wrong = np.flatnonzero((lengths != width) & (lengths > 0))
    if len(wrong):
        row = int(wrong[0])
        _refuse(feature, row, f"has {lengths[row]} numbers, expected {width}", "mend the row, or `width` in the schema")
    known = _float32(elements, offsets, feature).reshape(-1, width)
    if scaler is not None:
        known = (known - np.float32(scaler.shift)) / np.float32(scaler.scale)
        if not np.isfinite(known).all():
            raise DataError(f"feature {feature!r}: a value overflows float32 when divided by {scaler.scale:g}")
    if len(known) == len(lengths):
        return known
    result = np.zeros((len(lengths), width), np.float32)
    result[lengths > 0] = known
    return result


def weights(values: Values, bag: Ragged, feature: str) -> Ragged:
    """float32 weights of the values of `bag`. Raises DataError naming the first row that has other than one weight >= 0
    for each value.
    """
    elements, offsets = _lists(values, feature)
    if not np.array_equal(offsets, bag.offsets):
        rows = max(len(offsets), len(bag.offsets)) - 1
        of_values, of_weights = (np.bincount(np.arange(len(o) - 1), np.diff(o), rows) for o in (bag.offsets, offsets))
        row = int((of_values != of_weights).argmax())
        found = f"has {of_values[row]:g} values and {of_weights[row]:g} weights"
        _refuse(feature, row, found, "give one weight for each value")
    numbers = _float32(elements, offsets, feature)
    if len(numbers) and numbers.min() < 0:
        _refuse(feature, _row_of(offsets, int(numbers.argmin())), f"has the weight {numbers.min()}", "expected >= 0")
    return Ragged(numbers, offsets)


def _lists(values: Values, feature: str) -> tuple[Values, np.ndarray]:
    """The numbers of all rows one after the other, and int64 offsets [N + 1]."""
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return values.reshape(-1), np.arange(len(values) + 1, dtype=np.int64) * values.shape[1]
    if isinstance(values, (pa.Array, pa.ChunkedArray)) and pa.types.is_fixed_size_list(values.type):
        values = values.cast(pa.list_(values.type.value_type))
    return lists(values, feature)


def _float32(elements: Values, offsets: np.ndarray, feature: str) -> np.ndarray:
    """The numbers of all rows, of which none is missing, infinite or too large."""
    if isinstance(elements, pa.Array) and elements.type == pa.float32() and not elements.null_count:
        elements = elements.to_numpy()
    if isinstance(elements, np.ndarray) and elements.dtype == np.float32 and np.isfinite(elements).all():
        return elements
    numbers = floats(elements, feature)
    if (missing := np.isnan(numbers)).any():
        row = _row_of(offsets, int(missing.argmax()))
        _refuse(feature, row, "has a missing value (null or NaN) in its list", "give a number, or no list at all")
    check_fits_float32(numbers, feature)
    return numbers.astype(np.float32)


def _row_of(offsets: np.ndarray, place: int) -> int:
    """The row that owns the value at `place`."""
    return int(np.searchsorted(offsets, place, side="right")) - 1


def _refuse(feature: str, row: int, found: str, remedy: str) -> NoReturn:
    raise DataError(f"feature {feature!r}: row {row} {found}; {remedy}")
