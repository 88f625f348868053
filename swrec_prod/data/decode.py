"""Prepared Parquet -> numpy, a window at a time. Types, nulls, ids, scenarios and labels are checked here, and only here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.data.catalog import DayFile
from swrec_prod.data.pack import Column, Ragged, spread
from swrec_prod.data.record import INT, LABELS, LIST, Record
from swrec_prod.errors import DataError, nearest

THREADS = 2  # files read at once; a prepared day may be tiny, and then opening it costs more than its rows


@dataclass(frozen=True)
class Piece:
    """Rows of one file that are read together. groups: row groups, or None for the whole file."""

    file: DayFile
    rows: int
    groups: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Window:
    """Decoded rows. rows: [R] of record.dtype. lists: by owner, int32 [values of all rows, columns of the owner]."""

    record: Record
    rows: np.ndarray
    lists: dict[str, np.ndarray]

    def columns(self, rows_B: np.ndarray) -> dict[str, Column]:
        """The columns of `rows_B`, records taken from `rows`: views of their fields, and their lists gathered."""
        columns: dict[str, Column] = {name: rows_B[name] for name in rows_B.dtype.fields or ()}
        for owner, names in self.record.lists.items():
            index, offsets = spread(rows_B[f"{owner}.start"], rows_B[f"{owner}.length"])
            values = self.lists[owner].take(index, axis=0)
            columns.update({name: Ragged(values[:, i], offsets) for i, name in enumerate(names)})
        return columns


@dataclass(frozen=True)
class Decoder:
    """Reads pieces of prepared files. part: keep the rows whose `split` is this; None: all rows."""

    record: Record
    part: str | None = None

    def pieces(self, files: Sequence[DayFile], limit: int) -> list[Piece]:
        """What windows are made of: whole files if all rows fit into one window, else row groups, with their rows counted."""
        if sum(f.rows for f in files) <= limit:
            return [Piece(f, f.rows) for f in files if f.rows]
        with ThreadPoolExecutor(THREADS) as pool:
            return [piece for pieces in pool.map(self._row_groups, files) for piece in pieces if piece.rows]

    def decode(self, pieces: Sequence[Piece]) -> Window:
        """The pieces' rows, in order. Raises DataError naming the file, the column, what was found and what was expected."""
        filling = _Filling(self.record, sum(p.rows for p in pieces))
        with ThreadPoolExecutor(THREADS) as pool:
            for piece, table in zip(pieces, pool.map(self._read, pieces), strict=True):
                keep = None if self.part is None else _equal(table["split"], self.part)
                filling.add(piece.file, table, keep)
        return filling.window()

    def _row_groups(self, file: DayFile) -> list[Piece]:
        with _parquet(file) as parquet:
            self._check_types(file, parquet.schema_arrow)
            counts = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
            if self.part is not None:
                splits = [parquet.read_row_group(g, columns=["split"], use_threads=False)["split"] for g in range(len(counts))]
                counts = [int(_equal(split, self.part).sum()) for split in splits]
        return [Piece(file, rows, (g,)) for g, rows in enumerate(counts)]

    def _read(self, piece: Piece) -> pa.Table:
        names = [*self.record.types, *(["split"] if self.part is not None else [])]
        with _parquet(piece.file) as parquet:
            self._check_types(piece.file, parquet.schema_arrow)
            groups = range(parquet.num_row_groups) if piece.groups is None else piece.groups
            table = parquet.read_row_groups(list(groups), columns=names, use_threads=False)
        for name in names:
            if table[name].null_count:
                raise DataError(f"{piece.file.path}: column {name!r} has {table[name].null_count} nulls, expected none")
        return table

    def _check_types(self, file: DayFile, found: pa.Schema) -> None:
        expected = self.record.types | ({"split": pa.string()} if self.part is not None else {})
        for name, wanted in expected.items():
            if name not in found.names:
                raise DataError(f"{file.path}: no column {name!r}, expected {wanted}; {nearest(name, found.names)}")
            got = found.field(name).type
            if not _same(got, wanted):
                raise DataError(f"{file.path}: column {name!r} is {got}, expected {wanted} (schema.yaml). Did something else write it?")


