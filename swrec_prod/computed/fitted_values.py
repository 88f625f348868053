"""What vocabularies, quantiles and scalers are fitted on, as Ibis expressions: one definition for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import ibis
from ibis import _

from swrec_prod.encoding.raw_values import FLOAT32_MAX, WHOLE_FLOATS
from swrec_prod.logs.unusable import missing
from swrec_prod.schema import Feature

if TYPE_CHECKING:
    import ibis.expr.types as ir


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
