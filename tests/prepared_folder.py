"""A small prepared folder for tests, written by hand: every kind of feature, two tasks, weights, a split column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.data.manifest import MANIFEST, Day, DayFileRecord, FileRecord, Fit, Manifest, Source
from swrec_prod.schema import Feature, FeatureSchema, Label, Scenario

FIRST_DAY = date(2024, 1, 1)
SPLITS = ("train", "valid", "test")
LISTS = pa.list_(pa.int32())

SCHEMA = FeatureSchema(
    name="toy",
    features=(
        Feature(name="person", kind="id", side="user", encoder="vocab", rows=50),
        Feature(name="movie", kind="id", side="item", encoder="vocab", rows=20),
        Feature(name="genres", kind="bag", side="item", encoder="vocab", rows=8),
        Feature(name="age", kind="dense", side="user", encoder="standard"),
        Feature(name="history", kind="sequence", side="user", item="movie", where="click", rows=20),
        Feature(name="price", kind="dense", side="context", encoder="log1p"),
    ),
    scenario=Scenario(values=("home", "cart", "search")),
    labels=(Label(name="click", column="click"), Label(name="buy", column="buy")),
    time="time",
    user="person",
    weight="weight",
)


def rows_table(rows: int, first_row: int = 0, seed: int = 0) -> pa.Table:
    """Random encoded rows, numbered from `first_row`; row and seed alone decide a table's content."""
    draw = np.random.default_rng([seed, first_row])
    bags = [draw.integers(0, 8, n).tolist() for n in draw.integers(0, 4, rows)]
    lengths = draw.integers(0, 6, rows)
    return pa.table(
        {
            "row": pa.array(np.arange(first_row, first_row + rows), pa.int64()),
            "scenario": pa.array(draw.integers(0, 3, rows), pa.int32()),
            "label_click": pa.array(draw.integers(0, 2, rows), pa.int8()),
            "label_buy": pa.array(draw.integers(0, 2, rows), pa.int8()),
            "weight": pa.array(draw.uniform(0.5, 2, rows), pa.float32()),
            "split": pa.array(
                [SPLITS[i] for i in draw.choice(3, rows, p=(0.6, 0.2, 0.2))], pa.string()
            ).dictionary_encode(),
            "person": pa.array(draw.integers(0, 50, rows), pa.int32()),
            "movie": pa.array(draw.integers(0, 20, rows), pa.int32()),
            "genres": pa.array(bags, LISTS),
            "age": pa.array(draw.normal(size=rows), pa.float32()),
            "history.item": pa.array([draw.integers(0, 20, n).tolist() for n in lengths], LISTS),
            "history.scenario": pa.array([draw.integers(0, 3, n).tolist() for n in lengths], LISTS),
            "price": pa.array(draw.uniform(size=rows), pa.float32()),
        }
    )


def write_prepared(
    out: Path, tables: Sequence[pa.Table], row_group: int = 1000, schema: FeatureSchema = SCHEMA
) -> Path:
    """Write one table a day from FIRST_DAY on, with schema and manifest."""
    has_split = all("split" in table.column_names for table in tables)
    until = None if has_split else FIRST_DAY
    files, days = [], {}
    for i, table in enumerate(tables):
        day = FIRST_DAY + timedelta(days=i)
        path = out / f"day={day}" / "part-00000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(table, path, row_group_size=row_group)
        groups = pq.read_metadata(path).num_row_groups
        record = dict(FileRecord.of(out, path))
        files.append(DayFileRecord(**record, day=day, rows=len(table), row_groups=groups, fitted_until=until))
        days[day] = Day(rows=len(table), nulls={}, scenarios={}, raw=[])
    schema.save(out / "schema.yaml")
    manifest = Manifest(
        dataset="toy",
        source=Source(data_file="by hand", raw=[]),
        files=files,
        others=[FileRecord.of(out, out / "schema.yaml")],
        days=days,
        fit=Fit(rule="by hand", rows=0, until=until),
        fingerprint="f00",
        splits={name: 1 for name in SPLITS} if has_split else None,
    )
    (out / MANIFEST).write_text(json.dumps(manifest.to_json()))
    return out


def days_of_sizes(out: Path, sizes: Sequence[int], row_group: int = 1000) -> Path:
    """A folder of one day a size, its rows numbered through."""
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    return write_prepared(out, [rows_table(n, first) for n, first in zip(sizes, starts, strict=True)], row_group)
