"""What a standard table's types must be is told before anything is computed, with the column and what is right."""

from __future__ import annotations

import re

import ibis
import pytest

from swrec_prod.errors import DataError
from swrec_prod.prepare.check import check_columns
from swrec_prod.schema import FeatureSchema

SCHEMA = FeatureSchema.model_validate(
    {
        "name": "some",
        "time": "time",
        "user": "user",
        "request": "session",
        "weight": "weight",
        "labels": [{"name": "click", "column": "click"}],
        "features": [
            {"name": "item", "kind": "id", "side": "item", "encoder": "vocab"},
            {"name": "last", "kind": "id", "side": "user", "shared_with": "item"},
            {"name": "tags", "kind": "bag", "side": "item", "encoder": "vocab"},
            {"name": "price", "kind": "dense", "side": "item", "encoder": "log1p"},
            {"name": "age", "kind": "id", "side": "user", "encoder": {"kind": "bucketize", "boundaries": [18]}},
        ],
    }
)
TYPES = {
    "time": "int64",
    "user": "int64",
    "session": "string",
    "weight": "float32",
    "scenario": "string",
    "click": "int8",
}
TYPES |= {"item": "string", "last": "string", "tags": "array<int64>", "price": "float64", "age": "int16"}


def check(types: dict[str, str], schema: FeatureSchema = SCHEMA) -> None:
    check_columns(schema, {name: ibis.dtype(kind) for name, kind in (TYPES | types).items()}, "log.parquet")


@pytest.mark.parametrize(
    ("column", "kind", "said"),
    [
        ("user", "float64", "log.parquet: column 'user' is float64, expected string or integer"),
        ("session", "array<int64>", "log.parquet: column 'session' is array<int64>, expected string or integer"),
        (
            "weight",
            "decimal(9, 2)",
            "log.parquet: weight column 'weight' is decimal(9, 2), expected integer or floating numbers",
        ),
        (
            "price",
            "decimal(9, 2)",
            "log.parquet: column 'price' is decimal(9, 2), expected numbers: write it as double, not",
        ),
        (
            "age",
            "decimal(9, 2)",
            "log.parquet: column 'age' is decimal(9, 2), expected numbers: write it as double, not",
        ),
        (
            "price",
            "timestamp",
            "log.parquet: column 'price' is timestamp, expected numbers: derive one of it, such as hour",
        ),
        ("price", "date", "log.parquet: column 'price' is date, expected numbers: derive one of it, such as"),
        ("item", "date", "log.parquet: column 'item' is date, expected string or integer to make ids of"),
        (
            "last",
            "int64",
            "log.parquet: feature 'last': values are int64, expected string as in 'item', whose table it shares",
        ),
    ],
)
def test_a_type_that_cannot_serve_is_told(column: str, kind: str, said: str) -> None:
    check({})
    with pytest.raises(DataError, match=f"^{re.escape(said)}"):
        check({column: kind})


def test_a_list_has_no_buckets() -> None:
    features = [
        f.model_copy(update={"encoder": SCHEMA.feature("age").encoder}) if f.name == "tags" else f
        for f in SCHEMA.features
    ]
    with pytest.raises(
        DataError, match=r"feature 'tags': bucketize takes one number a row, expected vocab or hash for a bag"
    ):
        check({}, SCHEMA.model_copy(update={"features": tuple(features)}))
