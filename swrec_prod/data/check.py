"""Whether a standard table is what its schema says, told before anything is computed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.data.values import flat, floats, is_string
from swrec_prod.errors import DataError, SchemaError, nearest
from swrec_prod.schema import FeatureSchema


def check_columns(schema: FeatureSchema, table: pa.Table, source: str) -> None:
    """Raises DataError when the table is empty, lacks a column (naming the nearest), or has an unusable key column."""
    if table.num_rows == 0:
        raise DataError(f"{source}: the table is empty")
    wanted = {"row": "row", "time": schema.time, "user": schema.user, "scenario": schema.scenario.column}
    wanted |= {key: column for key in ("request", "weight") if (column := getattr(schema, key))}
    wanted |= {f"label {label.name}": label.column for label in schema.labels}
    wanted |= {f"feature {f.name}": f.source for f in schema.features if f.kind != "sequence"}
    for purpose, column in wanted.items():
        if column not in table.column_names:
            raise DataError(f"{source}: column {column!r} ({purpose}) is missing; {nearest(column, table.column_names)}")
    for purpose in ("row", "user", "scenario"):
        if missing := table[wanted[purpose]].null_count:
            raise DataError(f"{source}: column {wanted[purpose]!r} ({purpose}) has {missing} missing values; every row needs one")
    if not is_string(flat(table[schema.scenario.column].slice(0, 1)).type):
        raise DataError(f"{source}: column {schema.scenario.column!r} is {table[schema.scenario.column].type}, expected string")
    for feature in schema.of_kind("sequence"):
        if schema.feature(feature.table).kind != "id":
            raise SchemaError(f"schema {schema.name}: sequence {feature.name!r}: item {feature.table!r} is a bag, expected an id feature")


def label_values(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """int8 [N] of {0, 1}. Raises DataError naming the column and the first other value."""
    array = flat(column)
    numeric = array.cast(pa.int8()) if pa.types.is_boolean(array.type) else array
    kind = numeric.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise DataError(f"label column {name!r} is {column.type}, expected 0 and 1")
    good = pc.fill_null(pc.is_in(numeric, pa.array([0, 1], kind)), False)
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
