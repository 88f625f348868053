"""The relational part of prepare, as Ibis expressions: one definition for every engine.

    standard    one row an event: needed columns, time in microseconds, day and hour, duplicates dropped,
                a stable row number
    profile     what there is, an hour and scenario at a time: rows, positives, missing and unusable values

Nothing here is evaluated, and nothing knows which engine will do it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING

import ibis
from ibis import _

from swrec_prod.behaviours.windowed import SPLIT as SPLIT
from swrec_prod.behaviours.windowed import own_fields, read_columns
from swrec_prod.computed.columns import with_derived
from swrec_prod.computed.rules import with_rules
from swrec_prod.encoding.derived import DerivedColumns
from swrec_prod.engine.contract import Engine
from swrec_prod.logs import unusable
from swrec_prod.logs.unusable import LARGEST, missing
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.raw.moment import local_hours
from swrec_prod.raw.source import DAY as DAY
from swrec_prod.raw.source import HOUR as HOUR
from swrec_prod.raw.source import ROW as ROW
from swrec_prod.schema import NUMERIC_ENCODERS, Feature, FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.expr.datatypes import DataType

LAST = chr(sys.maxunicode)
DAY_ROWS = 2**32  # row numbers made here: day * DAY_ROWS + position in the day


def standard(
    engine: Engine,
    log: ir.Table,
    data_file: DataFile,
    derived: DerivedColumns | None = None,
    row: str | None = None,
    first_days: ir.Table | None = None,
) -> ir.Table:
    """The events of a source's standard table: `_row`, `_day` and `_hour` (days and hours since 1970 where the log is),
    and the columns that the schema reads, `time` as int64 microseconds, derived ones and labels by rule (computed/).

    Of rows with equal `deduplicate` columns on one day the first by time stays; ties are broken by all other columns,
    so that what stays does not depend on the order in which an engine reads. Columns that are only kept break ties
    last, so that they change no number of another row. row: the column that numbers rows; None: they are numbered here.
    first_days: of `deduplicate` within the log, where `log` is some of its days.
    """
    schema, same = data_file.features, data_file.deduplicate
    events = log.select(*needed(schema, (*same.columns, *data_file.keep)), **({ROW: log[row]} if row else {}))
    events = _with_days(engine, events, data_file)
    if first_days is not None:
        events = same.of_first_days(events, first_days)
    if same.columns:
        events = same.first(events, _order(events, data_file))
    if row is None:
        position = ibis.row_number().over(ibis.window(group_by=DAY, order_by=_order(events, data_file)))
        day = events[DAY].fill_null(0)  # a row without a time has a number too, so that it can be named and refused
        events = events.mutate(**{ROW: day * DAY_ROWS + position})
    return with_rules(with_derived(engine, events, derived or DerivedColumns(schema)), schema)


def _with_days(engine: Engine, events: ir.Table, data_file: DataFile) -> ir.Table:
    """The events with `_day` and `_hour`, time as int64 microseconds."""
    time = data_file.features.time
    if events[time].type().is_timestamp():
        events = events.mutate(**{time: engine.micros(events[time])})
    events = events.mutate(**{time: events[time].cast("int64")})
    events = events.mutate(**{HOUR: local_hours(events[time], data_file.clock)})
    return events.mutate(**{DAY: events[HOUR] // 24})


def first_days(engine: Engine, log: ir.Table, data_file: DataFile) -> ir.Table:
    """Deduplicate.first_days of a source's standard table."""
    same, time = data_file.deduplicate, data_file.features.time
    return same.first_days(_with_days(engine, log.select(*dict.fromkeys([time, *same.columns])), data_file))


def needed(schema: FeatureSchema, more: Sequence[str] = ()) -> list[str]:
    """The columns of the standard table that the schema reads, once each."""
    names = [schema.time, schema.user, schema.scenario.column, *(label.column for label in schema.labels)]
    names += [name for name in (schema.request, schema.weight) if name]
    names += [column for f in schema.features for column in f.raw_columns.values()]
    names += read_columns(schema)
    return list(dict.fromkeys(raw for name in (*names, *more) for raw in schema.raw_of(name)))


