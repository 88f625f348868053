"""Encoded rows -> OUT/day=YYYY-MM-DD/part-00000.parquet, one file a day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.data.commit import file_record
from swrec_prod.data.etl import MICROSECONDS, Windows
from swrec_prod.data.pack import Ragged

TEXTS = ["user", "request", "split"]  # numbers are read as fast without a dictionary, and written faster
GROUP_ROWS = 65_536  # a row group is what a reader holds at once: some 20 MB with 50 behaviours a row


@dataclass(frozen=True)
class Sequence:
    """One sequence feature: whose behaviours (windows), and item id, scenario index and time of every row."""

    name: str
    windows: Windows
    item: np.ndarray
    scenario: np.ndarray
    time: np.ndarray

    def columns(self, first: int, last: int) -> dict[str, pa.Array]:
        """`<name>.item`, `<name>.scenario`, `<name>.time` of rows [first, last) as lists."""
        events, offsets = self.windows.of_rows(slice(first, last))
        parts = {"item": self.item[events], "scenario": self.scenario[events], "time": self.time[events]}
        lists = {f"{self.name}.{part}": list_array(Ragged(values, offsets)) for part, values in parts.items()}
        lists[f"{self.name}.time"] = lists[f"{self.name}.time"].cast(pa.list_(MICROSECONDS))
        return lists


def list_array(column: Ragged) -> pa.ListArray:
    """A Ragged as an Arrow list array."""
    return pa.ListArray.from_arrays(column.offsets.astype(np.int32), pa.array(column.values))


def write_days(out: Path, rows: pa.Table, days: np.ndarray, sequences: list[Sequence]) -> list[dict[str, Any]]:
    """Write the rows day by day. rows: encoded columns [N]; days: datetime64[D] [N], non-decreasing.

    Returns one record a file for the manifest: path, bytes, sha256, day, rows, row_groups.
    """
    records = []
    for day, first, last in day_slices(days):
        path = out / f"day={day}" / "part-00000.parquet"
        path.parent.mkdir()
        groups = _write_file(path, rows, first, last, sequences)
        records.append({**file_record(out, path), "day": str(day), "rows": last - first, "row_groups": groups})
    return records


def day_slices(days: np.ndarray) -> Iterator[tuple[np.datetime64, int, int]]:
    """(day, first row, end) of each run of equal days."""
    starts = np.flatnonzero(np.concatenate(([True], days[1:] != days[:-1])))
    for first, last in zip(starts, [*starts[1:], len(days)], strict=True):
        yield days[first], int(first), int(last)


def _write_file(path: Path, rows: pa.Table, first: int, last: int, sequences: list[Sequence]) -> int:
    """Rows [first, last) as one file; returns its number of row groups. Fixed settings: equal rows are equal bytes."""
    bounds = [*range(first, last, GROUP_ROWS), last]
    writer = None
    for start, end in pairwise(bounds):
        group = rows.slice(start, end - start)
        for sequence in sequences:
            for name, column in sequence.columns(start, end).items():
                group = group.append_column(name, column)
        writer = writer or pq.ParquetWriter(path, group.schema, compression="lz4", use_dictionary=TEXTS, write_statistics=False)
        writer.write_table(group, row_group_size=GROUP_ROWS)
    assert writer is not None  # a day has rows
    writer.close()
    return len(bounds) - 1
