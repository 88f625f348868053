"""What the footers of Parquet files say: whether the files are whole, and whether all of them have the same columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.engine.arrow_types import normal_type, wider
from swrec_prod.errors import DataError

READERS = 16  # threads: a footer is a small read, often of a network file system


class Footers(NamedTuple):
    """What the footers of Parquet files say together.

    stored: every column of any file. Types are normal ones (arrow_types), but for timestamps in nanoseconds and uint64,
        which a reader has to convert, and null for a column that has no type in any file.
    groups: the files by the columns that have another type in them than in `stored`: null (pandas writes that for a
        column of missing values only) or narrower numbers.
    notes: for the user, a line each: columns that only some of the files have.
    of_files: by name the columns that no file holds, with the value of each file.
    """

    stored: pa.Schema
    groups: dict[frozenset[tuple[str, pa.DataType]], list[Path]]
    notes: list[str]
    of_files: dict[str, list[str | None]]


def check_parquet(
    files: Sequence[Path], of_files: Sequence[Mapping[str, str | None]] = (), taken: Sequence[str] = ()
) -> Footers:
    """Open the footer of each of the files, of which there must be one or more. of_files: see contract.Engine.parquet.
    taken: names in small letters that no column may have.

    Raises DataError naming a file that is missing or damaged, or file and column where a type is not that of the file
    before (numbers are widened), a name is taken, or differs from another in capital letters only: SQL would take both
    for one.
    """
    with ThreadPoolExecutor(READERS) as pool:
        schemas = list(pool.map(_footer, files))
    _check_names(files, schemas)
    _check_taken(files, schemas, taken)
    stored = _types(files, schemas)
    groups: dict[frozenset[tuple[str, pa.DataType]], list[Path]] = {}
    for path, schema in zip(files, schemas, strict=True):
        others = [field for field in schema if field.type == pa.null() or field.type != stored[field.name]]
        groups.setdefault(frozenset((field.name, field.type) for field in others), []).append(path)
    of_paths = _columns_of_files(files, schemas, of_files)
    return Footers(pa.schema(list(stored.items())), groups, _partial(files, schemas), of_paths)


def _check_taken(files: Sequence[Path], schemas: Sequence[pa.Schema], taken: Sequence[str]) -> None:
    for path, schema in zip(files, schemas, strict=True):
        for name in schema.names:
            if name.lower() in taken:
                raise DataError(f"{path}: column {name!r} has the name of the number of a row in its file; rename it")


def _types(files: Sequence[Path], schemas: Sequence[pa.Schema]) -> dict[str, pa.DataType]:
    """The type of every column of any file. Raises DataError where those of two files do not go together."""
    first: dict[str, tuple[pa.DataType, Path]] = {}
    for path, schema in zip(files, schemas, strict=True):
        for field in schema:
            known, where = first.get(field.name, (pa.null(), path))
            if known == pa.null():
                first[field.name] = (field.type, path)
            elif kind := wider(known, field.type):
                first[field.name] = (kind, where)
            elif field.type != pa.null():
                difference = f"column {field.name!r} is {field.type}, expected {known} (as in {where})"
                raise DataError(f"{path}: {difference}. Did the producer change?")
    return {name: kind for name, (kind, _) in first.items()}


def _columns_of_files(
    files: Sequence[Path], schemas: Sequence[pa.Schema], of_files: Sequence[Mapping[str, str | None]]
) -> dict[str, list[str | None]]:
    """Those of `of_files` that no file holds. Raises DataError for one that some hold and others do not."""
    columns: dict[str, list[str | None]] = {}
    for name in of_files[0] if of_files else ():
        inside = [_holds(path, schema, name) for path, schema in zip(files, schemas, strict=True)]
        if any(inside) and not all(inside):
            where, elsewhere = files[inside.index(True)], files[inside.index(False)]
            difference = f"column {name!r} is in the file, but for {elsewhere} it is in the folder's name only"
            raise DataError(f"{where}: {difference}; write it into all files, or into none")
        if not any(inside):
            columns[name] = [of[name] for of in of_files]
    return columns


def _holds(path: Path, schema: pa.Schema, name: str) -> bool:
    """Whether a file has the column `name`. SQL would take another one that differs in capitals only for it."""
    alike = next((other for other in schema.names if other.lower() == name.lower()), name)
    if alike != name:
        difference = f"column {alike!r} and column {name!r} (in a folder's name) differ in capital letters only"
        raise DataError(f"{path}: {difference}; write them alike, or rename one")
    return name in schema.names


def damaged(files: Sequence[Path]) -> str | None:
    """The first of the files that cannot be read through, and why; None where all can.

    For when an engine failed without saying where.
    """
    for path in files:
        try:
            for _ in pq.ParquetFile(path).iter_batches():
                pass
        except (pa.ArrowException, OSError) as failure:
            return f"{path}: damaged Parquet: {' '.join(str(failure).split())}"
    return None


def not_utf8(path: Path) -> str | None:
    """The first column of a Parquet file with text that is no UTF-8, and such a value; None where there is none."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                for value in _bytes_of(column):
                    try:
                        value.decode()
                    except UnicodeDecodeError:
                        remedy = "write text as UTF-8, or leave the column out"
                        return f"{path}: column {name!r} has the value {value[:40]!r}, which is no UTF-8; {remedy}"
    return None


