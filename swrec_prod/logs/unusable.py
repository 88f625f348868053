"""Values that no encoder takes: what makes them so, for an engine to count, and what a user is told.

The encoder refuses each of them too; but here it is known where they are, and all days are looked at before the first
is prepared.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from swrec_prod.encoding.raw_values import FLOAT32_MAX, WHOLE_FLOATS
from swrec_prod.raw.source import ROW
from swrec_prod.schema import DENSE_ENCODERS, NUMERIC_ENCODERS, Encoder, Feature, FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir

LARGEST = sys.float_info.max
# whether a row is unusable, and the number to show of it; None where a column of this type is always usable
Found = tuple["ir.BooleanValue", "ir.Value"] | None


class Rule(NamedTuple):
    """What must not be in a raw column.

    column: of the log. feature: that is made of it. wrong: what there is then. remedy: what to do. find: looks for it.
    """

    column: str
    feature: str
    wrong: str
    remedy: str
    find: Callable[[ir.Table], Found]


def rules(schema: FeatureSchema) -> list[Rule]:
    """The rules of all features; the profile counts by their places in this list."""
    return [rule for feature in schema.of_kind("id", "bag", "dense", "vector") for rule in _of(schema, feature)]


def counts(events: ir.Table, schema: FeatureSchema) -> dict[str, ir.Value]:
    """`unfit_<i>`, how many rows break rule i; and of the first of them its time (int64) and value, `when_<i>` and
    `shown_<i>`.
    """
    counted: dict[str, ir.Value] = {}
    for i, rule in enumerate(rules(schema)):
        if found := rule.find(events):
            bad = found[0].fill_null(False)
            counted[f"unfit_{i}"] = events.count(where=bad)
            counted[f"when_{i}"] = events[schema.time].argmin(events[ROW], where=bad)
            counted[f"shown_{i}"] = found[1].cast("float64").argmin(events[ROW], where=bad)
    return counted


def missing(column: ir.Value) -> ir.BooleanValue:
    """Null or NaN."""
    return column.isnull() | column.isnan() if column.type().is_floating() else column.isnull()


def _of(schema: FeatureSchema, feature: Feature) -> Iterator[Rule]:
    """The rules of one feature, and of its weights."""
    encoder, column = schema.encoder_of(feature), feature.source
    if feature.kind == "vector":
        wrong = f"vectors of another width than {feature.width}"
        yield Rule(column, feature.name, wrong, "mend them, or `width` in the schema", partial(_other_width, feature))
        wrong = "vectors with a number that is missing (null or NaN), infinite or too large for float32"
        yield Rule(column, feature.name, wrong, "give a number, or no list at all", partial(_no_number, column, None))
    elif encoder is not None and encoder.kind in NUMERIC_ENCODERS:
        yield _of_numbers(feature, encoder)
    else:
        wrong = "floating numbers that are no whole numbers, or 2^53 and more and so not exact"
        yield Rule(column, feature.name, wrong, "ids are whole numbers or strings", partial(_no_id, column))
    if feature.weights:
        wrong = f"lists of other lengths than those of column {column!r}"
        yield Rule(feature.weights, feature.name, wrong, "give one weight for each value", partial(_unequal, feature))
        wrong = "lists with a weight that is below 0, missing (null or NaN), infinite or too large for float32"
        yield Rule(feature.weights, feature.name, wrong, "give numbers >= 0", partial(_no_number, feature.weights, 0.0))


def _of_numbers(feature: Feature, encoder: Encoder) -> Rule:
    column, high = feature.source, FLOAT32_MAX if encoder.kind in DENSE_ENCODERS else LARGEST
    wrong = "values that are infinite" + (" or too large for float32" if high == FLOAT32_MAX else "")
    if encoder.kind == "log1p":
        wrong = "values that are infinite, too large for float32, or below 0 where log1p is taken"
    low = 0.0 if encoder.kind == "log1p" else -high
    return Rule(column, feature.name, wrong, "mend them, or leave them missing", partial(_outside, column, low, high))


def _outside(column: str, low: float, high: float, events: ir.Table) -> Found:
    """Neither missing nor from `low` to `high`."""
    number = events[column].cast("float64")
    return ~number.between(low, high) & ~missing(number), number


def _no_id(column: str, events: ir.Table) -> Found:
    """A floating number that is not exactly an integer, or a list with one."""
    values, kind = events[column], events[column].type()
    if kind.is_floating():
        return _is_no_id(values), values
    if kind.is_array() and kind.value_type.is_floating():
        return _some(values, _is_no_id)
    return None


def _is_no_id(number: ir.Value) -> ir.BooleanValue:
    number = number.cast("float64")
    return ~missing(number) & ((number.abs() >= WHOLE_FLOATS) | (number != number.floor()))


def _other_width(feature: Feature, events: ir.Table) -> Found:
    """A list that is neither empty nor of the feature's width."""
    length = events[feature.source].length()
    return ~length.isin([0, feature.width]), length


def _no_number(column: str, low: float | None, events: ir.Table) -> Found:
    """A list with an element that is missing, infinite, too large or below `low`."""
    least = -FLOAT32_MAX if low is None else low

    def bad(element: ir.Value) -> ir.BooleanValue:
        number = element.cast("float64")
        return missing(number) | ~number.between(least, FLOAT32_MAX)

    return _some(events[column], bad)


def _some(lists: ir.ArrayValue, bad: Callable[[ir.Value], ir.BooleanValue]) -> Found:
    """A list with such an element."""
    wrong = lists.filter(bad)
    return wrong.length() > 0, wrong[0]


def _unequal(feature: Feature, events: ir.Table) -> Found:
    """Another number of weights than of values."""
    assert feature.weights is not None
    length = events[feature.weights].length().fill_null(0)
    return length != events[feature.source].length().fill_null(0), length
