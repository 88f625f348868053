"""How prepared rows lie on disk: OUT/day=YYYY-MM-DD/part-NNNNN.parquet.

The rows of a day by (time, row), FILE_ROWS to a file, GROUP_ROWS to a row group, and fixed settings: equal rows are
equal bytes, whichever engine prepared them and in however many pieces they came.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.data.manifest import DayFileRecord, FileRecord
from swrec_prod.encoding.pack import Ragged
from swrec_prod.schema import FeatureSchema

MICROSECONDS = pa.timestamp("us", "UTC")
# without nulls inside, lists are read in two thirds of the time
IDS = pa.list_(pa.field("element", pa.int32(), nullable=False))
TIMES = pa.list_(pa.field("element", MICROSECONDS, nullable=False))
TEXTS = ["user", "request", "split"]  # numbers are read as fast without a dictionary, and written faster
GROUP_ROWS = 65_536  # a row group is what a reader holds at once: some 20 MB with 50 behaviours a row
FILE_ROWS = 16 * GROUP_ROWS
WRITING = {"compression": "lz4", "use_dictionary": TEXTS, "write_statistics": False, "write_batch_size": GROUP_ROWS}


def stored_schema(schema: FeatureSchema, has_split: bool) -> pa.Schema:
    """The columns of prepared rows and their types."""
    fields: dict[str, pa.DataType] = {
        "row": pa.int64(),
        "time": MICROSECONDS,
        "user": pa.string(),
        "scenario": pa.int32(),
    }
    fields |= {f"label_{task}": pa.int8() for task in schema.tasks}
    fields |= {"request": pa.string()} if schema.request else {}
    fields |= {"weight": pa.float32()} if schema.weight else {}
    # a reader compares codes, not words
    fields |= {"split": pa.dictionary(pa.int8(), pa.string())} if has_split else {}
    kinds = {"id": pa.int32(), "bag": IDS, "dense": pa.float32()}
    fields |= {f.name: kinds[f.kind] for f in schema.features if f.kind != "sequence"}
    for feature in schema.of_kind("sequence"):
        fields |= {f"{feature.name}.item": IDS, f"{feature.name}.scenario": IDS, f"{feature.name}.time": TIMES}
    return pa.schema(fields)


def list_array(column: Ragged) -> pa.ListArray:
    """A Ragged as an Arrow list array."""
    return pa.ListArray.from_arrays(pa.array(column.offsets.astype(np.int32)), pa.array(column.values))


# Each day once it is written, with the records of its files.
Written = Generator[tuple[date, list[DayFileRecord]], None, None]


class DayWriter:
    """Writes one day, whose rows arrive in order and in pieces; `close` gives the manifest's records of its files.

    first_part: the number of the first file, where others write the ones before it.
    """

    def __init__(self, out: Path, day: date, schema: pa.Schema, first_part: int = 0) -> None:
        self.out, self.day, self.schema, self.first_part = out, day, schema, first_part
        self.records: list[DayFileRecord] = []
        self._waiting: list[pa.Table] = []
        self._file: pq.ParquetWriter | None = None
        self._rows = 0  # of the file that is open

    @property
    def room(self) -> int:
        """How many rows the row group that is being filled still takes."""
        return GROUP_ROWS - sum(piece.num_rows for piece in self._waiting)

    def add(self, rows: pa.Table) -> None:
        """The next rows, at most `room` of them."""
        self._waiting.append(rows)
        if self.room == 0:
            self._flush()

    def close(self) -> list[DayFileRecord]:
        """Finish the day; gives the records of its files."""
        if self._waiting:
            self._flush()
        if self._file is not None:
            self._finish_file()
        return self.records

    def _flush(self) -> None:
        group = pa.concat_tables(self._waiting).select(self.schema.names).combine_chunks().cast(self.schema)
        self._waiting = []
        if self._file is None:
            self._file = pq.ParquetWriter(self._path(), self.schema, **WRITING)
        self._file.write_table(group, row_group_size=GROUP_ROWS)
        self._rows += group.num_rows
        if self._rows == FILE_ROWS:
            self._finish_file()

    def _finish_file(self) -> None:
        assert self._file is not None
        self._file.close()
        groups = -(-self._rows // GROUP_ROWS)
        file = FileRecord.of(self.out, self._path())
        self.records.append(DayFileRecord(**dict(file), day=self.day, rows=self._rows, row_groups=groups))
        self._file, self._rows = None, 0

    def _path(self) -> Path:
        path = self.out / f"day={self.day}" / f"part-{self.first_part + len(self.records):05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
