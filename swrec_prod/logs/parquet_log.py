"""A team's own Parquet logs, in files or day folders below --raw,
with tables of user or item attributes joined to them.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pydantic

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError, nearest
from swrec_prod.raw.columns import with_attributes
from swrec_prod.raw.source import Dataset, RawFile, RawFiles
from swrec_prod.strict import Strict

if TYPE_CHECKING:
    import ibis.expr.types as ir

PREPARED = ("manifest.json", "schema.yaml")  # in the folder that prepare makes
MICROSECONDS = {"us": 1, "ms": 1_000, "s": 1_000_000}
DAY_FOLDER = re.compile(r"^(?:day|date|dt|ds)=(\d{4})-?(\d{2})-?(\d{2})$")
DATE_IN_NAME = re.compile(r"(?<![0-9A-Za-z])(\d{4})([-_]?)(\d{2})\2(\d{2})(?![0-9A-Za-z])")


class Join(Strict):
    """A table of attributes.

    file: its path or glob below --raw. by: the column, or columns, that the log has too; unique in it.

    (Not `on`, which YAML reads as true.)
    """

    file: str
    by: tuple[str, ...] = pydantic.Field(min_length=1)

    @pydantic.field_validator("by", mode="before")
    @classmethod
    def _from_word(cls, by: Any) -> Any:
        return (by,) if isinstance(by, str) else by

    @pydantic.field_validator("file")
    @classmethod
    def _one_level(cls, file: str) -> str:
        if "**" in file:
            raise ValueError(
                f"** is for `log` only; name the files of one folder, for example users/*.parquet, not {file!r}"
            )
        return file


class Time(Strict):
    """When an impression was.

    column: of timestamps, or of whole numbers since 1970 UTC. unit: of whole numbers; timestamps have their own.
    """

    column: str = "time"
    unit: Literal["us", "ms", "s"] = "us"


class ParquetOptions(Strict):
    """log: glob of the log below --raw. join: attributes, left joined. time: the column of moments. scenario: a column
    that becomes a string where it holds whole numbers. keep: rows to keep, {column: [values]}, of the log or of what is
    joined.

    Files of one day (`day=2024-05-01`, `date=`, `dt=` or `ds=` folders, `2024-05-01` or `20240501` in their names) are
    prepared day by day; then all files of the log must say their day, and hold rows of it only.
    """

    log: str = "**/*.parquet"
    join: tuple[Join, ...] = ()
    time: Time = Time()
    scenario: str = "scenario"
    keep: dict[str, tuple[bool | int | str, ...]] = pydantic.Field(default_factory=dict)


def locate(raw: Path | None, cache: Path, options: ParquetOptions) -> RawFiles:
    """The log's files with their days, and the joined ones. Raises DataError saying what was looked for.

    The hidden truth of a simulation is refused: a model that reads it has nothing left to learn.
    """
    if raw is None:
        raise DataError("parquet: these are your own files; give their folder with --raw DIR")
    if not raw.exists():
        raise DataError(f"{raw}: no such folder or file")
    root = raw if raw.is_dir() else raw.parent
    table_of = _attributes(root, options)
    matching = raw.glob(options.log) if raw.is_dir() else (raw,)
    paths = [path for path in matching if path.is_file() and path not in table_of]
    other = {folder for folder in {path.parent for path in paths} if _is_no_log(folder, root)}
    log = sorted(path for path in paths if path.parent not in other)
    if not log:
        others = (
            f", but for those that options.join names: {', '.join(sorted(set(table_of.values())))}" if table_of else ""
        )
        raise DataError(f"{raw}: no file matches options.log {options.log!r}{others}")
    _refuse_truth([*log, *table_of])
    return (*_with_days(log, root), *(RawFile(path, table=table) for path, table in sorted(table_of.items())))


def _is_no_log(folder: Path, root: Path) -> bool:
    """Whether a folder is hidden, or in what `swrec prepare` wrote: --out may lie below --raw."""
    between = [folder, *folder.parents][: len(folder.relative_to(root).parts)]
    return any(part.name.startswith(".") or all((part / name).is_file() for name in PREPARED) for part in between)


def _attributes(root: Path, options: ParquetOptions) -> dict[Path, str]:
    """The files of the tables of attributes, each with the table that it belongs to.

    Raises DataError for a table without files, and for a file of two tables.
    """
    table_of: dict[Path, str] = {}
    for join in options.join:
        paths = sorted(path for path in root.glob(join.file) if path.is_file())
        if not paths:
            raise DataError(f"{root}: no {join.file} here, which options.join names")
        for path in paths:
            if path in table_of:
                raise DataError(
                    f"{path}: options.join finds it by {table_of[path]!r} and again by {join.file!r}; "
                    "each file is joined once"
                )
            table_of[path] = join.file
    return table_of


def _refuse_truth(paths: list[Path]) -> None:
    """Raises DataError naming a file of a simulation's truth."""
    for folder, path in {path.resolve().parent: path for path in paths}.items():
        for above in (folder, *folder.parents):
            if above.name == "truth" and (above.parent / "simulation.yaml").is_file():
                raise DataError(
                    f"{path}: is the hidden truth of a simulation, which is not to be read; "
                    "name its log: log/**/*.parquet"
                )


