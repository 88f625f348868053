"""The relational part of prepare, as Ibis expressions: one definition for every engine.

    standard    one row an event: needed columns, time in microseconds, day and hour, duplicates dropped,
                a stable row number
    profile     what there is, an hour and scenario at a time: rows, positives, missing and unusable values
    repeated    row numbers that are not of one row
    counts, boundaries, moments   what vocabularies, quantiles and scalers are fitted on

Nothing here is evaluated, and nothing knows which engine will do it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING

import ibis
from ibis import _

from swrec_prod.behaviours.windowed import DAY as DAY
from swrec_prod.behaviours.windowed import ROW as ROW
from swrec_prod.behaviours.windowed import SPLIT as SPLIT
from swrec_prod.behaviours.windowed import own_fields, read_columns
from swrec_prod.computed.columns import with_derived
from swrec_prod.computed.rules import with_rules
from swrec_prod.encoding.derived import DerivedColumns
from swrec_prod.encoding.raw_values import FLOAT32_MAX, WHOLE_FLOATS
from swrec_prod.engine.contract import Engine
from swrec_prod.logs import unusable
from swrec_prod.logs.unusable import LARGEST, missing
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.schema import NUMERIC_ENCODERS, Feature, FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.expr.datatypes import DataType

HOUR = "_hour"
HOUR_US = 3_600_000_000
LAST = chr(sys.maxunicode)
DAY_ROWS = 2**32  # row numbers made here: day * DAY_ROWS + position in the day


def standard(engine: Engine, log: ir.Table, data_file: DataFile, derived: DerivedColumns | None = None) -> ir.Table:
    """The events of a source's standard table: `row`, `_day` and `_hour` (days and hours since 1970 where the log is),
    and the columns that the schema reads, `time` as int64 microseconds, derived ones and labels by rule (computed/).

    Of rows with equal `deduplicate` columns on one day the first by time stays; ties are broken by all other columns,
    so that what stays does not depend on the order in which an engine reads. Columns that are only kept break ties
    last, so that they change no number of another row.
    """
    schema = data_file.features
    events = log.select(*needed(schema, log.columns, (*data_file.deduplicate, *data_file.keep)))
    if events[schema.time].type().is_timestamp():
        events = events.mutate(**{schema.time: engine.micros(events[schema.time])})
    shifted = events[schema.time].cast("int64") + data_file.offset_us
    events = events.mutate(**{schema.time: events[schema.time].cast("int64"), HOUR: shifted // HOUR_US})
    events = events.mutate(**{DAY: events[HOUR] // 24})
    if data_file.deduplicate:
        same = ibis.window(group_by=[DAY, *data_file.deduplicate], order_by=_order(events, data_file))
        events = events.mutate(_copy=ibis.row_number().over(same)).filter(_["_copy"] == 0).drop("_copy")
    if ROW not in events.columns:
        position = ibis.row_number().over(ibis.window(group_by=DAY, order_by=_order(events, data_file)))
        day = events[DAY].fill_null(0)  # a row without a time has a number too, so that it can be named and refused
        events = events.mutate(**{ROW: day * DAY_ROWS + position})
    return with_rules(with_derived(engine, events, derived or DerivedColumns(schema)), schema)


def needed(schema: FeatureSchema, present: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """The columns of the log that the schema reads, once each; of derived ones those that they are computed of."""
    names = [ROW] if ROW in present else []
    names += [schema.time, schema.user, schema.scenario.column, *(label.column for label in schema.labels)]
    names += [name for name in (schema.request, schema.weight) if name]
    names += [column for f in schema.features for column in f.raw_columns.values()]
    names += read_columns(schema)
    return list(dict.fromkeys([*(raw for name in names for raw in schema.raw_of(name)), *more]))


def serving_types(schema: FeatureSchema, types: Mapping[str, DataType], untyped: Set[str]) -> dict[str, DataType]:
    """Types for the columns `untyped`, of which no file has a value: int64 for numbers, else those ids are made of.

    types: all columns, with their types; that of a column without a type is string.
    """
    kinds = {ROW: "int64", schema.user: "string", **{label.column: "int64" for label in schema.labels}}
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
    """Counts by `_hour` and `scenario` (the raw value): `rows`; `positives_<task>`, `unusable_<task>` (neither 0 nor
    1), `early_<task>` (1 where the label that it is after is 0); `missing_<i>` of the columns of `checked`;
    what `unusable.counts` has; `unusable_weight`.
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
    return events.group_by(**{HOUR: events[HOUR], "scenario": events[schema.scenario.column]}).agg(**counts)


def repeated(events: ir.Table) -> ir.Table:
    """One row: `rows`, how many row numbers several rows have or are below 0, and `day`, the first day of those."""
    numbers = events.group_by(ROW).agg(rows=_.count(), day=_[DAY].min()).filter((_.rows > 1) | (_[ROW] < 0))
    return numbers.agg(rows=_.count(), day=_.day.min())


