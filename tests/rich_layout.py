"""A schema with every kind of input, and random encoded columns of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from swrec_prod.encoding.pack import Column, Ragged
from swrec_prod.schema import FeatureSchema
from swrec_prod.schema.layout import Layout, lengths_column, weights_column

ROWS = {"person": 9, "item": 30, "category": 7, "tags": 11, "city": 5, "clicks.action": 4}
FEATURES: list[dict[str, Any]] = [
    {"name": "person", "kind": "id", "side": "user", "encoder": "vocab", "dim": 4},
    {"name": "city", "kind": "id", "side": "context", "encoder": "vocab", "dim": 4},
    {"name": "item", "kind": "id", "side": "item", "encoder": "vocab", "dim": 8},
    {"name": "category", "kind": "id", "side": "item", "encoder": "vocab", "dim": 4},
    {"name": "tags", "kind": "bag", "side": "item", "encoder": "vocab", "dim": 4, "weights": "tag_weights"},
    {"name": "liked", "kind": "bag", "side": "user", "shared_with": "tags", "dim": 4, "pooling": "max"},
    {"name": "wishes", "kind": "bag", "side": "user", "shared_with": "item", "dim": 8, "pooling": "sum"},
    {"name": "price", "kind": "dense", "side": "item", "encoder": "log1p", "missing_indicator": True},
    {"name": "age", "kind": "dense", "side": "user", "encoder": "standard", "embed": True, "dim": 4},
    {"name": "content", "kind": "vector", "side": "item", "width": 3},
    {
        "name": "clicks", "kind": "sequence", "side": "user", "item": "item", "where": "click", "max_length": 4,
        "age": [60, 3600],
        "fields": [
            "category", "tags", "price",
            {"name": "action", "kind": "id", "encoder": "vocab", "dim": 4},
        ],
    },
    {
        "name": "skips", "kind": "sequence", "side": "user", "item": "item", "where": {"click": 0},
        "fields": ["category"],
    },
]  # fmt: skip


def rich_schema() -> FeatureSchema:
    """As swrec prepare writes it: with scenarios and the heights of tables."""
    schema = FeatureSchema.model_validate(
        {
            "name": "rich", "time": "time", "user": "person", "labels": [{"name": "click", "column": "click"}],
            "scenario": {"values": ["home", "cart", "search"]}, "features": FEATURES,
        }
    )  # fmt: skip
    features = []
    for feature in schema.features:
        fields = tuple(f.model_copy(update={"rows": ROWS.get(f"{feature.name}.{f.name}")}) for f in feature.fields)
        features.append(feature.model_copy(update={"rows": ROWS.get(feature.table), "fields": fields}))
    return schema.with_features(tuple(features))


def ragged(draw: np.random.Generator, lengths: np.ndarray, height: int | None) -> Ragged:
    """Ids below `height`, or numbers where there is none."""
    values = draw.normal(size=lengths.sum()) if height is None else draw.integers(0, height, lengths.sum())
    return Ragged(values.astype(np.float32 if height is None else np.int32), np.concatenate([[0], lengths.cumsum()]))


def rich_columns(layout: Layout, rows: int, seed: int, longest: int = 4) -> tuple[dict[str, Column], np.ndarray]:
    """Encoded columns and sorted scenarios of `rows` rows; any list may be empty."""
    draw = np.random.default_rng(seed)
    columns: dict[str, Column] = {}
    for feature in (*layout.pooled, *layout.looked_up):
        lengths = draw.integers(0, 4, rows) if feature.kind == "bag" else np.ones(rows, np.int64)
        column = ragged(draw, lengths, ROWS[feature.table])
        columns[feature.name] = column if feature.kind == "bag" else column.values
        if feature.weights:
            columns[weights_column(feature)] = Ragged(draw.random(lengths.sum()).astype(np.float32), column.offsets)
    for number in layout.numbers:
        values = draw.normal(size=(rows, number.width)).astype(np.float32)
        columns[number.column] = values if number.width > 1 else values[:, 0]
    for sequence in layout.sequences:
        lengths = draw.integers(0, longest + 1, rows)
        columns[f"{sequence.name}.scenario"] = ragged(draw, lengths, layout.num_scenarios + 1)
        for part in sequence.parts:
            each = draw.integers(0, 3, lengths.sum())
            if part.kind == "bag":
                ends = np.concatenate([[0], each.cumsum()])
                of_rows = np.concatenate([[0], lengths.cumsum()])
                columns[part.name] = Ragged(draw.integers(0, ROWS[part.table], each.sum()), ends[of_rows])
                columns[lengths_column(part)] = Ragged(each.astype(np.int32), of_rows)
            else:
                height = None if part.kind == "dense" else part.rows
                columns[part.name] = ragged(draw, lengths, height)
    return columns, np.sort(draw.integers(0, layout.num_scenarios, rows))
