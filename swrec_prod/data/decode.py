"""Prepared Parquet -> numpy:
a window, or the part of it that a rank needs, at a time, its row groups read by a few threads.

Types, nulls, ids, scenarios and labels are checked here, and only here; and that a file still is what the manifest
says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.config import DataConfig, SplitName
from swrec_prod.data.catalog import Catalog, DayFile
from swrec_prod.data.prefetch import mapped
from swrec_prod.data.row_format import FLOAT, LABELS, Record, is_vector
from swrec_prod.encoding.pack import Column, Ragged, spread
from swrec_prod.errors import DataError, nearest
from swrec_prod.schema.layout import Layout

THREADS = 2  # pieces read at once; a prepared day may be tiny, and then opening it costs more than its rows


@dataclass(frozen=True)
class Piece:
    """Rows of one file that are read together.

    groups: row groups, or None for the whole file, its `rows` then an upper bound.
    """

    file: DayFile
    rows: int
    groups: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Window:
    """Decoded rows. rows: [R] of record.dtype. lists: by column, [values of all rows] of record.list_types."""

    record: Record
    rows: np.ndarray
    lists: dict[str, np.ndarray]

    def columns(self, rows_B: np.ndarray) -> dict[str, Column]:
        """The columns of `rows_B`, records taken from `rows`: views of their fields, and their lists gathered."""
        columns: dict[str, Column] = {name: rows_B[name] for name in rows_B.dtype.fields or ()}
        for owner, names in self.record.lists.items():
            index, offsets = spread(rows_B[f"{owner}.start"], rows_B[f"{owner}.length"])
            columns.update({name: Ragged(self.lists[name].take(index), offsets) for name in names})
        return columns


class Part(NamedTuple):
    """Rows [first, last) of a piece."""

    piece: Piece
    first: int
    last: int


@dataclass(frozen=True)
class Decoder:
    """Reads pieces of prepared files.

    Kept are the rows whose `split` is `part` and whose scenario is in `scenarios`; None: any.
    """

    record: Record
    part: str | None = None
    scenarios: tuple[int, ...] | None = None

    @classmethod
    def of(cls, catalog: Catalog, layout: Layout, part: SplitName, data: DataConfig) -> Decoder:
        """Of the rows of a part, in `catalog.files_of(data, part)`.

        Raises ConfigError when data.scenarios names an unknown one.
        """
        return cls(Record(catalog.schema, layout), part if data.split == "random" else None, catalog.scenarios_of(data))

    def whole_files(self, files: Sequence[DayFile]) -> list[Piece]:
        """The files as pieces, unopened: how many of their rows belong to the part, decoding tells."""
        return [Piece(f, f.rows) for f in files if f.rows]

    def row_groups(self, files: Sequence[DayFile]) -> list[Piece]:
        """The row groups that hold rows of the part, with these rows counted. The types of all files are checked."""
        return [piece for pieces in mapped(self._row_groups, files, THREADS) for piece in pieces if piece.rows]

    def decode(self, pieces: Sequence[Piece], span: tuple[int, int] | None = None) -> Window:
        """The pieces' rows, in order, or rows [span[0], span[1]) of them; only pieces that hold such rows are read.

        Raises DataError naming the file, the column, what it is and what was expected.
        """
        parts = overlapping(pieces, span or (0, sum(p.rows for p in pieces)))
        filling = _Filling(self.record, sum(last - first for _, first, last in parts))
        for part, (table, keep) in zip(parts, mapped(self._read, parts, THREADS), strict=True):
            filling.add(part.piece.file, table, keep)
        return filling.window()

    def _row_groups(self, file: DayFile) -> list[Piece]:
        with _parquet(file) as parquet:
            self._check_types(file, parquet.schema_arrow)
            counts = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
            if chosen_by := self._chosen_by:
                counts = [int(self._keep(_columns(parquet, file, [g], chosen_by)).sum()) for g in range(len(counts))]
        return [Piece(file, rows, (g,)) for g, rows in enumerate(counts)]

    def _read(self, part: Part) -> tuple[pa.Table, np.ndarray | None]:
        """Rows of one file, and which of them to keep (bool, one a row; None: all of them)."""
        piece, file = part.piece, part.piece.file
        names = list(dict.fromkeys([*self.record.types, *self._chosen_by]))
        with _parquet(file) as parquet:
            self._check_types(file, parquet.schema_arrow)
            groups = range(parquet.num_row_groups) if piece.groups is None else piece.groups
            table = _columns(parquet, file, groups, names)
        for name, column in zip(names, table.columns, strict=True):
            if column.null_count:
                raise DataError(f"{file.path}: column {name!r} has {column.null_count} nulls, expected none")
        if not self._chosen_by:
            _check_count(piece, table.num_rows)
            return table.slice(part.first, part.last - part.first), None
        keep = self._keep(table)
        if piece.groups is None:
            return table, keep
        places = np.flatnonzero(keep)
        _check_count(piece, len(places))
        first, last = int(places[part.first]), int(places[part.last - 1]) + 1
        return table.slice(first, last - first), keep[first:last]

    @property
    def _chosen_by(self) -> list[str]:
        """The columns that say which rows to keep."""
        return [*(["split"] if self.part is not None else []), *(["scenario"] if self.scenarios is not None else [])]

    def _keep(self, table: pa.Table) -> np.ndarray:
        """Which rows to keep, bool [rows]; there is something to choose by."""
        keep = np.ones(table.num_rows, bool)
        if self.part is not None:
            keep &= _equal(table["split"], self.part)
        if self.scenarios is not None:
            keep &= np.isin(table["scenario"].to_numpy(), self.scenarios)
        return keep

    def _check_types(self, file: DayFile, columns: pa.Schema) -> None:
        expected = self.record.types | ({"split": pa.string()} if self.part is not None else {})
        for name, wanted in expected.items():
            if name not in columns.names:
                raise DataError(f"{file.path}: no column {name!r}, expected {wanted}; {nearest(name, columns.names)}")
            got = columns.field(name).type
            if not _same(got, wanted):
                raise DataError(
                    f"{file.path}: column {name!r} is {got}, expected {wanted} (schema.yaml). "
                    "Did something else write it?"
                )


def overlapping(pieces: Sequence[Piece], span: tuple[int, int]) -> list[Part]:
    """The parts of the pieces that make up rows [span[0], span[1]) of all of them."""
    parts, end = [], 0
    for piece in pieces:
        start, end = end, end + piece.rows
        parts.append(Part(piece, max(span[0] - start, 0), min(span[1], end) - start))
    return [part for part in parts if part.first < part.last]


class _Filling:
    """A window while its files arrive, one after the other."""

    def __init__(self, record: Record, capacity: int) -> None:
        self.record = record
        self.rows = np.empty(capacity, record.dtype)
        self.end = 0
        self.lists = {name: np.empty(0, dtype) for name, dtype in record.list_types.items()}
        self.list_ends = dict.fromkeys(record.lists, 0)

    def add(self, file: DayFile, table: pa.Table, keep: np.ndarray | None) -> None:
        """Write the rows of one file, or those that `keep` (bool, one a row) marks, behind those of the earlier ones.

        (Selected column by column in numpy: on tables as small as most days, Arrow's filter costs several times as
        much.)
        """
        selected = slice(None) if keep is None else keep
        count = table.num_rows if keep is None else int(keep.sum())
        rows = self.rows[self.end : self.end + count]
        self.end += count
        columns = dict(zip(table.column_names, table.columns, strict=True))
        for i, task in enumerate(self.record.layout.tasks):
            rows[LABELS][:, i] = _checked(self.record, file, f"label_{task}", columns[f"label_{task}"])[selected]
        for name in self.record.types:
            if name in self.rows.dtype.fields and name not in self.record.list_types:  # a bag counts its own values too
                rows[name] = _checked(self.record, file, name, columns[name])[selected]
        for owner in self.record.lists:
            lengths = self._add_lists(file, columns, owner, keep)
            ends = self.list_ends[owner] + np.cumsum(lengths)
            rows[f"{owner}.length"] = lengths
            rows[f"{owner}.start"] = ends - lengths
            self.list_ends[owner] += int(lengths.sum())
        for bag, counts in self.record.bags_of_behaviours.items():
            if _total_values(columns[counts]) != _total_length(columns[bag]):
                raise DataError(f"{file.path}: columns {counts!r} and {bag!r} differ in how many values there are")

    def window(self) -> Window:
        """All that was added."""
        ends = {name: self.list_ends[owner] for owner, names in self.record.lists.items() for name in names}
        return Window(
            self.record, self.rows[: self.end], {name: values[: ends[name]] for name, values in self.lists.items()}
        )

    def _add_lists(
        self, file: DayFile, columns: dict[str, pa.ChunkedArray], owner: str, keep: np.ndarray | None
    ) -> np.ndarray:
        """Append the values of one owner's lists; returns the rows' lengths, int64."""
        names = self.record.lists[owner]
        lengths = pc.list_value_length(columns[names[0]]).to_numpy().astype(np.int64)
        chosen = None if keep is None else np.repeat(keep, lengths)
        for name in names:
            if not np.array_equal(pc.list_value_length(columns[name]).to_numpy(), lengths):
                raise DataError(f"{file.path}: columns {names[0]!r} and {name!r} differ in the length of a row's list")
            flat = pc.list_flatten(columns[name])
            if flat.null_count:
                raise DataError(f"{file.path}: column {name!r} has {flat.null_count} nulls in its lists, expected none")
            values = _checked(self.record, file, name, flat)
            values = values if chosen is None else values[chosen]
            first, last = self.list_ends[owner], self.list_ends[owner] + len(values)
            self._reserve(name, last)
            self.lists[name][first:last] = values
        return lengths if keep is None else lengths[keep]

    def _reserve(self, name: str, needed: int) -> None:
        """Make room for `needed` values: at once for as many as all rows may have, judging by those so far.

        (Memory that is reserved but never written to costs nothing.)
        """
        values = self.lists[name]
        if needed > len(values):
            grown = np.empty(max(needed, int(1.25 * needed * len(self.rows) / max(self.end, 1))), values.dtype)
            grown[: len(values)] = values
            self.lists[name] = grown


def _checked(record: Record, file: DayFile, name: str, column: pa.ChunkedArray) -> np.ndarray:
    """The column as numpy, [rows] or [rows, width], its values in range: integers in [0, limit), numbers finite."""
    values = _vectors(column) if is_vector(column.type) else column.to_numpy()
    limit = record.limits.get(name)
    # a negative value becomes a large one
    if limit is not None and values.view(f"u{values.itemsize}").max(initial=0) >= limit:
        wrong = values[(values < 0) | (values >= limit)][0]
        raise DataError(f"{file.path}: column {name!r} holds {wrong}, expected values in [0, {limit}) (schema.yaml)")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(
            f"{file.path}: column {name!r} holds {values[~np.isfinite(values)][0]}, expected finite numbers"
        )
    return values


def _vectors(column: pa.ChunkedArray) -> np.ndarray:
    """float32 [rows, width]"""
    width = column.type.list_size
    parts = [chunk.flatten().to_numpy().reshape(-1, width) for chunk in column.chunks]
    return np.concatenate([np.zeros((0, width), np.float32), *parts])


def _total_length(lists: pa.ChunkedArray) -> int:
    return pc.sum(pc.list_value_length(lists)).as_py() or 0


def _total_values(lists: pa.ChunkedArray) -> int:
    return pc.sum(pc.list_flatten(lists)).as_py() or 0


@contextmanager
def _parquet(file: DayFile) -> Iterator[pq.ParquetFile]:
    """The opened file, its size and row count checked; whatever goes wrong in the block is a DataError naming it."""
    try:
        size = file.path.stat().st_size
        if size != file.size:
            raise DataError(
                f"{file.path}: {size} bytes, expected {file.size} (manifest); "
                "cut short or replaced? run swrec prepare again"
            )
        with pq.ParquetFile(file.path, pre_buffer=False) as parquet:
            if parquet.metadata.num_rows != file.rows:
                raise DataError(
                    f"{file.path}: {parquet.metadata.num_rows} rows, expected {file.rows} (manifest); "
                    "run swrec prepare again"
                )
            yield parquet
    except FileNotFoundError:
        raise DataError(f"{file.path}: has vanished since it was opened first; run swrec prepare again") from None
    except (pa.ArrowException, OSError) as failure:
        raise _unreadable(str(file.path), failure) from None


def _columns(parquet: pq.ParquetFile, file: DayFile, groups: Sequence[int], names: list[str]) -> pa.Table:
    """Columns of some row groups. Raises DataError naming the first column that cannot be read."""
    try:
        return parquet.read_row_groups(groups, columns=names, use_threads=False).select(names)
    except (pa.ArrowException, OSError) as failure:
        if len(names) > 1:
            for name in names:
                _columns(parquet, file, groups, [name])
        raise _unreadable(f"{file.path}: column {names[0]!r}" if len(names) == 1 else str(file.path), failure) from None


def _unreadable(what: str, failure: Exception) -> DataError:
    reason = " ".join(str(failure).split())
    return DataError(f"{what}: cannot be read as Parquet ({reason}); cut short or damaged? run swrec prepare again")


def _check_count(piece: Piece, rows: int) -> None:
    """Raises DataError when a row group has other rows than when it was counted."""
    if rows != piece.rows:
        raise DataError(
            f"{piece.file.path}: {rows} rows in row group {piece.groups}, at first {piece.rows}; was the file replaced?"
        )


def _equal(column: pa.ChunkedArray, word: str) -> np.ndarray:
    """Which values are `word`: bool [rows].

    By code: Arrow compares words, and of a dictionary it first writes all of them out.
    """
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    # -1: not in there
    parts = [chunk.indices.to_numpy() == chunk.dictionary.index(word).as_py() for chunk in coded.chunks]
    return np.concatenate([np.zeros(0, bool), *parts])


def _same(kind: pa.DataType, expected: pa.DataType) -> bool:
    """Whether the types hold the same values: names of list elements and dictionary encoding aside."""
    if pa.types.is_dictionary(kind):
        return kind.value_type == expected
    if pa.types.is_list(expected):
        return pa.types.is_list(kind) and kind.value_type == expected.value_type
    if is_vector(expected):
        return is_vector(kind) and kind.value_type == FLOAT and kind.list_size == expected.list_size
    return kind == expected
