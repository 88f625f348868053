"""A request's columns -> packed arrays: the border at which every value is checked.

User and context columns hold one row, repeated here for the N candidates, since packed arrays have one row each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column, Packed, Ragged, pack
from swrec_prod.errors import RequestError, nearest
from swrec_prod.schema import Feature
from swrec_prod.schema.layout import Layout
from swrec_prod.serving.wire import FLOATS, INTS, LENGTHS

ITEMS, USER = "items", "user"
MAX_VALUES = 2_000_000  # ids of a request once the user's rows are repeated: bounds its memory


class Slot(NamedTuple):
    """A column that a request may hold.

    part: `user` or `items`; ragged: any number of values a row; read: the model needs it.
    """

    part: str
    feature: Feature
    ragged: bool
    read: bool


class RequestEncoder:
    """Requests -> Packed, for one package. It does not change, so threads may share it."""

    def __init__(self, layout: Layout, encoders: Encoders, max_candidates: int = 1000) -> None:
        self.layout = layout
        self.encoders = encoders
        self.max_candidates = max_candidates
        self.slots = _slots(encoders, layout)

    def encode(self, request: Any, scenario: int) -> Packed:
        """The candidates of a wire.ScoreRequest, all of the scenario with this index.

        Raises RequestError, or the encoders' DataError, naming the feature and what would be right.
        """
        given = self._by_name(request)
        values = {name: _raw(name, self.slots[name], column) for name, column in given.items() if self.slots[name].read}
        rows = self._candidates(values)
        columns = {name: self._encoded(name, raw) for name, raw in values.items()}
        if self.layout.history is not None:
            _keep_latest(columns, self.layout.history)
        several = sum(
            len(c.values) for name, c in columns.items() if isinstance(c, Ragged) and self.slots[name].part == USER
        )
        if several * rows > MAX_VALUES:
            raise RequestError(
                f"user: {several} values in bags and sequences times {rows} candidates, allowed are {MAX_VALUES}"
            )
        repeated = {
            name: column if self.slots[name].part == ITEMS else _repeat(column, rows)
            for name, column in columns.items()
        }
        return pack(self.layout, repeated, np.full(rows, scenario, np.int64))

    def _by_name(self, request: Any) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for part, columns in ((USER, request.user), (ITEMS, request.items)):
            for column in columns:
                slot = self.slots.get(column.name)
                if slot is None:
                    raise RequestError(f"{part}: unknown feature {column.name!r}; {nearest(column.name, self.slots)}")
                if slot.part != part:
                    raise RequestError(
                        f"{part}: feature {column.name!r} has side {slot.feature.side} and belongs in {slot.part}"
                    )
                if column.name in given:
                    raise RequestError(f"{part}: feature {column.name!r} is given twice")
                given[column.name] = column
        for name, slot in self.slots.items():
            if slot.read and name not in given:
                raise RequestError(f"{slot.part}: feature {name!r} (side {slot.feature.side}) is missing")
        return given

    def _candidates(self, values: dict[str, Any]) -> int:
        """N, after checking the number of rows of every column."""
        counts = {name: len(raw) for name, raw in values.items() if self.slots[name].part == ITEMS}
        first, rows = next(iter(counts.items()), ("", 1))
        for name, count in counts.items():
            if count != rows:
                raise RequestError(
                    f"items: feature {name!r} has {count} rows, but {first!r} has {rows}; "
                    "a column has one row a candidate"
                )
        if not 1 <= rows <= self.max_candidates:
            raise RequestError(f"items: {rows} candidates, expected 1 to {self.max_candidates}")
        for name, raw in values.items():
            if name not in counts and len(raw) != 1:
                raise RequestError(f"user: feature {name!r} has {len(raw)} rows, expected one")
        return rows

    def _encoded(self, name: str, raw: Any) -> Column:
        slot = self.slots[name]
        if slot.feature.kind != "sequence":
            return self.encoders.encode(name, raw)
        if name.endswith(".item"):
            return self.encoders.encode(slot.feature.name, raw)
        offsets = raw.offsets.to_numpy().astype(np.int64)
        return Ragged(self.encoders.encode_scenario(raw.values.to_pylist()), offsets)


def _slots(encoders: Encoders, layout: Layout) -> dict[str, Slot]:
    slots = {}
    for feature in encoders.schema.features:
        part = ITEMS if feature.side == "item" else USER
        names = [feature.name]
        if feature.kind == "sequence":
            names = [f"{feature.name}.{field}" for field in ("item", "scenario", "time")]
        for name in names:
            slots[name] = Slot(part, feature, feature.kind in ("bag", "sequence"), name in layout.columns)
    return slots


def _raw(name: str, slot: Slot, column: Any) -> Any:
    """A column's values, one entry a row: an array or list, an Arrow list array where a row holds several."""
    where = f"{slot.part}: feature {name!r}"
    values = _values(where, column)
    if slot.feature.kind == "dense":
        _check_finite(where, values)
    if not column.lengths:
        if not slot.ragged:
            return values
        if slot.part == ITEMS and len(values):
            raise RequestError(f"{where} holds several values a row and needs lengths, one a candidate")
        lengths = np.array([len(values)] if slot.part == USER else [], np.int64)
    else:
        lengths = _numbers(where, "lengths", column.lengths, LENGTHS).astype(np.int64)
    if lengths.min(initial=0) < 0 or lengths.sum() != len(values):
        raise RequestError(
            f"{where}: lengths must be >= 0 and sum to the number of values, {len(values)}, not {int(lengths.sum())}"
        )
    if slot.ragged:
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), _arrow(values))
    return _with_unknown(where, values, lengths)


