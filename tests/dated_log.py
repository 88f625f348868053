"""A raw log in day folders with every kind of feature, and its data file: what tests of prepare work on."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare

FIRST = date(2024, 5, 1)
MIDNIGHT = datetime(2024, 5, 1, tzinfo=UTC)
SCHEMA: dict[str, Any] = {
    "name": "dated",
    "time": "time",
    "user": "user_id",
    "request": "session",
    "weight": "w",
    "labels": [{"name": "click", "column": "clicked"}, {"name": "buy", "column": "bought"}],
    "features": [
        {"name": "item", "kind": "id", "side": "item", "encoder": "vocab"},
        {"name": "near", "kind": "bag", "side": "item", "shared_with": "item"},
        {"name": "author", "kind": "id", "side": "item", "encoder": {"kind": "hash", "buckets": 7}},
        {"name": "city", "kind": "id", "side": "user", "encoder": "vocab"},
        {
            "name": "cost",
            "kind": "id",
            "side": "item",
            "column": "price",
            "encoder": {"kind": "bucketize", "boundaries": [1, 5]},
        },
        {"name": "price", "kind": "dense", "side": "item", "encoder": "standard"},
        {"name": "age", "kind": "dense", "side": "user", "encoder": "minmax"},
        {"name": "visits", "kind": "dense", "side": "user", "encoder": "log1p"},
        {"name": "seen", "kind": "sequence", "side": "user", "item": "item", "max_length": 4},
        {"name": "clicks", "kind": "sequence", "side": "user", "item": "item", "where": "click", "max_length": 3},
        {"name": "buys", "kind": "sequence", "side": "user", "item": "item", "where": "buy"},
    ],
}


def day(number: int) -> date:
    """The day `number`, from 1."""
    return FIRST + timedelta(days=number - 1)


def data_file(**changes: Any) -> DataFile:
    """Encoders are fitted on the first two days unless `fit_until` says otherwise. schema: keys to change."""
    schema = SCHEMA | changes.pop("schema", {})
    fitted = {} if "split" in changes else {"fit_until": day(2)}
    options = {"log": "log/**/*.parquet", "join": [{"file": "users.parquet", "by": "user_id"}]}
    return DataFile.model_validate({"source": "parquet", "options": options, "schema": schema, **fitted, **changes})


def rows_of_day(number: int, rows: int = 60, **changes: Any) -> pa.Table:
    """The raw rows of day `number`, the same for ever; later days have items and prices of their own.

    Some values are missing.
    """
    draw = np.random.default_rng(number)
    items = [*"abcdef", f"new{number}", None]
    minutes = np.sort(draw.integers(0, 48, rows)) * 30  # many at the same time
    near = [["a"], ["b", None], [], None, [f"new{number}", "a"], ["c"]]
    columns: dict[str, Any] = {
        "user_id": draw.integers(0, 9, rows),
        "time": [MIDNIGHT + timedelta(days=number - 1, minutes=int(m)) for m in minutes],
        "scenario": [["home", "cart", "search"][i] for i in draw.choice(3, rows, p=[0.6, 0.3, 0.1])],
        "clicked": draw.integers(0, 2, rows).astype(np.int8),
        "bought": draw.random(rows) < 0.3,
        "item": pa.array([items[i] for i in draw.integers(0, len(items), rows)], pa.string()),
        "near": pa.array([near[i] for i in draw.integers(0, len(near), rows)], pa.list_(pa.string())),
        "author": pa.array(draw.integers(0, 50, rows), mask=draw.random(rows) < 0.1),
        "price": pa.array(draw.normal(number, 2, rows), mask=draw.random(rows) < 0.1),
        "visits": draw.integers(0, 100, rows),
        "session": [f"s{m // 60}" for m in minutes],
        "w": draw.random(rows),
    }
    return pa.table(columns | changes)


def write_day(raw: Path, number: int, table: pa.Table | None = None, part: int = 0, **changes: Any) -> Path:
    """Write one file of a day into the raw log."""
    path = raw / "log" / f"day={day(number)}" / f"part-{part}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows_of_day(number, **changes) if table is None else table, path)
    return path


def write_users(raw: Path, users: int = 8) -> Path:
    """The attributes of users; with the default the last one of the log has none."""
    raw.mkdir(parents=True, exist_ok=True)
    cities, ages = [["Oslo", "Rome"][i % 2] for i in range(users)], [20.0 + 5 * i for i in range(users)]
    pq.write_table(pa.table({"user_id": list(range(users)), "city": cities, "age": ages}), raw / "users.parquet")
    return raw / "users.parquet"


def write_log(raw: Path, days: int, **changes: Any) -> Path:
    """A raw log of so many days, and its users."""
    write_users(raw)
    for number in range(1, days + 1):
        write_day(raw, number, **changes)
    return raw


def prepare_once(file: DataFile, raw: Path, out: Path) -> None:
    """Prepare into `out`, which is not there yet, as the beginning of a test.

    What equal data files and rows give is prepared once and then copied; that they give equal bytes has its own tests.
    """
    inputs = json.dumps([file.model_dump(mode="json"), contents(raw)])
    whole = Path(_prepared().name) / hashlib.sha256(inputs.encode()).hexdigest()
    if not whole.exists():
        prepare(file, raw, whole)
    shutil.copytree(whole, out)


@cache
def _prepared() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def contents(out: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder."""
    return {
        str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(out.rglob("*"))
        if p.is_file()
    }


def day_files(out: Path) -> dict[str, str]:
    """Those of the days' files."""
    return {name: digest for name, digest in contents(out).items() if name.startswith("day=")}


def manifest_of(out: Path) -> dict[str, Any]:
    """The manifest."""
    return json.loads((out / "manifest.json").read_text())


def prepared_rows(out: Path) -> pa.Table:
    """All rows in the order of the manifest's files."""
    return pa.concat_tables([pq.ParquetFile(out / file["path"]).read() for file in manifest_of(out)["files"]])


def damage_a_page(path: Path) -> None:
    """Overwrite bytes of the first page of a Parquet file."""
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)
