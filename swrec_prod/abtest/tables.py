"""Files as tables of DuckDB: a Parquet or CSV file or a folder of them, and their columns.

What does not fit into memory is spilled. Moments become timestamps in UTC.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from swrec_prod.errors import ConfigError, DataError, nearest

MEMORY = "2GB"
READERS = {"parquet": "read_parquet", "csv": "read_csv"}
INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
NUMBERS = {*INTEGERS, "FLOAT", "DOUBLE", "BOOLEAN"}
MICROSECONDS = (10**14, 10**16)  # of 1973 to 2286; other integers are seconds, milliseconds or nanoseconds


@contextlib.contextmanager
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that spills to a folder of its own; its errors of the data become DataError."""
    with TemporaryDirectory(prefix="swrec-abtest-") as scratch, duckdb.connect() as con:
        con.execute(f"SET memory_limit = '{MEMORY}'; SET temp_directory = {literal(scratch)}; SET TimeZone = 'UTC'")
        try:
            yield con
        except (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.IOException) as failure:
            raise DataError(" ".join(str(failure).split())) from None


def register(con: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    """Make the file or folder at `path` the view `name`. Raises DataError when nothing there can be read."""
    kind, pattern = _files(path)
    options = ", union_by_name = true, hive_partitioning = true" if path.is_dir() else ""
    try:
        con.execute(f"CREATE VIEW {name} AS SELECT * FROM {READERS[kind]}({literal(pattern)}{options})")
    except duckdb.Error as failure:
        raise DataError(f"{path}: not readable as {kind}: {' '.join(str(failure).split())}") from None


def types(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """The columns of a table and their types, as DuckDB calls them."""
    return {str(row[0]): str(row[1]) for row in con.execute(f"DESCRIBE {table}").fetchall()}


def check_column(column: str | None, key: str, known: dict[str, str], table: str) -> None:
    """Raises ConfigError when the columns file's `key` names a column that the table does not have."""
    if column is not None and column not in known:
        raise ConfigError(f"{key}: {table} have no column {column!r}; {nearest(column, known)}")


def check_number(column: str, key: str, known: dict[str, str]) -> None:
    """Raises DataError when a column to be summed is not a number."""
    if known[column] not in NUMBERS and not known[column].startswith("DECIMAL"):
        raise DataError(
            f"{key}: column {column!r} is {known[column].lower()}, which cannot be summed; a number is needed"
        )


def moment(con: duckdb.DuckDBPyConnection, table: str, column: str, known: dict[str, str]) -> str:
    """SQL of a column of moments as a timestamp in UTC. Raises DataError for integers that are not microseconds."""
    name = identifier(column)
    if known[column] not in INTEGERS:
        return f"CAST({name} AS TIMESTAMP)"
    latest = con.execute(f"SELECT max({name}) FROM {table}").fetchone()
    if latest and latest[0] is not None and not MICROSECONDS[0] < latest[0] < MICROSECONDS[1]:
        raise DataError(
            f"column {column!r}: {latest[0]} is no time in microseconds (1973 to 2286); in which unit is it?"
        )
    return f"make_timestamp(CAST({name} AS BIGINT))"


def scalar(con: duckdb.DuckDBPyConnection, query: str) -> int:
    """The one number that `query` gives."""
    row = con.execute(query).fetchone()
    return int(row[0] or 0) if row else 0


def identifier(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _files(path: Path) -> tuple[str, str]:
    if path.is_file():
        return ("csv" if path.suffixes[:1] == [".csv"] else "parquet"), str(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    for kind in READERS:
        if next(path.rglob(f"*.{kind}"), None):
            return kind, str(path / "**" / f"*.{kind}")
    raise DataError(f"{path}: has no .parquet or .csv files")
