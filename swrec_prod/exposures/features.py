"""Columns of many requests as one Arrow array: a value a request, or a list a request (schema.py)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from swrec_prod.exposures.schema import ITEMS, TYPES, FeatureColumn
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.protocol.call import Column, ScoreCall, call_of

Given = Sequence[Column | None]


def feature_arrays(requests: pa.Array, columns: Sequence[FeatureColumn]) -> dict[str, pa.Array]:
    """By name in the log, the columns of serialised requests, of which null ones were not kept."""
    calls = [None if data is None else call_of(wire.ScoreRequest.FromString(data)) for data in requests.to_pylist()]
    given = [_by_name(call) for call in calls]
    return {
        column.field.name: array_of(column, [of.get((column.part, column.name)) for of in given]) for column in columns
    }


def _by_name(call: ScoreCall | None) -> dict[tuple[str, str], Column]:
    if call is None:
        return {}
    return {(part, c.name): c for part, columns in (("user", call.user), ("items", call.items)) for c in columns}


def array_of(column: FeatureColumn, given: Given) -> pa.Array:
    """One column of every request; null where a request has it not, or says of it what cannot be, as it may of columns
    that its package does not read. Its type is that of `column`, or float64 where numbers are not whole.
    """
    given = [of if of is not None and _is_whole(column, of) else None for of in given]
    present = [of for of in given if of is not None]
    values = _values(column, present)
    lengths = [_lengths(column, of) for of in present]
    rows = _rows(column, values, np.concatenate(lengths) if lengths else np.zeros(0, np.int64))
    if column.part == ITEMS:
        rows = pa.ListArray.from_arrays(_offsets([len(of) for of in lengths]), rows)
    if len(present) == len(given):
        return rows
    is_absent = np.array([of is None for of in given])
    return rows.take(pa.array(np.cumsum(~is_absent) - 1, mask=is_absent))


def _is_whole(column: FeatureColumn, of: Column) -> bool:
    """Whether its lengths fit its values and its part, and it has no text where the log has numbers."""
    if column.type != "string" and len(of.values) and isinstance(of.values, list):
        return False
    lengths = _lengths(column, of)
    is_one = column.several or (lengths <= 1).all()
    rows = len(lengths) == 1 or column.part == ITEMS
    return bool(rows and is_one and (lengths >= 0).all() and lengths.sum() == len(of.values))


def _values(column: FeatureColumn, present: Sequence[Column]) -> pa.Array:
    """All values, one after the other."""
    filled = [of.values for of in present if len(of.values)]
    if column.type == "string":
        return pa.array(list(itertools.chain.from_iterable(map(_texts, filled))), pa.string())
    if not filled:
        return pa.array([], TYPES[column.type])
    numbers = np.concatenate(filled)
    return pa.array(numbers.astype(np.float64) if column.type == "float64" else numbers)


def _texts(values: np.ndarray | list[str]) -> list[str]:
    return values if isinstance(values, list) else [str(value) for value in values.tolist()]


def _lengths(column: FeatureColumn, of: Column) -> np.ndarray:
    """How many values each row has."""
    if of.lengths is not None:
        return of.lengths.astype(np.int64)
    if column.several:
        return np.full(1, len(of.values), np.int64)
    return np.ones(len(of.values), np.int64)


def _rows(column: FeatureColumn, values: pa.Array, lengths: np.ndarray) -> pa.Array:
    """One entry a row: a list, or a value or null."""
    if column.several:
        return pa.ListArray.from_arrays(_offsets(lengths), values)
    if lengths.all():
        return values
    is_known = lengths > 0
    return values.take(pa.array(np.cumsum(is_known) - 1, mask=~is_known))


def _offsets(lengths: Sequence[int] | np.ndarray) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.array(offsets)
