"""Delimited text -> columns of strings and numbers; a bad line is named by file and line number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from swrec_prod.errors import DataError, nearest

UNIT = b"\x1f"  # stands in for separators of two characters, which the parser does not take


def read_delimited(
    path: Path,
    separator: str,
    names: Sequence[str] = (),
    encoding: str = "utf8",
    quote: str = "",
    keep: Sequence[str] = (),
) -> pa.Table:
    """The lines of `path` as columns of strings; without `names` the first line is the header.

    quote: encloses values that may hold separators and line ends. keep: the columns that are wanted, where not all are.
    Raises DataError naming file and line when a line has another number of fields, and when the file cannot be read.
    """
    raw = _content(path)
    if len(separator) > 1:
        raw, separator = raw.replace(separator.encode(), UNIT), UNIT.decode()
    bad: list[pv.InvalidRow] = []

    def remember(row: pv.InvalidRow) -> str:
        bad.append(row)
        return "skip"

    columns = list(names) or [
        name.strip(quote or None) for name in raw.split(b"\n", 1)[0].decode(encoding).rstrip("\r").split(separator)
    ]
    _require(keep, columns, path)
    try:
        table = pv.read_csv(
            pa.BufferReader(raw),
            pv.ReadOptions(use_threads=False, column_names=columns, skip_rows=0 if names else 1, encoding=encoding),
            pv.ParseOptions(
                delimiter=separator,
                quote_char=quote or False,
                newlines_in_values=bool(quote),
                ignore_empty_lines=False,
                invalid_row_handler=remember,
            ),
            pv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), include_columns=list(keep)),
        )
    except pa.ArrowInvalid as failure:
        raise DataError(f"{path}: cannot be read: {' '.join(str(failure).split())}") from None
    if bad:
        raise DataError(
            f"{path}:{bad[0].number}: {bad[0].actual_columns} fields, expected {len(columns)} ({', '.join(columns)})"
        )
    return table


def require_columns(table: pa.Table, names: Sequence[str], path: Path) -> None:
    """Raises DataError naming the first column that is missing, and the nearest that is there."""
    _require(names, table.column_names, path)


def whole_numbers(table: pa.Table, name: str, path: Path, first_line: int = 1) -> pa.ChunkedArray:
    """Column `name` as int64. Raises DataError with the line of the first text that is not a whole number."""
    try:
        return table[name].cast(pa.int64())
    except pa.ArrowInvalid:
        whole = pc.match_substring_regex(table[name], r"^-?\d{1,18}$").to_numpy()
        at = int(np.argmin(whole))
        raise DataError(f"{path}:{at + first_line}: {name} {table[name][at].as_py()!r} is not a whole number") from None


def _require(wanted: Sequence[str], columns: Sequence[str], path: Path) -> None:
    for name in wanted:
        if name not in columns:
            raise DataError(f"{path}: column {name!r} is missing; {nearest(name, columns)}")


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as failure:
        raise DataError(f"{path}: cannot be read: {failure.strerror}") from None
    if not raw.strip():
        raise DataError(f"{path}: the file is empty")
    return raw
