"""Whether a standard table is what its schema says, told before anything is computed;
and the values of labels and weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.encoding.raw_values import flat, floats
from swrec_prod.errors import DataError, SchemaError, nearest
from swrec_prod.schema import FeatureSchema

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
    time, scenario = columns[schema.time], columns[schema.scenario.column]
    if not (time.is_timestamp() or time.is_int64()):
        raise DataError(
            f"{source}: column {schema.time!r} is {time}, expected timestamp, or int64 microseconds since 1970"
        )
    if not scenario.is_string():
        raise DataError(f"{source}: column {schema.scenario.column!r} is {scenario}, expected string")
    for column in (schema.user, schema.request):
        if column and not _names(columns[column]):
            raise DataError(
                f"{source}: column {column!r} is {columns[column]}, "
                "expected string or integer (it names users or requests)"
            )
    if schema.weight and not _number(columns[schema.weight]):
        raise DataError(
            f"{source}: weight column {schema.weight!r} is {columns[schema.weight]}, "
            "expected integer or floating numbers"
        )
    for label in schema.labels:
        if not (columns[label.column].is_numeric() or columns[label.column].is_boolean()):
            raise DataError(f"{source}: label column {label.column!r} is {columns[label.column]}, expected 0 and 1")
    _check_features(schema, columns, source)


def _check_features(schema: FeatureSchema, columns: Mapping[str, DataType], source: str) -> None:
    """A bag is a list and nothing else is; ids are made of strings and integers, numbers of numbers."""
    for feature in schema.of_kind("id", "bag", "dense"):
        kind = columns[feature.source]
        if kind.is_array() != (feature.kind == "bag"):
            expected = "a list" if feature.kind == "bag" else "one value a row"
            raise DataError(
                f"{source}: column {feature.source!r} is {kind}, "
                f"expected {expected} (feature {feature.name!r} is {feature.kind})"
            )
        value = _value(kind)
        numeric = feature.kind == "dense" or (feature.encoder is not None and feature.encoder.kind == "bucketize")
        if feature.kind == "bag" and numeric:
            raise DataError(
                f"{source}: feature {feature.name!r}: bucketize takes one number a row, "
                "expected vocab or hash for a bag"
            )
        if not (_number(value) if numeric else _names(value)):
            numbers = "floating numbers" if value.is_decimal() else "numbers"
            expected = numbers if numeric else "string or integer to make ids of"
            raise DataError(
                f"{source}: column {feature.source!r} is {kind}, expected {expected} (feature {feature.name!r})"
            )
        owner = next((f for f in schema.features if f.name == feature.table and f is not feature), None)
        if owner is not None and _value(columns[owner.source]).is_string() != value.is_string():
            shared = f"{_value(columns[owner.source])} as in {owner.name!r}, whose table it shares"
            raise DataError(f"{source}: feature {feature.name!r}: values are {value}, expected {shared}")
    for feature in schema.of_kind("sequence"):
        if schema.feature(feature.table).kind != "id":
            raise SchemaError(
                f"schema {schema.name}: sequence {feature.name!r}: "
                f"item {feature.table!r} is a bag, expected an id feature"
            )


def _names(kind: DataType) -> bool:
    return kind.is_string() or kind.is_integer() or kind.is_null()


def _number(kind: DataType) -> bool:
    """Decimals are none: the encoder reads what a computer computes with."""
    return kind.is_integer() or kind.is_floating() or kind.is_null()


def _value(kind: DataType) -> DataType:
    return kind.value_type if kind.is_array() else kind


def label_values(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """int8 [N] of {0, 1}. Raises DataError naming the column and the first other value."""
    array = flat(column)
    numeric = array.cast(pa.int8()) if pa.types.is_boolean(array.type) else array
    good = pc.fill_null(pc.is_in(numeric, pa.array([0, 1], numeric.type)), False)
    if not pc.all(good).as_py():
        row = pc.index(good, False).as_py()
        raise DataError(f"label column {name!r} has the value {array[row].as_py()!r}, expected 0 or 1")
    return numeric.cast(pa.int8()).to_numpy()


def weight_values(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """float32 [N]. Raises DataError naming the column and the first value that is missing or negative."""
    weights = floats(column, name)
    bad = ~(weights >= 0)
    if bad.any():
        raise DataError(f"weight column {name!r} has the value {weights[bad][0]}, expected a number >= 0")
    return weights.astype(np.float32)
