"""The embedded engine: DuckDB through Ibis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.errors import DataError

MEMORY = "2GB"  # of DuckDB itself; what is larger is spilled to the scratch folder
TYPES = {"int64": "BIGINT", "int32": "INTEGER", "float64": "DOUBLE", "string": "VARCHAR", "array<string>": "VARCHAR[]"}

epoch_us = ibis.udf.scalar.builtin(lambda moment: None, name="epoch_us", signature=(("timestamp",), "int64"))


class LocalEngine:
    """See contract.Engine."""

    name = "local"

    def __init__(self, scratch: Path, threads: int) -> None:
        self.con = ibis.duckdb.connect(temp_directory=str(scratch), memory_limit=MEMORY, threads=threads)
        self.con.raw_sql("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        self._names = count()

    def parquet(self, files: Sequence[Path]) -> ir.Table:
        """See contract.Engine."""
        with _told():
            return self.con.read_parquet([str(f) for f in files], union_by_name=True, hive_partitioning=False)

    def text(
        self, files: Sequence[Path], columns: Mapping[str, str], *, delimiter: str = ",", header: bool = False, quote: str = ""
    ) -> ir.Table:
        """See contract.Engine."""
        types = {name: TYPES[kind] for name, kind in columns.items()}
        with _told():
            return self.con.read_csv(
                [str(f) for f in files], columns=types, delim=delimiter, header=header, quote=quote, escape=quote, auto_detect=False
            )

    def json_lines(self, files: Sequence[Path], columns: Mapping[str, str]) -> ir.Table:
        """See contract.Engine."""
        types = {name: TYPES[kind] for name, kind in columns.items()}
        with _told():
            return self.con.read_json([str(f) for f in files], columns=types, format="newline_delimited")

    def memory(self, table: pa.Table) -> ir.Table:
        """See contract.Engine."""
        return ibis.memtable(table)

    def arrow(self, rows: ir.Table) -> pa.Table:
        """See contract.Engine."""
        with _told():
            return self.con.to_pyarrow(rows)

    def kept(self, rows: ir.Table) -> ir.Table:
        """See contract.Engine."""
        with _told():
            return self.con.create_table(f"kept_{next(self._names)}", rows, temp=True)

    def micros(self, moment: ir.TimestampColumn) -> ir.IntegerColumn:
        """See contract.Engine."""
        return epoch_us(moment)

    def map_groups(self, rows: ir.Table, by: str, function: Callable[[pa.Table], pa.Table], schema: pa.Schema) -> ir.Table:
        """See contract.Engine."""
        table = self.arrow(rows.order_by(by))
        groups = table.column(by).combine_chunks().dictionary_encode()
        results = [function(table.filter(pc.equal(groups.indices, i))) for i in range(len(groups.dictionary))]
        return ibis.memtable(pa.concat_tables([schema.empty_table(), *results]))

    def close(self) -> None:
        """See contract.Engine."""
        self.con.disconnect()


@contextmanager
def _told() -> Iterator[None]:
    """What DuckDB cannot read, as an error of ours; its message names the file."""
    try:
        yield
    except (duckdb.IOException, duckdb.InvalidInputException, duckdb.ConversionException, duckdb.OutOfMemoryException) as failure:
        raise DataError(" ".join(str(failure).split())) from None
