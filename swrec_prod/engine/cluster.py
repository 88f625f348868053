"""The cluster engine: PySpark through Ibis.

Files must lie where every machine of the cluster sees them under the same path.
"""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import unquote

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark import StorageLevel
from pyspark.errors import AnalysisException, ParseException, PySparkException, PythonException
from pyspark.sql import DataFrame, DataFrameReader, functions
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType, TimestampType

from swrec_prod.engine.arrow_types import as_schema, normal, normal_schema
from swrec_prod.engine.lines import check_files, check_headers
from swrec_prod.engine.local import FILE, LocalEngine
from swrec_prod.engine.parquet import check_parquet, not_utf8
from swrec_prod.engine.spark_session import open_session
from swrec_prod.errors import ConfigError, DataError, SwrecError

NO_CHARACTER = "\0"
READ_AS = {pa.uint64(): pa.decimal128(20, 0)}  # what Spark has no type for; nanoseconds are int64 (see RESULTS)

unix_micros = ibis.udf.scalar.builtin(
    lambda moment: None, name="unix_micros", signature=(("timestamp('UTC')",), "int64")
)
timestamp_micros = ibis.udf.scalar.builtin(
    lambda micros: None, name="timestamp_micros", signature=(("int64",), "timestamp('UTC')")
)


