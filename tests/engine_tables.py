"""Tables for the tests of engines, and files of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 400


def log(seed: int) -> pa.Table:
    """Impressions with missing values, equal times and negative numbers."""
    draw = np.random.default_rng(seed)
    some = draw.random(ROWS) < 0.1
    tags = ["a", "b|c", "", "d|e|f", None]
    return pa.table(
        {
            "row": np.arange(ROWS),
            "user": pa.array(draw.integers(0, 20, ROWS), mask=some),
            "item": draw.integers(-50, 50, ROWS),
            "time": draw.integers(0, 40, ROWS) * 1_000_000 - 7_000_000,
            "click": draw.integers(0, 2, ROWS).astype(np.int8),
            "price": pa.array(draw.normal(size=ROWS), mask=draw.random(ROWS) < 0.1),
            "tags": [tags[i] for i in draw.integers(0, len(tags), ROWS)],
        }
    )


def odd() -> pa.Table:
    """Types that files have and expressions do not."""
    return pa.table(
        {
            "large": pa.array(["x", None], pa.large_string()),
            "dictionary": pa.array(["x", None]).dictionary_encode(),
            "u8": pa.array([200, None], pa.uint8()),
            "u32": pa.array([2**32 - 1, None], pa.uint32()),
            "u64": pa.array([2**62, None], pa.uint64()),
            "nanos": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")),
            "zoned": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns", "Europe/Berlin")),
            "millis": pa.array([1_700_000_000_123, None], pa.timestamp("ms")),
            "list": pa.array([[1], None], pa.large_list(pa.int32())),
            "nothing": pa.nulls(2),
        }
    )


def same(one: pa.Table, other: pa.Table) -> bool:
    """Equal in types and values, NaN included."""
    return one.schema == other.schema and repr(one.to_pylist()) == repr(other.to_pylist())


def write(folder: Path, **files: pa.Table) -> list[Path]:
    """A file a day, in the way of a log; folders name what the files do not have as a column."""
    paths = []
    for name, table in files.items():
        path = folder / f"day={name}" / "part [0].parquet"
        path.parent.mkdir()
        pq.write_table(table, path)
        paths.append(path)
    return paths