class _Filling:
    """A window while its files arrive, one after the other."""

    def __init__(self, record: Record, capacity: int) -> None:
        self.record = record
        self.rows = np.empty(capacity, record.dtype)
        self.end = 0
        self.lists = {owner: [np.zeros((0, len(columns)), np.int32)] for owner, columns in record.lists.items()}
        self.list_ends = dict.fromkeys(record.lists, 0)

    def add(self, file: DayFile, table: pa.Table, keep: np.ndarray | None) -> None:
        """Write the rows of one file, or those that `keep` (bool, one a row) marks, behind those of the earlier ones.

        (Selected column by column in numpy: on tables as small as most days, Arrow's filter costs several times as much.)
        """
        kept = slice(None) if keep is None else keep
        count = table.num_rows if keep is None else int(keep.sum())
        rows = self.rows[self.end : self.end + count]
        self.end += count
        for i, task in enumerate(self.record.layout.tasks):
            rows[LABELS][:, i] = _checked(self.record, file, f"label_{task}", table[f"label_{task}"])[kept]
        for name in self.record.types:
            if name in self.rows.dtype.fields:
                rows[name] = _checked(self.record, file, name, table[name])[kept]
        for owner in self.record.lists:
            lengths = self._add_lists(file, table, owner, keep)
            ends = self.list_ends[owner] + np.cumsum(lengths)
            rows[f"{owner}.length"] = lengths
            rows[f"{owner}.start"] = ends - lengths
            self.list_ends[owner] += int(lengths.sum())

    def window(self) -> Window:
        """All that was added."""
        return Window(self.record, self.rows[: self.end], {owner: np.concatenate(parts) for owner, parts in self.lists.items()})

    def _add_lists(self, file: DayFile, table: pa.Table, owner: str, keep: np.ndarray | None) -> np.ndarray:
        """Append the values of one owner's lists; returns the rows' lengths, int64."""
        names = self.record.lists[owner]
        lengths = pc.list_value_length(table[names[0]]).to_numpy().astype(np.int64)
        values = np.empty((int(lengths.sum()), len(names)), np.int32)
        for i, name in enumerate(names):
            if not np.array_equal(pc.list_value_length(table[name]).to_numpy(), lengths):
                raise DataError(f"{file.path}: columns {names[0]!r} and {name!r} differ in the length of a row's list")
            flat = pc.list_flatten(table[name])
            if flat.null_count:
                raise DataError(f"{file.path}: column {name!r} has {flat.null_count} nulls in its lists, expected none")
            values[:, i] = _checked(self.record, file, name, flat)
        self.lists[owner].append(values if keep is None else values[np.repeat(keep, lengths)])
        return lengths if keep is None else lengths[keep]


def _checked(record: Record, file: DayFile, name: str, column: pa.ChunkedArray) -> np.ndarray:
    """The column as numpy, its values in range: integers in [0, limit), numbers finite."""
    values = column.to_numpy()
    limit = record.limits.get(name)
    if limit is not None and values.view(f"u{values.itemsize}").max(initial=0) >= limit:  # a negative value becomes a large one
        wrong = values[(values < 0) | (values >= limit)][0]
        raise DataError(f"{file.path}: column {name!r} holds {wrong}, expected values in [0, {limit}) (schema.yaml)")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{file.path}: column {name!r} holds {values[~np.isfinite(values)][0]}, expected finite numbers")
    return values


@contextmanager
def _parquet(file: DayFile) -> Iterator[pq.ParquetFile]:
    """The opened file, its row count checked; whatever goes wrong in the block is a DataError naming it."""
    try:
        with pq.ParquetFile(file.path) as parquet:
            if parquet.metadata.num_rows != file.rows:
                raise DataError(f"{file.path}: {parquet.metadata.num_rows} rows, expected {file.rows} (manifest); run swrec prepare again")
            yield parquet
    except (pa.ArrowException, OSError) as failure:
        reason = " ".join(str(failure).split())
        raise DataError(f"{file.path}: cannot be read as Parquet ({reason}); cut short or damaged? run swrec prepare again") from None


def _equal(column: pa.ChunkedArray, word: str) -> np.ndarray:
    """Which values are `word`: bool [rows]. By code: Arrow compares words, and of a dictionary it first writes all of them out."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    found = [chunk.indices.to_numpy() == chunk.dictionary.index(word).as_py() for chunk in coded.chunks]  # -1: not in there
    return np.concatenate([np.zeros(0, bool), *found])


def _same(found: pa.DataType, expected: pa.DataType) -> bool:
    """Whether the types hold the same values: names of list elements and dictionary encoding aside."""
    if pa.types.is_dictionary(found):
        return found.value_type == expected
    if expected == LIST:
        return pa.types.is_list(found) and found.value_type == INT
    return found == expected