class ClusterEngine:
    """See contract.Engine."""

    name = "cluster"

    def __init__(self, scratch: Path, threads: int) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="spark-", dir=scratch))
        self._session, self._started = open_session(self._scratch, threads)
        self.con = ibis.pyspark.connect(self._session)
        self.notes: list[str] = []
        self._parquet: list[Path] = []
        self._materialised: dict[str, DataFrame] = {}
        self._names = count()
        self._again: dict[Path, Callable[[LocalEngine], ir.Table]] = {}

    def parquet(
        self, files: Sequence[Path], of_files: Sequence[Mapping[str, str | None]] = (), numbered: str | None = None
    ) -> ir.Table:
        """See contract.Engine."""
        footers = check_parquet(files, of_files, (numbered,) if numbered else ())
        self.notes += footers.notes
        self._parquet += files
        with self._translated_errors():
            parts = [self._part(footers.stored, dict(others), paths) for others, paths in footers.groups.items()]
            if numbered:
                parts = [part.withColumn(numbered, functions.col("_metadata.row_index")) for part in parts]
            if footers.of_files:
                parts = [self._with_columns(part, files, footers.of_files) for part in parts]
            rows = parts[0] if len(parts) == 1 and not any(footers.groups) else self._joined(footers.stored, parts)
            table = self._table(rows)
        more = [numbered] if numbered else []
        return _converted(table, footers.stored).select(*footers.stored.names, *footers.of_files, *more)

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
        for file in files:
            again = partial(
                LocalEngine.text, files=[file], columns=columns, delimiter=delimiter, header=header, quote=quote
            )
            self._again[file.absolute()] = again
        reader = self._reader(columns).options(sep=delimiter, header=header, quote=quote, escape=quote or NO_CHARACTER)
        with self._translated_errors():
            return self._table(reader.option("multiLine", bool(quote)).csv(_paths(files)))

    def json_lines(self, files: Sequence[Path], columns: Mapping[str, str]) -> ir.Table:
        """See contract.Engine."""
        check_files(files)
        for file in files:
            self._again[file.absolute()] = partial(LocalEngine.json_lines, files=[file], columns=columns)
        with self._translated_errors():
            return self._table(self._reader(columns).option("allowSingleQuotes", False).json(_paths(files)))

    def from_arrow(self, table: pa.Table) -> ir.Table:
        """See contract.Engine."""
        table = normal(table)
        return self._table(self._session.createDataFrame(table, schema=_structure(table.schema)))

    def arrow(self, rows: ir.Table) -> pa.Table:
        """See contract.Engine."""
        with self._translated_errors():
            table = as_schema(self._frame(rows).toArrow(), rows.schema().to_pyarrow())
        try:
            table.validate(full=True)
        except pa.ArrowInvalid as failure:  # Spark takes any bytes for text
            raise DataError(next(filter(None, map(not_utf8, reversed(self._parquet))), str(failure))) from None
        return table

    def view(self, rows: ir.Table) -> ir.Table:
        """See contract.Engine."""
        with self._translated_errors():
            return self._table(self._frame(rows))

    def materialise(self, rows: ir.Table) -> ir.Table:
        """See contract.Engine.

        Held on the executors, in memory and on disk; what is lost with one of them is computed again.
        """
        with self._translated_errors():
            frame = self._frame(rows).persist(StorageLevel.MEMORY_AND_DISK)
            frame.count()
            table = self._table(frame)
            self._materialised[table.get_name()] = frame
            return table

    def release(self, rows: ir.Table) -> None:
        """See contract.Engine."""
        self._materialised.pop(rows.get_name()).unpersist()
        self._session.catalog.dropTempView(rows.get_name())

    def micros(self, moment: ir.TimestampColumn) -> ir.IntegerColumn:
        """See contract.Engine."""
        return unix_micros(moment.cast("timestamp('UTC')"))

    def map_groups(
        self, rows: ir.Table, by: str, function: Callable[[pa.Table], pa.Table], schema: pa.Schema
    ) -> ir.Table:
        """See contract.Engine."""

        names = list(rows.columns)

        def apply(group: pa.Table) -> pa.Table:
            return as_schema(function(normal(group).rename_columns(names)), schema)

        with self._translated_errors():
            frame = self._frame(rows).toDF(*(f"c{i}" for i in range(len(names))))  # a name with a dot cannot be grouped
            return self._table(
                frame.groupBy(f"c{names.index(by)}").applyInArrow(apply, _structure(normal_schema(schema)))
            )

    def computed(
        self, rows: ir.Table, name: str, kind: str, of: Sequence[str], function: Callable[[pa.Table], pa.Array]
    ) -> ir.Table:
        """See contract.Engine."""
        names, given = list(rows.columns), rows.schema().to_pyarrow()
        schema = normal_schema(ibis.schema({**rows.schema(), name: kind}).to_pyarrow())

        def apply(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                table = as_schema(normal(pa.Table.from_batches([batch])).rename_columns(names), given)
                made = table.append_column(name, function(table.select(of)))
                yield from as_schema(made, schema).to_batches()

        with self._translated_errors():
            return self._table(self._frame(rows).mapInArrow(apply, _structure(schema)))

    def close(self) -> None:
        """See contract.Engine. Spark itself is stopped where it was started here."""
        for frame in self._materialised.values():
            frame.unpersist()
        if self._started:
            self._session.stop()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _reader(self, columns: Mapping[str, str]) -> DataFrameReader:
        """Spark's reader of text with these columns.

        It fails where it would by default put missing values for what it cannot parse.
        """
        return self._session.read.schema(_structure(ibis.schema(columns).to_pyarrow())).option("mode", "FAILFAST")

    def _part(self, stored: pa.Schema, others: Mapping[str, pa.DataType], files: Sequence[Path]) -> DataFrame:
        """The rows of Parquet files. others: columns of another type there than in `stored`: those without a type are
        left out, and Spark widens no column while it reads.
        """
        kinds = {f.name: others.get(f.name, f.type) for f in stored}
        fields = [pa.field(name, _read_as(kind)) for name, kind in kinds.items() if kind != pa.null()]
        rows = self._session.read.schema(_structure(pa.schema(fields))).parquet(*_paths(files))
        wanted = {field.name: field.dataType for field in _structure(_all_read_as(stored))}
        widened = {name: rows[f"`{name}`"].cast(wanted[name]) for name, kind in others.items() if kind != pa.null()}
        return rows.withColumns(widened) if widened else rows

    def _with_columns(
        self, part: DataFrame, files: Sequence[Path], columns: Mapping[str, Sequence[str | None]]
    ) -> DataFrame:
        """The rows of some of `files` with the columns that have one value a file."""
        place = {str(file.absolute()): i for i, file in enumerate(files)}
        mine = [(uri, place[unquote(_path_of(uri))]) for uri in part.inputFiles()]
        values = [(_path_of(uri), *(of[i] for of in columns.values())) for uri, i in mine]
        texts = pa.schema([(name, pa.string()) for name in (FILE, *columns)])
        known = functions.broadcast(self._session.createDataFrame(values, _structure(texts)))
        # Spark writes `file:/` here and `file:///` above
        file = functions.regexp_replace(functions.col("_metadata.file_path"), "^file:/+", "/")
        return part.withColumn(FILE, file).join(known, FILE).drop(FILE)

    def _joined(self, stored: pa.Schema, parts: Sequence[DataFrame]) -> DataFrame:
        """The rows of all parts with all columns."""
        rows = self._session.createDataFrame([], _structure(_all_read_as(stored)))
        for part in parts:
            rows = rows.unionByName(part, allowMissingColumns=True)
        return rows

    def _frame(self, rows: ir.Table) -> DataFrame:
        """An expression as Spark sees it."""
        name = f"swrec_query_{next(self._names)}"
        self.con.create_view(name, rows)
        return self._session.table(name)

    def _table(self, frame: DataFrame) -> ir.Table:
        """A data frame as Ibis sees it. By itself Ibis forgets which timestamps of Spark have a zone."""
        name = f"swrec_{next(self._names)}"
        frame.createOrReplaceTempView(name)
        zoned = {field.name for field in frame.schema if isinstance(field.dataType, TimestampType)}
        known = self.con.get_schema(name)
        schema = ibis.schema({name: "timestamp('UTC')" if name in zoned else kind for name, kind in known.items()})
        return ops.DatabaseTable(name=name, schema=schema, source=self.con, namespace=ops.Namespace()).to_expr()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Spark's errors about files become DataErrors that name the file; those about wrong expressions, which are
        mistakes in our code, pass unchanged.
        """
        try:
            yield
        except (AnalysisException, ParseException):
            raise
        except PythonException as failure:
            user_error = worker_failure(str(failure))
            if user_error is None:
                raise
            raise user_error from None
        except (Py4JJavaError, PySparkException, pa.ArrowInvalid) as failure:
            if "No space left on device" in str(failure):
                raise OSError(errno.ENOSPC, "No space left on device for what is spilled", str(self._scratch)) from None
            file, reason = explain(str(failure))
            if file is not None:
                self._find_line(file)
            raise DataError(f"{file}: {reason}" if file else reason) from None

    def _find_line(self, file: Path) -> None:
        """Read a text file once more, here: Spark says which file is at fault,
        the local engine says the line and the column.
        """
        if file in self._again:
            with closing(LocalEngine(self._scratch, 1)) as local:
                rows = self._again[file](local)
                local.arrow(rows.agg([rows[name].count().name(name) for name in rows.columns]))


def worker_failure(text: str) -> SwrecError | None:
    """The user error in the traceback of a Python worker: one of ours,
    or that its Python has other packages or another version. None for any other failure.
    """
    ours = re.findall(r"^swrec_prod\.errors\.\w+: (.*)", text, re.MULTILINE)
    if ours:
        return DataError(ours[-1])
    unlike = re.findall(
        r"^(?:[\w.]+\.)?(?:ModuleNotFoundError: |\w+: \[PYTHON_VERSION_MISMATCH\] )(.*)", text, re.MULTILINE
    )
    if unlike:
        wanted = "PYSPARK_PYTHON must name a Python with the packages and version of this one on every machine"
        return ConfigError(f"engine cluster: in Python of the workers: {unlike[-1].rstrip('.')}; {wanted}")
    return None


def explain(text: str) -> tuple[Path | None, str]:
    """The file that Spark failed on, if it was one, and the reason in one line."""
    file = re.search(r"\[FAILED_READ_FILE[^\]]*\] Encountered error while reading file (?:file://)?(/.*?)\.\s", text)
    causes = re.findall(r"^Caused by: [\w.$]+: (.+)", text, re.MULTILINE) or text.splitlines()
    reason = re.sub(r" SQLSTATE: \w+", "", causes[-1] if file else causes[0])
    return Path(unquote(file[1])) if file else None, " ".join(reason.split())


def _path_of(uri: str) -> str:
    """The path in a URI of a file, escaped as it is there."""
    return re.sub("^file:/+", "/", uri)


def _structure(schema: pa.Schema) -> StructType:
    return from_arrow_schema(schema, prefer_timestamp_ntz=True)


def _read_as(kind: pa.DataType) -> pa.DataType:
    """The type to ask Spark for, for a type of Footers.stored."""
    nanos = pa.types.is_timestamp(kind) and kind.unit == "ns"
    return pa.int64() if nanos else READ_AS.get(kind, normal_schema(pa.schema([("", kind)])).field(0).type)


def _all_read_as(stored: pa.Schema) -> pa.Schema:
    return pa.schema([(field.name, _read_as(field.type)) for field in stored])


def _converted(table: ir.Table, stored: pa.Schema) -> ir.Table:
    """Columns that Spark had to read as another type, converted to their own."""
    changed = {}
    for field in stored:
        column = table[field.name]
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            moment = timestamp_micros(column // 1000)
            changed[field.name] = moment if field.type.tz else moment.cast("timestamp")
        elif field.type in READ_AS:
            changed[field.name] = column.cast("int64")
    return table.mutate(**changed)


def _paths(files: Sequence[Path]) -> list[str]:
    """The files as Spark takes them: absolute, glob characters escaped.

    Raises DataError for a name that Spark silently leaves out.
    """
    hidden = next((f for f in files if f.name.startswith(("_", "."))), None)
    if hidden is not None:
        raise DataError(
            f"{hidden}: Spark leaves out files whose names begin with _ or a dot; rename it, or use the engine local"
        )
    return ["file://" + re.sub(r"([\\\[\]{}*?])", r"\\\1", str(f.absolute())) for f in files]