def serving_types(schema: FeatureSchema, types: Mapping[str, DataType], untyped: Set[str]) -> dict[str, DataType]:
    """Types for the columns `untyped`, of which no file has a value: int64 for numbers, else those ids are made of.

    types: all columns, with their types; that of a column without a type is string.
    """
    kinds = {"row": "int64", schema.user: "string", **{label.column: "int64" for label in schema.labels}}
    if schema.weight:
        kinds[schema.weight] = "int64"
    for feature in schema.of_kind("id", "bag"):
        owner = types.get(schema.feature(feature.table).source)
        element = "string" if owner is None or schema.feature(feature.table).source in untyped else value_type(owner)
        kinds[feature.source] = f"array<{element}>" if feature.kind == "bag" else str(element)
    for feature in numbers(schema):
        kinds[feature.source] = "array<int64>" if feature.kind == "bag" else "int64"
    kinds |= {feature.source: "array<float64>" for feature in schema.of_kind("vector")}
    kinds |= {feature.weights: "array<float64>" for feature in schema.of_kind("bag") if feature.weights}
    for derived in schema.derived:
        if derived.function not in ("cross", "lookup"):
            kinds |= {name: "int64" for name in derived.reads(schema.time) if name not in kinds}
    open_ones = {name for name in untyped if name in types and types[name].is_string()}
    return {name: ibis.dtype(kind) for name, kind in kinds.items() if name in open_ones}


def value_type(kind: DataType) -> DataType:
    """The type of one value: of a list's elements, or of the column itself."""
    return kind.value_type if kind.is_array() else kind


def dealt(events: ir.Table, split: ir.Table) -> ir.Table:
    """The events with the `_split` that a table of (row, _split) deals to each; none for those without a row number."""
    return events.join(split, ROW, how="left").drop(f"{ROW}_right")


def profile(events: ir.Table, schema: FeatureSchema) -> ir.Table:
    """Counts by `_hour`, `scenario` (the raw value) and, where rows are dealt, `_split`: `rows`; `positives_<task>`,
    `unusable_<task>` (neither 0 nor 1), `early_<task>` (1 where the label that it is after is 0); `missing_<i>` of the
    columns of `checked`; what `unusable.counts` has; `unusable_weight`.
    """
    counts: dict[str, ir.Value] = {"rows": _.count()}
    for label in schema.labels:
        value = events[label.outcome].cast("float64")
        counts[f"positives_{label.name}"] = _.count(where=(value == 1).fill_null(False))
        counts[f"unusable_{label.name}"] = _.count(where=(~value.isin([0.0, 1.0])).fill_null(True))
    for label, first in schema.chained:
        early = (events[label.outcome].cast("float64") == 1) & (events[first.outcome].cast("float64") == 0)
        counts[f"early_{label.name}"] = _.count(where=early.fill_null(False))
    for i, name in enumerate(checked(schema)):
        counts[f"missing_{i}"] = _.count(where=missing(events[name]))
    counts |= unusable.counts(events, schema)
    if schema.weight:
        weight = events[schema.weight].cast("float64")
        counts["unusable_weight"] = _.count(where=missing(weight) | ~weight.between(0, LARGEST))
    keys = {HOUR: events[HOUR], "scenario": events[schema.scenario.column]}
    keys |= {SPLIT: events[SPLIT]} if SPLIT in events.columns else {}
    return events.group_by(**keys).agg(**counts)


def checked(schema: FeatureSchema) -> list[str]:
    """The columns whose missing values are counted."""
    features = [f.source for f in schema.features if f.kind != "sequence"]
    return list(dict.fromkeys([ROW, schema.time, schema.user, *features]))


def numbers(schema: FeatureSchema) -> list[Feature]:
    """The features, and fields of behaviours, that are read as numbers, one a row."""
    read = [*schema.of_kind("id", "bag", "dense"), *own_fields(schema)]
    return [f for f in read if (encoder := schema.encoder_of(f)) and encoder.kind in NUMERIC_ENCODERS]


def _order(events: ir.Table, data_file: DataFile) -> list[ir.Value]:
    """Time, then all other columns. In lists, where each engine puts missing values elsewhere, they are last."""
    schema = data_file.features
    read = {*needed(schema, data_file.deduplicate.columns), *({ROW} & set(events.columns))} - {schema.time}
    kept = {*events.columns} - read - {schema.time, DAY, HOUR}
    in_order = sorted(read, key=lambda name: ("row" if name == ROW else name, name))
    columns = [events[name] for name in (schema.time, *in_order, *sorted(kept))]
    return [c.map(lambda value: value.cast("string").fill_null(LAST)) if c.type().is_array() else c for c in columns]
