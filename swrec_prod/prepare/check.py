"""Whether a standard table is what its schema says: found out before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

import ibis

from swrec_prod.behaviours.brought import brought
from swrec_prod.behaviours.windowed import asked_column, brought_parts, computed, own_fields
from swrec_prod.computed.rules import check_rule
from swrec_prod.errors import DataError, nearest
from swrec_prod.prepare.etl import value_type
from swrec_prod.schema import NUMERIC_ENCODERS, Feature, FeatureSchema
from swrec_prod.schema.feature_schema import NO_TIME
from swrec_prod.schema.label import Value

if TYPE_CHECKING:
    from ibis.expr.datatypes import DataType


def check_columns(
    schema: FeatureSchema,
    columns: Mapping[str, DataType],
    source: str,
    deduplicate: tuple[str, ...] = (),
    keep: tuple[str, ...] = (),
) -> None:
    """Raises DataError for a column that is missing (naming the nearest) or of a type that cannot serve.

    columns: of the standard table, with their types, derived ones among them.
    """
    wanted = {"time": schema.time, "user": schema.user, "scenario": schema.scenario.column}
    wanted |= {key: column for key in ("request", "weight") if (column := getattr(schema, key))}
    wanted |= {f"label {label.name}": label.column for label in schema.labels}
    wanted |= {f"feature {name}": column for f in schema.features for name, column in f.raw_columns.items()}
    wanted |= {f"field {part.name}": part.source for part in own_fields(schema)}
    others = [*(("deduplicate", name) for name in deduplicate), *(("keep", name) for name in keep)]
    for purpose, column in [*wanted.items(), *others]:
        if column not in columns:
            raise DataError(f"{source}: column {column!r} ({purpose}) is missing; {nearest(column, columns)}")
        if column.startswith("_") and column != NO_TIME:
            own = "begins with _, as the columns do that prepare makes for itself"
            raise DataError(f"{source}: column {column!r} ({purpose}) {own}; give it another name in the log")
    of_time, of_scenario = columns[schema.time], columns[schema.scenario.column]
    if not (of_time.is_timestamp() or of_time.is_int64()):
        _refuse(source, schema.time, of_time, "timestamp, or int64 microseconds since 1970")
    if not of_scenario.is_string():
        _refuse(source, schema.scenario.column, of_scenario, "string")
    for column in (schema.user, schema.request):
        if column and not _names(columns[column]):
            _refuse(source, column, columns[column], "string or integer (it names users or requests)")
    for column in keep:
        if columns[column].is_nested():
            _refuse(source, column, columns[column], "one value a row (keep)")
    if schema.weight and not _number(columns[schema.weight]):
        _refuse(source, schema.weight, columns[schema.weight], "integer or floating numbers", "weight column")
    for label in schema.labels:
        if label.has_rule:
            check_rule(label, columns[label.column], source)
        elif not (columns[label.column].is_numeric() or columns[label.column].is_boolean()):
            _refuse(source, label.column, columns[label.column], "0 and 1", "label column")
    for feature in (*schema.of_kind("id", "bag", "dense", "vector"), *own_fields(schema)):
        _check_feature(schema, feature, columns, source)
    outcomes: dict[str, DataType] = {label.outcome: ibis.dtype("int8") for label in schema.labels if label.has_rule}
    for feature in computed(schema):
        if isinstance(feature.where, dict):
            for name, values in feature.where.items():
                _check_where(feature.name, asked_column(schema, name), values, outcomes | dict(columns), source)
    for feature in brought(schema):
        _check_lists(schema, feature, columns, source)


def _check_feature(schema: FeatureSchema, feature: Feature, columns: Mapping[str, DataType], source: str) -> None:
    """A bag and a vector are lists and nothing else is; ids are made of strings and integers, numbers of numbers."""
    kind, is_list = columns[feature.source], feature.kind in ("bag", "vector")
    if kind.is_array() != is_list:
        expected = "a list" if is_list else "one value a row"
        _refuse(source, feature.source, kind, f"{expected} (feature {feature.name!r} is {feature.kind})")
    value, encoder = value_type(kind), schema.encoder_of(feature)
    numeric = feature.kind == "vector" or (encoder is not None and encoder.kind in NUMERIC_ENCODERS)
    where = f"{source}: feature {feature.name!r}"
    if feature.kind == "bag" and numeric and encoder is not None:
        raise DataError(f"{where}: {encoder.kind} takes one number a row, expected vocab or hash for a bag")
    if not (_number(value) if numeric else _names(value) or value.is_floating()):
        expected = f"numbers{_remedy(value)}" if numeric else "string or integer to make ids of"
        _refuse(source, feature.source, kind, f"{expected} (feature {feature.name!r})")
    if feature.weights and not (columns[feature.weights].is_array() and _number(value_type(columns[feature.weights]))):
        _refuse(source, feature.weights, columns[feature.weights], f"a list of numbers (weights of {feature.name!r})")
    owner = next((f for f in schema.features if f.name == feature.table != feature.name), None)
    if owner is not None and value_type(columns[owner.source]).is_string() != value.is_string():
        shared = f"{value_type(columns[owner.source])} as in {owner.name!r}, whose table it shares"
        raise DataError(f"{where}: values are {value}, expected {shared}")


def _remedy(kind: DataType) -> str:
    """How a column that holds no numbers becomes one that does."""
    if kind.is_decimal():
        return ": write it as double, not as decimal"
    if kind.is_timestamp() or kind.is_date():
        return ": derive one of it, such as hour, weekday or days_since (`derived` of the schema)"
    return ": write it as a number, or give the feature kind id" if kind.is_string() else ""


def _check_lists(schema: FeatureSchema, feature: Feature, columns: Mapping[str, DataType], source: str) -> None:
    """The columns of behaviours that the log brings are lists, of what their parts are made of."""
    lists, of_behaviours = feature.columns or {}, f"behaviours of {feature.name!r}"
    for column in lists.values():
        if column not in columns:
            raise DataError(f"{source}: column {column!r} ({of_behaviours}) is missing; {nearest(column, columns)}")
        if not columns[column].is_array():
            _refuse(source, column, columns[column], f"a list ({of_behaviours})")
    elements = {**columns, **{column: columns[column].value_type for column in lists.values()}}
    for part in brought_parts(schema):
        if part.name.startswith(f"{feature.name}."):
            _check_feature(schema, part, elements, source)
    if "scenario" in lists and not _names(elements[lists["scenario"]]):
        _refuse(source, lists["scenario"], columns[lists["scenario"]], f"lists of strings ({of_behaviours})")
    time = elements[lists["time"]] if "time" in lists else None
    if time is not None and not (time.is_timestamp() or time.is_int64()):
        expected = f"lists of timestamps, or of int64 microseconds since 1970 ({of_behaviours})"
        _refuse(source, lists["time"], columns[lists["time"]], expected)


def _check_where(
    sequence: str, column: str, values: tuple[Value, ...], columns: Mapping[str, DataType], source: str
) -> None:
    """A column that says what a behaviour is has values of the type that are asked for."""
    what = f"sequence {sequence!r}: where"
    if column not in columns:
        raise DataError(f"{source}: column {column!r} ({what}) is missing; {nearest(column, columns)}")
    kind = columns[column]
    fitting: dict[str, tuple[type, ...]] = {"string": (str,), "boolean": (bool,), "integer": (int,)}
    family = next((name for name in fitting if getattr(kind, f"is_{name}")()), None)
    allowed = fitting[family] if family else (int, float) if kind.is_floating() else ()
    for value in values:
        is_flag = family == "boolean" and value in (0, 1)  # as a label's
        if not is_flag and (not isinstance(value, allowed) or isinstance(value, bool) != (family == "boolean")):
            raise DataError(f"{source}: column {column!r} is {kind}, but {what} has {value!r}, {type(value).__name__}")


def _refuse(source: str, column: str, kind: DataType, expected: str, what: str = "column") -> NoReturn:
    raise DataError(f"{source}: {what} {column!r} is {kind}, expected {expected}")


def _names(kind: DataType) -> bool:
    return kind.is_string() or kind.is_integer() or kind.is_boolean() or kind.is_null()


def _number(kind: DataType) -> bool:
    """Decimals are none: the encoder reads what a computer computes with."""
    return kind.is_integer() or kind.is_floating() or kind.is_boolean() or kind.is_null()
