"""Drawn items as rows of the log: the row that they are drawn for, with another item and labels that are 0.

Their row numbers are below 0, which tells them from what happened: -1 - (row * per_positive + nth).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import ibis
from ibis import _

from swrec_prod.engine.contract import Engine
from swrec_prod.negatives.draw import drawn, numbered
from swrec_prod.negatives.options import Negatives, item_columns
from swrec_prod.raw.source import ROW
from swrec_prod.schema import FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir


class Drawn(NamedTuple):
    """rows: the negatives, evaluated. wanted: for how many rows; made: how many there are; short, without: how many
    rows have fewer than `per_positive`, and none.
    """

    rows: ir.Table
    wanted: int
    made: int
    short: int
    without: int

    @property
    def summary(self) -> str:
        """The counts, for people."""
        few = f"; {self.short:,} rows have fewer than wanted, {self.without:,} of them none" if self.short else ""
        return f"{self.made:,} drawn for {self.wanted:,} positive rows{few}"


def negatives(
    engine: Engine,
    events: ir.Table,
    day: str,
    days: Sequence[int] | None,
    schema: FeatureSchema,
    options: Negatives,
    outcomes: Sequence[str] = (),
) -> Drawn:
    """The negatives of `days` (all without them), with the columns of `events`: etl.standard of the log up to there.

    day: the column of days since 1970. What features of side item read is as in the latest row of the drawn item, at
    the row's moment or before; labels are 0, `outcomes` missing, everything else is the positive's.
    """
    item = options.item_column(schema)
    positive = ibis.or_(*(events[label.outcome].cast("float64") == 1 for label in schema.labels)).fill_null(False)
    narrow = events.select(
        row=events[ROW], day=events[day], time=events[schema.time], user=events[schema.user],
        scenario=events[schema.scenario.column], item=events[item], positive=positive,
    )  # fmt: skip
    changed = item_columns(schema) - {item}
    unknown = {label.column for label in schema.labels if label.has_rule} | set(outcomes)
    values: dict[str, Any] = {name: ibis.null() for name in unknown & set(events.columns)}
    values |= {item: _["_item"]} | {name: _[f"_latest_{name}"] for name in changed}
    values |= {label.outcome: 0 for label in schema.labels}
    values[ROW] = -1 - (_[ROW] * options.per_positive + _["_nth"])
    with ExitStack() as stack:
        evaluated = partial(_evaluated, engine, stack)
        log = evaluated(numbered(narrow, options))
        wanted = log.filter(log.positive) if days is None else log.filter(log.positive & log.day.isin(days))
        items = drawn(engine, evaluated, log, wanted, options)
        rows = events.inner_join(_with_latest(log, items, events, changed), [(ROW, "row")]).mutate(**values)
        rows = engine.materialise(rows.select(*events.columns).cast(events.schema()))
        return Drawn(rows, **_counts(engine, wanted, items, options))


def _evaluated(engine: Engine, stack: ExitStack, rows: ir.Table) -> ir.Table:
    """`rows`, evaluated, until `stack` ends."""
    table = engine.materialise(rows)
    stack.callback(engine.release, table)
    return table


def happened(events: ir.Table) -> ir.Table:
    """The events that are rows of the log."""
    return events.filter(events[ROW] >= 0)


def _with_latest(log: ir.Table, items: ir.Table, events: ir.Table, columns: set[str]) -> ir.Table:
    """row, _nth, _item of `items`, and `_latest_<column>`: of the item's latest row at the time of `row`, or before."""
    of_items = items.select("row", _nth=items.nth, _item=items.item)
    if not columns:
        return of_items
    seen = log.filter(log.item.notnull()).select("item", "time", row=ibis.null("int64"), nth=ibis.null("int64"))
    both = seen.union(items.select("item", "time", "row", nth=items.nth.cast("int64")))
    so_far = ibis.range_window(preceding=None, following=0, group_by="item", order_by="time")
    both = both.mutate(of_item=both.count(where=both.row.isnull()).over(so_far) - 1).filter(_.row.notnull())
    latest = both.join(log.select("item", "of_item", _latest=log.row), ["item", "of_item"])
    latest = latest.select("row", "_latest", _nth=_.nth, _item=_.item)
    values = events.select(_of=events[ROW], **{f"_latest_{name}": events[name] for name in columns})
    return latest.join(values, latest["_latest"] == values["_of"]).drop("_latest", "_of")


def _counts(engine: Engine, wanted: ir.Table, items: ir.Table, options: Negatives) -> dict[str, int]:
    of_row = items.group_by("row").agg(made=_.count())
    full = of_row.count(where=of_row.made == options.per_positive)
    made = engine.arrow(of_row.agg(made=_.made.sum().fill_null(0), rows=_.count(), full=full)).to_pylist()[0]
    asked = engine.arrow(wanted.agg(rows=_.count()))["rows"][0].as_py()
    return {"wanted": asked, "made": made["made"], "short": asked - made["full"], "without": asked - made["rows"]}
