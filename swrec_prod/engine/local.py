"""The embedded engine: DuckDB through Ibis."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis.backends.sql.datatypes import DuckDBType

from swrec_prod.engine.arrow_types import as_schema, normal, normal_schema
from swrec_prod.engine.lines import check_files, check_headers
from swrec_prod.engine.parquet import check_parquet, damaged, not_utf8
from swrec_prod.errors import DataError, SwrecError

FILE = "file__"  # the file of a row
NUMBER = "file_row_number"  # what DuckDB calls its place there
MEMORY = "2GB"  # of DuckDB itself; what is larger is spilled to the scratch folder
# messages about a full disk, and about the limit that DuckDB sets itself on one
FULL = ("No space left on device", "max_temp_directory_size")
WRONG_EXPRESSIONS = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException, duckdb.InternalException)
# errors of a file whose message may not name it
NAMELESS = {duckdb.Error, duckdb.IOException, duckdb.InvalidInputException}

epoch_us = ibis.udf.scalar.builtin(lambda moment: None, name="epoch_us", signature=(("timestamp",), "int64"))
epoch_ns = ibis.udf.scalar.builtin(lambda moment: None, name="epoch_ns", signature=(("timestamp",), "int64"))
decode = ibis.udf.scalar.builtin(lambda text: None, name="decode", signature=(("binary",), "string"))
make_timestamp = ibis.udf.scalar.builtin(
    lambda micros: None, name="make_timestamp", signature=(("int64",), "timestamp")
)


class LocalEngine:
    """See contract.Engine."""

    name = "local"

    def __init__(self, scratch: Path, threads: int) -> None:
        self.con = ibis.duckdb.connect(temp_directory=str(scratch), memory_limit=MEMORY, threads=threads)
        self.con.raw_sql("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        self.notes: list[str] = []
        self._scratch = scratch
        self._parquet: list[Path] = []
        self._text: list[Path] = []
        self._names = count()
        self._failure: SwrecError | None = None

    def parquet(
        self, files: Sequence[Path], of_files: Sequence[Mapping[str, str | None]] = (), numbered: str | None = None
    ) -> ir.Table:
        """See contract.Engine."""
        footers = check_parquet(files, of_files, (numbered, NUMBER) if numbered else ())
        self.notes += footers.notes
        self._parquet += files
        options: dict[str, Any] = {"union_by_name": True, "hive_partitioning": False}
        options["binary_as_string"] = pa.binary() not in footers.stored.types  # else `_normal` reads texts of bytes
        options |= {"filename": FILE} if footers.of_files else {}
        options |= {NUMBER: True} if numbered else {}
        names = [str(f) for f in files]
        with self._translated_errors():
            rows = self.con.read_parquet(names, **options)
        if footers.of_files:
            text = {name: pa.array(values, pa.string()) for name, values in footers.of_files.items()}
            known = self.materialise(ibis.memtable(pa.table({FILE: names, **text})))
            rows = rows.inner_join(known, FILE).drop(FILE)
        rows = rows.rename({numbered: NUMBER}) if numbered else rows
        return _normal(rows, normal_schema(footers.stored))

    def text(
        self,
        files: Sequence[Path],
        columns: Mapping[str, str],
        *,
        delimiter: str = ",",
        header: bool = False,
        quote: str = "",
    ) -> ir.Table:
        """See contract.Engine."""
        check_files(files)
        if header:
            check_headers(files, list(columns), delimiter, quote)
        self._text += files
        options = {"delim": delimiter, "header": header, "quote": quote, "escape": quote, "auto_detect": False}
        with self._translated_errors():
            return self.con.read_csv([str(f) for f in files], columns=_types(columns), **options)

    def json_lines(self, files: Sequence[Path], columns: Mapping[str, str]) -> ir.Table:
        """See contract.Engine."""
        check_files(files)
        self._text += files
        with self._translated_errors():
            return self.con.read_json([str(f) for f in files], columns=_types(columns), format="newline_delimited")

    def from_arrow(self, table: pa.Table) -> ir.Table:
        """See contract.Engine."""
        return ibis.memtable(normal(table))

    def arrow(self, rows: ir.Table) -> pa.Table:
        """See contract.Engine."""
        with self._translated_errors():
            return as_schema(self.con.to_pyarrow(rows), rows.schema().to_pyarrow())

    def view(self, rows: ir.Table) -> ir.Table:
        """See contract.Engine."""
        with self._translated_errors():
            return self.con.create_view(f"view_{next(self._names)}", rows)

    def materialise(self, rows: ir.Table) -> ir.Table:
        """See contract.Engine."""
        with self._translated_errors():
            return self.con.create_table(f"materialised_{next(self._names)}", rows, temp=True)

    def release(self, rows: ir.Table) -> None:
        """See contract.Engine."""
        self.con.raw_sql(f"DROP TABLE {rows.get_name()}")

    def micros(self, moment: ir.TimestampColumn) -> ir.IntegerColumn:
        """See contract.Engine."""
        return epoch_us(moment)

    def map_groups(
        self, rows: ir.Table, by: str, function: Callable[[pa.Table], pa.Table], schema: pa.Schema
    ) -> ir.Table:
        """See contract.Engine."""
        table = self.arrow(rows)
        keys = table.column(by).combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy()
        order = np.argsort(keys, kind="stable")
        ends = [*np.flatnonzero(np.diff(keys[order], prepend=-1)), len(keys)]
        groups = (table.take(order[start:end]) for start, end in pairwise(ends))
        return self.from_arrow(
            pa.concat_tables([as_schema(t, schema) for t in (schema.empty_table(), *map(function, groups))])
        )

    def computed(
        self, rows: ir.Table, name: str, kind: str, of: Sequence[str], function: Callable[[pa.Table], pa.Array]
    ) -> ir.Table:
        """See contract.Engine."""

        def of_struct(given: pa.ChunkedArray) -> pa.Array:
            try:
                return function(pa.Table.from_struct_array(given))
            except SwrecError as failure:  # DuckDB would make text of it
                self._failure = failure
                raise

        given = ibis.struct({column: rows[column] for column in of})
        types, called = _types({"given": given.type(), "made": kind}), f"computed_{next(self._names)}"
        self.con.con.create_function(
            called,
            of_struct,
            [types["given"]],
            types["made"],
            type="arrow",
            null_handling="special",
        )
        call = ibis.udf.scalar.builtin(lambda given: None, name=called, signature=((given.type(),), kind))
        return rows.mutate(**{name: call(given)})

    def close(self) -> None:
        """See contract.Engine."""
        self.con.disconnect()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """DuckDB's errors about files become DataErrors that name the file; those about wrong expressions, which are
        mistakes in our code, pass unchanged.

        A full disk is an OSError, as it is when files are written.
        """
        try:
            yield
        except WRONG_EXPRESSIONS:
            raise
        except (KeyboardInterrupt, RuntimeError) as failure:
            if not isinstance(failure.__cause__ or failure, KeyboardInterrupt):  # DuckDB makes a RuntimeError of Ctrl-C
                raise
            self.con.con.interrupt()  # else the query goes on, and closing waits for it
            raise KeyboardInterrupt from None
        except (duckdb.Error, pa.ArrowInvalid) as failure:
            if any(word in str(failure) for word in FULL):
                raise OSError(errno.ENOSPC, "No space left on device for what is spilled", str(self._scratch)) from None
            if self._failure is not None:
                ours, self._failure = self._failure, None
                raise ours from None
            reason = explain(str(failure))
            if where := re.search(r'Invalid string encoding found in Parquet file "([^"\n]+)"', str(failure)):
                reason = not_utf8(Path(where[1])) or reason
            if type(failure) in NAMELESS and not any(str(file) in reason for file in (*self._parquet, *self._text)):
                files = ", ".join(map(str, self._text or self._parquet))
                reason = damaged(self._parquet) or f"reading {files}: {reason}"
            raise DataError(reason) from None


def _normal(rows: ir.Table, wanted: pa.Schema) -> ir.Table:
    """The columns with normal types. A cast of nanoseconds would round them."""
    types, given = ibis.Schema.from_pyarrow(wanted), rows.schema().to_pyarrow()
    changed = {}
    for field in wanted:
        kind, column = given.field(field.name).type, rows[field.name]
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            changed[field.name] = make_timestamp(epoch_ns(column) // 1000)
        elif pa.types.is_binary(kind) and pa.types.is_string(field.type):
            changed[field.name] = decode(column)
        elif kind != field.type:
            changed[field.name] = column.cast(types[field.name])
    return rows.mutate(**changed)


def explain(text: str) -> str:
    """DuckDB's message in one line: for a delimited file the place comes first,
    and advice about DuckDB's own options is left out.
    """
    where = re.search(r"CSV Error on Line: (\d+).*?^  file = ([^\n]*)", text, re.DOTALL | re.MULTILINE)
    if where is None:
        large = re.search(r"Type UINT64 with value (\d+) can't be cast .* from source column ([^\n]+)", text)
        if large:
            return f"column {large[2]!r} has the value {large[1]}, expected less than 2^63; write it as a string"
        return " ".join(re.split(r"\n\s*(?:LINE \d|Possible)", text)[0].split())
    place = f"{where[2]}:{where[1]}"
    value = re.search(r"converting column \"(.*?)\"\. Could not convert string \"(.*?)\" to '(.*?)'", text, re.DOTALL)
    if value:
        return f"{place}: column {value[1]!r} is {value[2]!r}, expected {DuckDBType.from_string(value[3])}"
    number = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text)
    if number:
        return f"{place}: {number[2]} values, expected {number[1]}"
    return f"{place}: {' '.join(text.splitlines()[2].split())}"


def _types(columns: Mapping[str, str]) -> dict[str, str]:
    return {name: DuckDBType.to_string(ibis.dtype(kind)) for name, kind in columns.items()}