def _with_days(log: list[Path], root: Path) -> RawFiles:
    """All files with their days, or none. Raises DataError naming a file without one where others have one."""
    files = tuple(RawFile(path, day_of(path.relative_to(root))) for path in log)
    without = [file.path for file in files if file.day is None]
    if without and len(without) < len(files):
        dated = next(file.path for file in files if file.day is not None)
        raise DataError(
            f"{without[0]}: its path says no day, but that of {dated.name} does; "
            "put all files of the log into day= folders"
        )
    return files


def day_of(path: Path) -> date | None:
    """The day in a path, from a folder or the file's name; None where there is no day, or several.

    Raises DataError for a folder that names no date, such as day=2024-13-01.
    """
    for part in path.parts:
        if folder := DAY_FOLDER.match(part):
            try:
                return date(*map(int, folder.groups()))
            except ValueError:
                raise DataError(f"{path}: {part} is no date") from None
    dates = {_date_or_none(year, month, day) for year, _, month, day in DATE_IN_NAME.findall(path.name)} - {None}
    return dates.pop() if len(dates) == 1 else None


def _date_or_none(year: str, month: str, day: str) -> date | None:
    """A number of eight digits need not be a date."""
    try:
        return date(int(year), int(month), int(day)) if 1970 <= int(year) < 2100 else None
    except ValueError:
        return None


def read(engine: Engine, files: RawFiles, options: ParquetOptions) -> ir.Table:
    """The log with its attributes; `time` in microseconds.

    Raises DataError naming a column that is missing or of a wrong type.
    """
    log = [file.path for file in files if file.table is None]
    table = engine.parquet(log)
    for join in options.join:
        attributes = engine.parquet([file.path for file in files if file.table == join.file])
        table = with_attributes(table, attributes, join.by, join.file)
    for column, values in options.keep.items():
        table = _filtered(table, column, values, log[0])
    if options.scenario in table.columns and table[options.scenario].type().is_integer():
        table = table.mutate(**{options.scenario: table[options.scenario].cast("string")})
    return table.mutate(**{options.time.column: _micros(table, options.time, log[0])})


def _filtered(table: ir.Table, column: str, values: tuple[bool | int | str, ...], path: Path) -> ir.Table:
    """The rows that have one of `values`."""
    if column not in table.columns:
        raise DataError(
            f"{path}: column {column!r}, which options.keep names, is missing; {nearest(column, table.columns)}"
        )
    words = table[column].type().is_string()
    if any(isinstance(value, str) != words for value in values):
        raise DataError(f"{path}: column {column!r} is {table[column].type()}, but options.keep has {list(values)}")
    return table.filter(table[column].isin(values))


def _micros(table: ir.Table, time: Time, path: Path) -> ir.Value:
    """The moments: whole numbers in microseconds since 1970, timestamps as they are."""
    if time.column not in table.columns:
        raise DataError(f"{path}: column {time.column!r}, the time, is missing; {nearest(time.column, table.columns)}")
    moment = table[time.column]
    if moment.type().is_timestamp():
        return moment
    if not moment.type().is_integer():
        raise DataError(
            f"{path}: column {time.column!r} is {moment.type()}, "
            "expected timestamps, or whole numbers and options.time.unit"
        )
    return moment.cast("int64") * MICROSECONDS[time.unit]


def span(path: Path, options: ParquetOptions) -> tuple[int, int] | None:
    """First and last moment of a file, in microseconds since 1970; None when it has none that can be read as such."""
    try:
        columns = pq.read_schema(path).names
        if options.time.column not in columns:
            raise DataError(
                f"{path}: column {options.time.column!r}, the time, is missing; {nearest(options.time.column, columns)}"
            )
        moments = pq.read_table(path, columns=[options.time.column], partitioning=None)[options.time.column].drop_null()
    except (pa.ArrowException, OSError) as failure:
        raise DataError(
            f"{path}: column {options.time.column!r} cannot be read ({' '.join(str(failure).split())})"
        ) from None
    if pa.types.is_timestamp(moments.type):
        moments, unit = moments.cast(pa.timestamp("us", moments.type.tz), safe=False).cast(pa.int64()), "us"
    elif pa.types.is_integer(moments.type):
        unit = options.time.unit
    else:
        return None
    if not len(moments):
        return None
    limits = pc.min_max(moments)
    return limits["min"].as_py() * MICROSECONDS[unit], limits["max"].as_py() * MICROSECONDS[unit]


PARQUET = Dataset(
    name="parquet",
    summary="your own Parquet logs, in day folders or not, with tables of user and item attributes",
    rows=0,
    size="yours",
    scenarios="the values of a column",
    licence="yours",
    how_to_get="--raw DIR with your files, and a copy of configs/data/parquet_logs.yaml that names your columns",
    data_file="parquet_logs.yaml",
    options=ParquetOptions,
    locate=locate,
    read=read,
    span=span,
)
