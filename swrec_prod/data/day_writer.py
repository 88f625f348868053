"""Writes the rows of a day into OUT/day=YYYY-MM-DD/part-NNNNN.parquet.

The rows of a day by (time, row), FILE_ROWS to a file, GROUP_ROWS to a row group, and fixed settings: equal rows are
equal bytes, whichever engine prepared them and in however many pieces they came.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.data.manifest import DayFileRecord, FileRecord
from swrec_prod.data.value_counts import ValueCounts
from swrec_prod.schema import FeatureSchema

GROUP_ROWS = 65_536  # a row group is what a reader holds at once: some 20 MB with 50 behaviours a row
FILE_ROWS = 16 * GROUP_ROWS
GROUP_VALUES = 2**26  # of ages and fields of behaviours, at most: where histories are long, a row group has fewer rows
WRITING = {"compression": "lz4", "write_statistics": False, "write_batch_size": GROUP_ROWS}


# Each day once it is written, with the records of its files and what was counted in it.
Written = Generator[tuple[date, list[DayFileRecord], ValueCounts], None, None]


def rows_of_group(schema: FeatureSchema) -> int:
    """GROUP_ROWS, halved until what is known of behaviours beside item, scenario and time is few enough values."""
    parts = sum((f.max_length or 0) * (len(f.fields) + (f.age is not None)) for f in schema.of_kind("sequence"))
    rows = GROUP_ROWS
    while rows * parts > GROUP_VALUES and rows % 2 == 0:
        rows //= 2
    return rows


class DayWriter:
    """Writes one day, whose rows arrive in order and in pieces; `close` gives the manifest's records of its files.

    schema: of the rows. counts: takes what is written. group_rows: of a row group. first_part: the number of the first
    file, where others write the ones before it.
    """

    def __init__(
        self, out: Path, day: date, schema: pa.Schema, counts: ValueCounts, group_rows: int, first_part: int = 0
    ) -> None:
        self.out, self.day, self.schema, self.counts, self.first_part = out, day, schema, counts, first_part
        self.group_rows = group_rows
        self.records: list[DayFileRecord] = []
        self._waiting: list[pa.Table] = []
        self._file: pq.ParquetWriter | None = None
        self._rows = 0  # of the file that is open

    def write(self, rows: Callable[[int, int], pa.Table], first: int, last: int) -> None:
        """The next rows: `rows(first, last)`, asked for a row group at a time, since their lists are large."""
        while first < last:
            end = min(first + self.group_rows - sum(piece.num_rows for piece in self._waiting), last)
            self._waiting.append(rows(first, end))
            first = end
            if sum(piece.num_rows for piece in self._waiting) == self.group_rows:
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
            self._file = pq.ParquetWriter(self._path(), self.schema, use_dictionary=_texts(self.schema), **WRITING)
        self._file.write_table(group, row_group_size=self.group_rows)
        self.counts.add(group)
        self._rows += group.num_rows
        if self._rows == FILE_ROWS:
            self._finish_file()

    def _finish_file(self) -> None:
        assert self._file is not None
        self._file.close()
        groups = -(-self._rows // self.group_rows)
        file = FileRecord.of(self.out, self._path())
        self.records.append(DayFileRecord(**dict(file), day=self.day, rows=self._rows, row_groups=groups))
        self._file, self._rows = None, 0

    def _path(self) -> Path:
        path = self.out / f"day={self.day}" / f"part-{self.first_part + len(self.records):05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _texts(schema: pa.Schema) -> list[str]:
    """The columns that get a dictionary: numbers are read as fast without one, and written faster."""
    return [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)]
