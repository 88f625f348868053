"""The columns that a request may hold, and a column's bytes as raw values: the form in which they are encoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from swrec_prod.encoding.sequences import RawLists
from swrec_prod.errors import RequestError
from swrec_prod.schema import Feature, FeatureSchema
from swrec_prod.serving.protocol.call import Column
from swrec_prod.serving.protocol.wire import FLOATS

ITEMS, USER = "items", "user"
MOMENT = "time"  # the row's moment, microseconds since 1970

Shape = Literal["one", "several", "behaviours"]  # values a row


class Slot(NamedTuple):
    """A column that a request may hold.

    part: `user` or `items`; side: of its feature, or of the derived ones that are computed of it; shape: one value a
    row, any number, or one (or a bag) for each behaviour; number: values are finite numbers.
    """

    part: str
    side: str
    shape: Shape
    number: bool


def slots_of(schema: FeatureSchema) -> dict[str, Slot]:
    """By name."""
    derived = {d.name for d in schema.derived}
    slots = {}
    for feature in schema.features:
        for name, of in _columns(schema, feature):
            if feature.raw_columns.get(name) not in derived:
                slots[name] = Slot(_part(feature.side), feature.side, *of)
    for given in schema.inputs:
        if given.feature is None:
            slots[given.name] = Slot(_part(given.side), given.side, "one", False)
    return slots | {MOMENT: Slot(USER, "context", "one", False)}


def _part(side: str) -> str:
    return ITEMS if side == "item" else USER


def lengths_name(name: str) -> str:
    """The column that says how many values each behaviour has in `name`: of a bag any number, else 0 where unknown."""
    return f"{name}.length"


def _columns(schema: FeatureSchema, feature: Feature) -> Iterator[tuple[str, tuple[Shape, bool]]]:
    """The columns of one feature: name, shape, and whether they are numbers."""
    if feature.kind != "sequence":
        shape: Shape = "several" if feature.kind in ("bag", "vector") else "one"
        yield feature.name, (shape, feature.kind in ("dense", "vector"))
        yield from ((name, ("several", True)) for name in feature.raw_columns if name != feature.name)
        return
    parts = {part.name: part.kind == "dense" for part in schema.parts[feature.name]}
    for name in dict.fromkeys([*parts, f"{feature.name}.scenario", f"{feature.name}.time"]):
        if name != f"{feature.name}.age":
            yield name, ("behaviours", parts.get(name, False))
            yield lengths_name(name), ("several", False)


def raw_values(name: str, slot: Slot, column: Column) -> Any:
    """A column's values, one entry a row: an array or list, an Arrow list array where a row holds several.

    Raises RequestError naming it.
    """
    where = f"{slot.part}: feature {name!r}"
    values = column.values
    if slot.number:
        _check_finite(where, values)
    if slot.shape == "one":
        return values if column.lengths is None else _with_unknown(where, values, _lengths(where, slot, column, values))
    offsets = np.concatenate(([0], np.cumsum(_lengths(where, slot, column, values))))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), _arrow(values))


def raw_behaviours(name: str, slot: Slot, column: Column, counts: Column | None) -> RawLists:
    """A column of behaviours. counts: the column `lengths_name`, where the request has it."""
    where = f"{slot.part}: feature {name!r}"
    values = column.values
    if slot.number:
        _check_finite(where, values)
    if counts is None:
        lengths = _lengths(where, slot, column, values)
        return RawLists(_arrow(values), np.concatenate(([0], np.cumsum(lengths))))
    each = counts.values
    if (isinstance(each, list) and each) or any(each < 0 if isinstance(each, np.ndarray) else ()):
        raise RequestError(f"{slot.part}: feature {lengths_name(name)!r} holds counts, whole numbers >= 0")
    each = np.asarray(each, np.int64)
    if each.sum() != len(values):
        raise RequestError(f"{where} has {len(values)} values, but {lengths_name(name)} counts {int(each.sum())}")
    rows = np.concatenate(([0], np.cumsum(_lengths(where, slot, counts, each))))
    inner = np.concatenate(([0], np.cumsum(each))).astype(np.int32)
    return RawLists(pa.ListArray.from_arrays(pa.array(inner), _arrow(values)), rows)


def one_each(name: str, lists: RawLists) -> RawLists:
    """Behaviours with at most one value each: missing where they have none. Raises RequestError for several."""
    if not (isinstance(lists.values, pa.Array) and pa.types.is_list(lists.values.type)):
        return lists
    counts = np.diff(lists.values.offsets.to_numpy())
    if counts.max(initial=0) > 1:
        raise RequestError(
            f"user: feature {name!r} has one value for each behaviour, but {int(counts.max())} are given"
        )
    at = np.where(counts > 0, np.cumsum(counts) - 1, -1)
    return RawLists(lists.values.flatten().take(pa.array(at, mask=at < 0)), lists.offsets)


def _lengths(where: str, slot: Slot, column: Column, values: np.ndarray | list[str]) -> np.ndarray:
    """How many values each row has, int64; all of them are those of a user's one row where that is not said."""
    if column.lengths is None:
        if slot.part == ITEMS and len(values):
            raise RequestError(f"{where} holds several values a row and needs lengths, one a candidate")
        return np.array([len(values)] if slot.part == USER else [], np.int64)
    lengths = column.lengths.astype(np.int64)
    if lengths.min(initial=0) < 0 or lengths.sum() != len(values):
        raise RequestError(
            f"{where}: lengths must be >= 0 and sum to the number of values, {len(values)}, not {int(lengths.sum())}"
        )
    return lengths


def _check_finite(where: str, values: np.ndarray | list[str]) -> None:
    if isinstance(values, list):
        if values:
            raise RequestError(f"{where} is dense and takes floats or ints, not strings such as {values[0]!r}")
    elif values.dtype == FLOATS and not np.isfinite(values).all():
        bad = values[~np.isfinite(values)][0]
        raise RequestError(
            f"{where} has the value {bad}; a dense value is finite, and left out (lengths 0) where it is unknown"
        )


def _with_unknown(where: str, values: np.ndarray | list[str], lengths: np.ndarray) -> Any:
    """One entry a row, missing where the length is 0."""
    if lengths.max(initial=0) > 1:
        raise RequestError(f"{where} has one value a row, but lengths say {int(lengths.max())}")
    if lengths.all():
        return values
    at = np.where(lengths > 0, np.cumsum(lengths) - 1, -1)
    return _arrow(values).take(pa.array(at, mask=at < 0))


def _arrow(values: np.ndarray | list[str]) -> pa.Array:
    """As an Arrow array, of type null when empty. Strings get their type here: letting Arrow infer it costs 50 us."""
    if not len(values):
        return pa.nulls(0)
    return pa.array(values, pa.string()) if isinstance(values, list) else pa.array(values)