def _bytes_of(column: pa.Array) -> list[bytes]:
    """The values of a column of texts, or of lists of them."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.flatten()
    is_text = pa.types.is_string(column.type) or pa.types.is_binary(column.type)
    return column.drop_null().cast(pa.binary()).to_pylist() if is_text else []


def _footer(path: Path) -> pa.Schema:
    """The columns of one file with the types of Footers.stored."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with pq.ParquetFile(path) as file:
            int96 = {c.path for c in map(file.schema.column, range(len(file.schema))) if c.physical_type == "INT96"}
            return pa.schema([(f.name, _stored_type(f.type, f.name in int96)) for f in file.schema_arrow])
    except (pa.ArrowException, OSError) as failure:
        raise DataError(f"{path}: damaged or no Parquet file: {' '.join(str(failure).split())}") from None


def _stored_type(kind: pa.DataType, int96: bool) -> pa.DataType:
    """int96: timestamps of old writers; Arrow calls them nanoseconds, engines read microseconds."""
    if pa.types.is_fixed_size_binary(kind):  # of UUIDs and hashes: no text
        return pa.binary()
    nanos = pa.types.is_timestamp(kind) and kind.unit == "ns" and not int96
    return kind if nanos or kind in (pa.uint64(), pa.null()) else _text(normal_type(kind))


def _text(kind: pa.DataType) -> pa.DataType:
    """Bytes are text: some writers leave out that they are."""
    if pa.types.is_list(kind):
        return pa.list_(pa.field("item", _text(kind.value_type)))
    return pa.string() if kind == pa.binary() else kind


def _check_names(files: Sequence[Path], schemas: Sequence[pa.Schema]) -> None:
    known: dict[str, tuple[str, Path]] = {}
    for path, schema in zip(files, schemas, strict=True):
        for name, times in Counter(schema.names).items():
            other, where = known.setdefault(name.lower(), (name, path))
            if other != name:
                difference = f"column {name!r} and column {other!r} (in {where}) differ in capital letters only"
                raise DataError(f"{path}: {difference}; write them alike, or rename one")
            if times > 1:
                raise DataError(f"{path}: column {name!r} is there {times} times; rename all but one")


def _partial(files: Sequence[Path], schemas: Sequence[pa.Schema]) -> list[str]:
    """A line for each column that only some of the files have."""
    having: dict[str, list[int]] = {}
    for i, schema in enumerate(schemas):
        for name in schema.names:
            having.setdefault(name, []).append(i)
    notes = []
    for name, where in having.items():
        if len(where) < len(files):
            lacks = next(i for i in range(len(files)) if i not in set(where))
            share = f"in {len(where)} of {len(files)} files (in {files[where[0]]}, not in {files[lacks]})"
            notes.append(f"column {name!r} is {share}: its values are missing elsewhere")
    return notes
