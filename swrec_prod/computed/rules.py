"""Labels by rule: when a column's value makes a 1, as an expression for every engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

from swrec_prod.errors import DataError
from swrec_prod.logs.unusable import missing
from swrec_prod.schema import FeatureSchema, Label

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.expr.datatypes import DataType


def with_rules(events: ir.Table, schema: FeatureSchema) -> ir.Table:
    """The events with `Label.outcome` of the labels by rule: 1, 0, or missing where the column is."""
    rules = {label.outcome: _rule(events[label.column], label) for label in schema.labels if label.has_rule}
    return events.mutate(**rules) if rules else events


def _rule(column: ir.Value, label: Label) -> ir.Value:
    if label.above is not None:
        holds = column > label.above
    else:
        holds = column.isin([label.equals] if label.any_of is None else list(label.any_of))
    return ibis.ifelse(missing(column), ibis.null("int8"), holds.cast("int8"))


def check_rule(label: Label, kind: DataType, source: str) -> None:
    """Raises DataError where a label's rule has values that its column, of type `kind`, can never have."""
    wrong = f"{source}: label {label.name!r}: column {label.column!r} is {kind}"
    if label.above is not None and not (kind.is_numeric() and not kind.is_boolean()):
        raise DataError(f"{wrong}, but `above` takes numbers; say equals or in, with its values")
    rule = "equals" if label.equals is not None else "in"
    for value in () if label.above is not None else label.any_of or (label.equals,):
        if not _may_be(value, kind):
            raise DataError(f"{wrong}, so it is never {value!r} ({rule}); give values of that type")


def _may_be(value: object, kind: DataType) -> bool:
    if isinstance(value, bool) or kind.is_boolean():
        return isinstance(value, bool) and kind.is_boolean()
    if isinstance(value, str):
        return kind.is_string()
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return (kind.is_integer() and whole) or kind.is_floating() or kind.is_decimal()
