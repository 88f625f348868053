"""Behaviours that come as lists: in columns of the log (`columns` of a sequence), or from before it (seed.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.behaviours.history import part_names
from swrec_prod.behaviours.lists import UNKNOWN, Behaviours, Sequence
from swrec_prod.behaviours.windowed import DAY, ROW
from swrec_prod.data.day_files import MICROSECONDS
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import spread
from swrec_prod.encoding.raw_values import Values
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.schema import Feature, FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir

UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000}  # microseconds


class RawLists(NamedTuple):
    """Behaviours as they were written: row i has elements [offsets[i], offsets[i + 1]) of each part.

    offsets: int64 [N + 1]. parts: raw values of item and fields; scenario, strings; time, int64 microseconds. What is
    not known at all is left out.
    """

    offsets: np.ndarray
    parts: dict[str, pa.Array]

    @classmethod
    def of(cls, table: pa.Table, columns: Mapping[str, str], longest: int | None, unit: str = "us") -> RawLists:
        """The `longest` latest behaviours of each row. columns: list columns by part, of equal lengths in a row."""
        lengths = lengths_of(table[columns["item"]])
        stop = np.cumsum(lengths)
        taken = lengths if longest is None else np.minimum(lengths, longest)
        index, offsets = spread(stop - taken, taken)
        parts = {part: _elements(table[column], index) for part, column in columns.items()}
        if "scenario" in parts:
            parts["scenario"] = parts["scenario"].cast(pa.string())
        if "time" in parts:
            parts["time"] = micros(parts["time"], unit)
        return cls(offsets, parts)

    def as_sent(self, sequence: str) -> dict[str, pa.Array]:
        """The columns of requests.parquet: lists by `<sequence>.<part>`."""
        elements = len(self.parts["item"])
        unknown = {"scenario": pa.nulls(elements, pa.string()), "time": pa.nulls(elements, pa.int64())}
        parts = unknown | self.parts
        parts["time"] = parts["time"].cast(MICROSECONDS)
        offsets = pa.array(self.offsets.astype(np.int32))
        return {f"{sequence}.{name}": pa.ListArray.from_arrays(offsets, values) for name, values in parts.items()}


def lengths_of(column: pa.ChunkedArray) -> np.ndarray:
    """int64 [N]; a missing list is empty."""
    return pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)


def _elements(column: pa.ChunkedArray, index: np.ndarray) -> pa.Array:
    elements = column.combine_chunks().flatten()
    return elements if len(index) == len(elements) else elements.take(pa.array(index))


def micros(moments: pa.Array, unit: str) -> pa.Array:
    """int64 microseconds since 1970 of timestamps, or of whole numbers in `unit`."""
    if pa.types.is_timestamp(moments.type):
        return moments.cast(pa.timestamp("us", moments.type.tz), safe=False).cast(pa.int64())
    return pc.multiply(moments.cast(pa.int64()), UNITS[unit])


def encoded(encoders: Encoders, feature: Feature, raw: RawLists) -> Behaviours:
    """The behaviours, encoded; a field that is not known is an unknown id, an empty bag or a missing number."""
    elements = len(raw.parts["item"])
    kinds = {part.name: part.kind for part in encoders.schema.parts[feature.name]}

    def values(part: str) -> Values:
        nothing = pa.list_(pa.null()) if kinds[f"{feature.name}.{part}"] == "bag" else pa.null()
        return raw.parts[part] if part in raw.parts else pa.nulls(elements, nothing)

    parts = {part: encoders.encode(f"{feature.name}.{part}", values(part)) for part in part_names(feature)}
    scenario = encoders.encode_behaviour_scenario(
        raw.parts.get("scenario", pa.nulls(elements, pa.string())), elsewhere=True
    )
    time = raw.parts.get("time", pa.nulls(elements, pa.int64())).fill_null(UNKNOWN)
    return Behaviours(parts, scenario.astype(np.int32), time.to_numpy())


def of_columns(encoders: Encoders, feature: Feature, events: pa.Table) -> Sequence:
    """The lists that the log brings, of rows of it."""
    assert feature.columns is not None
    raw = RawLists.of(events, feature.columns, feature.max_length)
    moment, ages = events[encoders.schema.time].to_numpy(), encoders if feature.age else None
    behaviours = encoded(encoders, feature, raw)
    return Sequence(feature.name, raw.offsets[:-1], raw.offsets[1:], behaviours, moment, ages)


def brought(schema: FeatureSchema) -> tuple[Feature, ...]:
    """The sequences whose behaviours stand in list columns of the log."""
    return tuple(feature for feature in schema.of_kind("sequence") if feature.columns is not None)


def check_lists(engine: Engine, events: ir.Table, schema: FeatureSchema, place: Callable[[int], str]) -> None:
    """Raises DataError for the first row whose lists of one sequence are of unequal lengths, or know of a behaviour
    that is not before it. place: where rows of a day (since 1970) come from, for the message.
    """
    for feature in brought(schema):
        assert feature.columns is not None
        found = engine.arrow(_wrong(engine, events, schema, feature.columns)).to_pylist()
        if found:
            row, where = found[0], f"{place(found[0][DAY])}: row {found[0][ROW]}"
            lengths = {column: row[f"_length_{part}"] for part, column in feature.columns.items()}
            check_even(where, feature.name, lengths)
            late = f"column {feature.columns['time']!r} has a behaviour at {_moment(row['_latest'])}"
            remedy = f"which is not before the row's {_moment(row['_time'])}; a row knows only what was before it"
            raise DataError(f"{where}: sequence {feature.name!r}: {late}, {remedy}")


def _wrong(engine: Engine, events: ir.Table, schema: FeatureSchema, columns: Mapping[str, str]) -> ir.Table:
    """The first row that is wrong: its lengths by part, its time and the time of its latest behaviour."""
    lengths = {f"_length_{part}": events[column].length().fill_null(0) for part, column in columns.items()}
    latest = events[columns["time"]].maxs() if "time" in columns else ibis.null("int64")
    latest = engine.micros(latest) if latest.type().is_timestamp() else latest
    rows = events.select(ROW, DAY, _time=events[schema.time], _latest=latest, **lengths)
    uneven = ibis.or_(*(rows[name] != rows["_length_item"] for name in lengths))
    wrong = rows.filter(uneven | (rows["_latest"] >= rows["_time"]).fill_null(False))
    return wrong.order_by([wrong["_time"], wrong[ROW]]).limit(1)


def check_even(where: str, sequence: str, lengths: Mapping[str, int]) -> None:
    """Raises DataError when the lists of a row are of unequal lengths, by column."""
    (first, expected), *others = lengths.items()
    for column, length in others:
        if length != expected:
            wrong = f"column {first!r} has {expected} behaviours and column {column!r} {length}"
            remedy = "write one element a behaviour into each, null where it is not known"
            raise DataError(f"{where}: sequence {sequence!r}: {wrong}; {remedy}")


def _moment(time: int) -> str:
    return np.datetime_as_string(np.datetime64(time, "us"), unit="auto")
