"""Whether a standard table is what its schema says: found out before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from swrec_prod.errors import DataError, nearest
from swrec_prod.prepare.etl import value_type
from swrec_prod.schema import Feature, FeatureSchema

if TYPE_CHECKING:
    from ibis.expr.datatypes import DataType


def check_columns(
    schema: FeatureSchema, columns: Mapping[str, DataType], source: str, deduplicate: tuple[str, ...] = ()
) -> None:
    """Raises DataError for a column that is missing (naming the nearest) or of a type that cannot serve.

    columns: of the standard table, with their types.
    """
    wanted = {"time": schema.time, "user": schema.user, "scenario": schema.scenario.column}
    wanted |= {key: column for key in ("request", "weight") if (column := getattr(schema, key))}
    wanted |= {f"label {label.name}": label.column for label in schema.labels}
    wanted |= {f"feature {f.name}": f.source for f in schema.features if f.kind != "sequence"}
    for purpose, column in [*wanted.items(), *(("deduplicate", name) for name in deduplicate)]:
        if column not in columns:
            raise DataError(f"{source}: column {column!r} ({purpose}) is missing; {nearest(column, columns)}")
    of_time, of_scenario = columns[schema.time], columns[schema.scenario.column]
    if not (of_time.is_timestamp() or of_time.is_int64()):
        _refuse(source, schema.time, of_time, "timestamp, or int64 microseconds since 1970")
    if not of_scenario.is_string():
        _refuse(source, schema.scenario.column, of_scenario, "string")
    for column in (schema.user, schema.request):
        if column and not _names(columns[column]):
            _refuse(source, column, columns[column], "string or integer (it names users or requests)")
    if schema.weight and not _number(columns[schema.weight]):
        _refuse(source, schema.weight, columns[schema.weight], "integer or floating numbers", "weight column")
    for label in schema.labels:
        if not (columns[label.column].is_numeric() or columns[label.column].is_boolean()):
            _refuse(source, label.column, columns[label.column], "0 and 1", "label column")
    for feature in schema.of_kind("id", "bag", "dense"):
        _check_feature(schema, feature, columns, source)


def _check_feature(schema: FeatureSchema, feature: Feature, columns: Mapping[str, DataType], source: str) -> None:
    """A bag is a list and nothing else is; ids are made of strings and integers, numbers of numbers."""
    kind = columns[feature.source]
    if kind.is_array() != (feature.kind == "bag"):
        expected = "a list" if feature.kind == "bag" else "one value a row"
        _refuse(source, feature.source, kind, f"{expected} (feature {feature.name!r} is {feature.kind})")
    value = value_type(kind)
    numeric = feature.kind == "dense" or (feature.encoder is not None and feature.encoder.kind == "bucketize")
    where = f"{source}: feature {feature.name!r}"
    if feature.kind == "bag" and numeric:
        raise DataError(f"{where}: bucketize takes one number a row, expected vocab or hash for a bag")
    if not (_number(value) if numeric else _names(value)):
        numbers = "floating numbers" if value.is_decimal() else "numbers"
        expected = numbers if numeric else "string or integer to make ids of"
        _refuse(source, feature.source, kind, f"{expected} (feature {feature.name!r})")
    owner = next((f for f in schema.features if f.name == feature.table and f is not feature), None)
    if owner is not None and value_type(columns[owner.source]).is_string() != value.is_string():
        shared = f"{value_type(columns[owner.source])} as in {owner.name!r}, whose table it shares"
        raise DataError(f"{where}: values are {value}, expected {shared}")


def _refuse(source: str, column: str, kind: DataType, expected: str, what: str = "column") -> NoReturn:
    raise DataError(f"{source}: {what} {column!r} is {kind}, expected {expected}")


def _names(kind: DataType) -> bool:
    return kind.is_string() or kind.is_integer() or kind.is_null()


def _number(kind: DataType) -> bool:
    """Decimals are none: the encoder reads what a computer computes with."""
    return kind.is_integer() or kind.is_floating() or kind.is_null()
