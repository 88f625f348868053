"""Which events are behaviours, and how many of them a row has before it, as Ibis expressions for every engine.

    windowed    for every row, how many behaviours of its user happened strictly before it, and whether it is one
    latest      the last behaviours of every user in days that are prepared already

Nothing here is evaluated, and nothing knows which engine will do it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ibis
from ibis import _

from swrec_prod.data.day_files import fields_of, happened_column, own_column, own_columns
from swrec_prod.raw.source import DAY as DAY
from swrec_prod.raw.source import ROW as ROW
from swrec_prod.schema import Feature, FeatureSchema
from swrec_prod.schema.label import Value

if TYPE_CHECKING:
    import ibis.expr.types as ir

SPLIT = "_split"  # train, valid or test, where rows are dealt at random


def computed(schema: FeatureSchema) -> tuple[Feature, ...]:
    """The sequences whose behaviours are events of the log; of the others the log has lists."""
    return tuple(feature for feature in schema.of_kind("sequence") if feature.columns is None)


def own_fields(schema: FeatureSchema) -> tuple[Feature, ...]:
    """The fields of computed sequences that are read from the log for themselves (day_files.own_column)."""
    fields = (part for feature in computed(schema) for part in fields_of(schema, feature))
    return tuple(part for part in fields if "@" in own_column(schema, part))


def brought_parts(schema: FeatureSchema) -> tuple[Feature, ...]:
    """Items and fields of the sequences that the log brings, each of a list column."""
    sequences = (feature for feature in schema.of_kind("sequence") if feature.columns is not None)
    return tuple(part for f in sequences for part in schema.parts[f.name] if part.name != f"{f.name}.age")


def read_columns(schema: FeatureSchema) -> list[str]:
    """The columns of the log that behaviours need beside those of features."""
    wheres = [feature.where for feature in computed(schema) if isinstance(feature.where, dict)]
    asked = [name for where in wheres for name in where if name not in schema.tasks]
    brought = [column for feature in schema.of_kind("sequence") for column in (feature.columns or {}).values()]
    return [*(part.source for part in own_fields(schema)), *asked, *brought]


def windowed(events: ir.Table, schema: FeatureSchema) -> ir.Table:
    """The events with `_before_<name>`, int64, for every computed sequence: its behaviours of the same user, of
    `events`, strictly before the row's time. Rows of a user that share a time do not see each other. Where columns of
    the log say what a behaviour is, also with `_is_<name>`.
    """
    strictly_before = ibis.range_window(preceding=(None, 1), group_by=schema.user, order_by=schema.time)
    more: dict[str, ir.Value] = {}
    for feature in computed(schema):
        is_one = behaved(events, schema, feature)
        # an empty frame counts 0 on one engine and null on another
        more[f"_before_{feature.name}"] = events.count(where=is_one).over(strictly_before).fill_null(0)
        if isinstance(feature.where, dict):
            more[f"_is_{feature.name}"] = is_one
    return events.mutate(**more) if more else events


def behaved(events: ir.Table, schema: FeatureSchema, feature: Feature) -> ir.BooleanValue:
    """Whether an event is a behaviour of `feature`."""
    if isinstance(feature.where, dict):
        chosen = [_is_in(events[asked_column(schema, key)], values) for key, values in feature.where.items()]
        return ibis.and_(_has(events, _of_behaviours(None, SPLIT, events.columns)), *chosen)
    label = asked_column(schema, feature.where) if feature.where else None
    return _has(events, _of_behaviours(label, SPLIT, events.columns))


def asked_column(schema: FeatureSchema, name: str) -> str:
    """The column of the log that `where` means by `name`: that of the label, or the one of this name."""
    return next((label.outcome for label in schema.labels if label.name == name), name)


def _is_in(column: ir.Value, values: Sequence[Value]) -> ir.BooleanValue:
    """Whether a column has one of `values`, which are of its type (prepare/check.py); a missing value is none."""
    column = column.cast("int64") if column.type().is_boolean() else column
    wanted = [int(value) if isinstance(value, bool) else value for value in values]
    return column.isin(wanted).fill_null(False)


def of_prepared_behaviours(feature: Feature, columns: Sequence[str]) -> dict[str, int | str]:
    """Column -> value of the prepared rows that are behaviours of `feature`. columns: those of the rows."""
    return _of_behaviours(happened_column(feature), "split", columns)


def _of_behaviours(label: str | None, split: str, columns: Sequence[str]) -> dict[str, int | str]:
    """What a behaviour is: a row whose `label` is 1, any row without one. With a random split only training rows are: a
    training row may be later than a test row of its user, and a history with that row would tell its label.
    """
    return ({label: 1} if label else {}) | ({split: "train"} if split in columns else {})


def _has(rows: ir.Table, values: Mapping[str, int | str]) -> ir.BooleanValue:
    """Whether a row has these values, and happened: drawn negatives have numbers below 0."""
    equal = rows[ROW if ROW in rows.columns else "row"] >= 0
    for name, value in values.items():
        column = rows[name] if isinstance(value, str) else rows[name].cast("float64")
        equal = equal & (column == value)
    return equal


def latest(rows: ir.Table, schema: FeatureSchema, feature: Feature) -> ir.Table:
    """user, time, row, scenario, item and fields of the last `max_length` behaviours of every user in prepared rows."""
    happened = rows.filter(_has(rows, of_prepared_behaviours(feature, rows.columns)))
    parts = {part: happened[column] for part, column in own_columns(schema, feature).items()}
    happened = happened.select(_user="user", _time="time", _row="row", _scenario="scenario", **parts)
    if feature.max_length is None:
        return happened
    newest_first = ibis.window(group_by="_user", order_by=[ibis.desc("_time"), ibis.desc("_row")])
    aged = happened.mutate(_age=ibis.row_number().over(newest_first))
    return aged.filter(_["_age"] < feature.max_length).drop("_age")