def checked(schema: FeatureSchema) -> list[str]:
    """The columns whose missing values are counted."""
    features = [f.source for f in schema.features if f.kind != "sequence"]
    return list(dict.fromkeys([ROW, schema.time, schema.user, *features]))


def numbers(schema: FeatureSchema) -> list[Feature]:
    """The features, and fields of behaviours, that are read as numbers, one a row."""
    read = [*schema.of_kind("id", "bag", "dense"), *own_fields(schema)]
    return [f for f in read if (encoder := schema.encoder_of(f)) and encoder.kind in NUMERIC_ENCODERS]


def counts(events: ir.Table, features: Sequence[Feature]) -> ir.Table:
    """`value`, `count` of the values of features that share a table, missing ones left out."""
    values = _union([_ids(_elements(events, f.source)) for f in features])
    return values.filter(values.value.notnull()).group_by("value").agg(count=_.count())


def boundaries(events: ir.Table, columns: Sequence[str], buckets: int) -> ir.Table:
    """`value`: boundaries that put equally many of the columns' numbers into each of `buckets`, rising.

    A boundary is the smallest value with k / `buckets` of the rows below it, k = 1, 2 ...: a value of its own, never
    between two. Values that many rows share may be several of these; then there are fewer.
    """
    numbers = _numbers(events, columns)
    counted = numbers.group_by("value").agg(count=_.count())
    up_to_here = counted["count"].sum().over(ibis.cumulative_window(order_by="value"))
    counted = counted.mutate(below=up_to_here - counted["count"], rows=counted["count"].sum().over(ibis.window()))
    counted = counted.mutate(level=(counted.below.cast("int64") * buckets) // counted.rows.cast("int64"))
    first = counted.filter(counted.level > 0).group_by("level").agg(value=_.value.min())
    return first.select("value").order_by("value")


def moments(events: ir.Table, columns: Sequence[str], *, logarithm: bool = False) -> ir.Table:
    """One row: mean and std (population) of the columns' numbers, or of log(1 + number), their min and max, null
    without any; how many are `unusable`, as they are not finite or overflow float32.
    """
    number = _numbers(events, columns)
    known = number.value.abs() <= FLOAT32_MAX  # Ibis finds no infinity on Spark
    term = _log1p(number.value) if logarithm else number.value
    statistics = {"mean": term.mean(where=known), "std": term.std(where=known, how="pop")}
    extremes = {"min": number.value.min(where=known), "max": number.value.max(where=known)}
    unusable = number.count(where=~known).fill_null(0)  # without rows Spark counts null
    return number.agg(**statistics, **extremes, unusable=unusable)


def _order(events: ir.Table, data_file: DataFile) -> list[ir.Value]:
    """Time, then all other columns. In lists, where each engine puts missing values elsewhere, they are last."""
    schema = data_file.features
    read = {*needed(schema, events.columns, data_file.deduplicate)} - {schema.time}
    kept = {*data_file.keep} - read - {schema.time}
    columns = [events[name] for name in (schema.time, *sorted(read), *sorted(kept))]
    return [c.map(lambda value: value.cast("string").fill_null(LAST)) if c.type().is_array() else c for c in columns]


def _elements(events: ir.Table, column: str) -> ir.Table:
    """`value`: of the column's rows, or the elements of its lists, of lists in lists too."""
    values = events.select(value=events[column])
    while values.value.type().is_array():
        values = values.select(value=values.value.unnest())
    return values


def _ids(values: ir.Table) -> ir.Table:
    """As strings, or int64; floating numbers are whole here, and NaN is missing."""
    value = values.value
    if value.type().is_floating():
        value = ibis.ifelse(value.abs() < WHOLE_FLOATS, value, ibis.null("float64"))
    return values.select(value=value.cast("string" if value.type().is_string() else "int64"))


def _numbers(events: ir.Table, columns: Sequence[str]) -> ir.Table:
    """`value`: the numbers of the columns as float64, missing ones left out."""
    values = _union([_elements(events, column).select(value=_.value.cast("float64")) for column in columns])
    return values.filter(~missing(values.value))


def _union(tables: Sequence[ir.Table]) -> ir.Table:
    return ibis.union(*tables) if len(tables) > 1 else tables[0]


def _log1p(number: ir.FloatingValue) -> ir.FloatingValue:
    """log(1 + number), exact for small numbers too, of numbers >= 0 (Kahan 1981; DuckDB has no function for it)."""
    positive = ibis.greatest(number, 0.0)
    one_more = 1.0 + positive
    return ibis.ifelse(one_more == 1.0, positive, one_more.ln() * (positive / (one_more - 1.0)))
