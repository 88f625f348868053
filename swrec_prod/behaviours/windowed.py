"""Which events are behaviours, and how many of them a row has before it, as Ibis expressions for every engine.

    windowed    for every row, how many behaviours of its user happened strictly before it
    latest      the last behaviours of every user in days that are prepared already

Nothing here is evaluated, and nothing knows which engine will do it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ibis
from ibis import _

from swrec_prod.schema import Feature, FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir

SPLIT = "_split"  # train, valid or test, where rows are dealt at random


def windowed(events: ir.Table, schema: FeatureSchema) -> ir.Table:
    """The events with `_before_<name>`, int64, for every sequence feature: its behaviours of the same user, of
    `events`, strictly before the row's time. Rows of a user that share a time do not see each other.
    """
    strictly_before = ibis.range_window(preceding=(None, 1), group_by=schema.user, order_by=schema.time)
    before = {}
    for feature in schema.of_kind("sequence"):
        count = events.count(where=behaved(events, schema, feature)).over(strictly_before)
        # an empty frame counts 0 on one engine and null on another
        before[f"_before_{feature.name}"] = count.fill_null(0)
    return events.mutate(**before) if before else events


def behaved(events: ir.Table, schema: FeatureSchema, feature: Feature) -> ir.BooleanValue:
    """Whether an event is a behaviour of `feature`."""
    label = next((label.outcome for label in schema.labels if label.name == feature.where), None)
    return _has(events, _of_behaviours(label, SPLIT, events.columns))


def of_prepared_behaviours(feature: Feature, columns: Sequence[str]) -> dict[str, int | str]:
    """Column -> value of the prepared rows that are behaviours of `feature`. columns: those of the rows."""
    return _of_behaviours(f"label_{feature.where}" if feature.where else None, "split", columns)


def _of_behaviours(label: str | None, split: str, columns: Sequence[str]) -> dict[str, int | str]:
    """What a behaviour is: a row whose `label` is 1, any row without one. With a random split only training rows are: a
    training row may be later than a test row of its user, and a history with that row would tell its label.
    """
    return ({label: 1} if label else {}) | ({split: "train"} if split in columns else {})


def _has(rows: ir.Table, values: Mapping[str, int | str]) -> ir.BooleanValue:
    """Whether a row has these values."""
    equal = ibis.literal(True)
    for name, value in values.items():
        column = rows[name] if isinstance(value, str) else rows[name].cast("float64")
        equal = equal & (column == value)
    return equal


def latest(rows: ir.Table, feature: Feature) -> ir.Table:
    """user, time, row, item, scenario of the last `max_length` behaviours of every user in prepared rows."""
    happened = rows.filter(_has(rows, of_prepared_behaviours(feature, rows.columns)))
    happened = happened.select("user", "time", "row", "scenario", item=happened[feature.table])
    if feature.max_length is None:
        return happened
    newest_first = ibis.window(group_by="user", order_by=[ibis.desc("time"), ibis.desc("row")])
    aged = happened.mutate(_age=ibis.row_number().over(newest_first))
    return aged.filter(_["_age"] < feature.max_length).drop("_age")