def _values(where: str, column: Any) -> np.ndarray | list[str]:
    filled = [field for field in ("ints", "floats", "strings") if getattr(column, field)]
    if len(filled) > 1:
        raise RequestError(f"{where} has {' and '.join(filled)}; fill one of ints, floats, strings")
    if column.strings:
        return list(column.strings)
    if column.floats:
        return _numbers(where, "floats", column.floats, FLOATS)
    return _numbers(where, "ints", column.ints, INTS) if column.ints else []


def _numbers(where: str, field: str, data: bytes, kind: np.dtype) -> np.ndarray:
    if len(data) % kind.itemsize:
        raise RequestError(f"{where}: {field} has {len(data)} bytes, which is no multiple of {kind.itemsize}")
    return np.frombuffer(data, kind)


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


def _keep_latest(columns: dict[str, Column], history: Feature) -> None:
    """Check that the fields of a sequence are of one length, and keep each row's latest behaviours."""
    items, scenarios = (columns[f"{history.name}.{field}"] for field in ("item", "scenario"))
    assert isinstance(items, Ragged) and isinstance(scenarios, Ragged)
    if not np.array_equal(items.offsets, scenarios.offsets):
        name = history.name
        raise RequestError(
            f"{name}.item has {len(items.values)} behaviours and {name}.scenario {len(scenarios.values)}; "
            "give one for each"
        )
    if history.max_length is None:
        return
    lengths = np.diff(items.offsets)
    from_end = np.repeat(items.offsets[1:], lengths) - np.arange(len(items.values))
    is_latest = from_end <= history.max_length
    offsets = np.concatenate(([0], np.cumsum(np.minimum(lengths, history.max_length))))
    columns[f"{history.name}.item"] = Ragged(items.values[is_latest], offsets)
    columns[f"{history.name}.scenario"] = Ragged(scenarios.values[is_latest], offsets)


def _repeat(column: Column, rows: int) -> Column:
    """The one row of `column`, `rows` times."""
    if isinstance(column, Ragged):
        return Ragged(np.tile(column.values, rows), np.arange(rows + 1) * len(column.values))
    return np.repeat(column, rows)
