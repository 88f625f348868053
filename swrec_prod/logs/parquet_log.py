"""A team's own Parquet logs, in files or day folders below --raw,
with tables of user or item attributes joined to them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError, nearest
from swrec_prod.logs.folders import described, is_leftover
from swrec_prod.logs.joins import Join, Moments, attribute_files, check_moments, joined
from swrec_prod.logs.moments import OF_LOG, Time, limits, micros
from swrec_prod.raw.source import Dataset, PlacedOptions, RawFiles

if TYPE_CHECKING:
    import ibis.expr.types as ir

RAW_FILE, RAW_ROW = "raw_file", "raw_row"  # where a row lies
PREPARED = ("manifest.json", "schema.yaml")  # in the folder that prepare makes


class ParquetOptions(PlacedOptions):
    """What is read of a team's own files.

    log: glob of the log below --raw.
    join: tables of attributes, left joined.
    time: the column of moments; left out where the schema names none.
    scenario: a column that becomes a string where it holds whole numbers.
    keep: rows to keep, {column: [values]}, of the log or of what is joined.
    raw_place: whether the log has two columns more: `raw_file`, a row's file below --raw, and `raw_row`, its place
        there, from 0.

    Files of one day (`day=2024-05-01`, `date=`, `dt=`, `ds=` or `year=2024/month=05/day=01` folders, `2024-05-01` or
    `20240501` in their names) are prepared day by day; then all files of the log must say their day, and hold rows of
    it only. Other folders `key=value` give the log a column of strings where its files have none of that name. What
    begins with `_` or a dot is no data.
    """

    log: str = "**/*.parquet"
    join: tuple[Join, ...] = ()
    time: Time | None = Time()
    scenario: str = "scenario"
    keep: dict[str, tuple[bool | int | str, ...]] = pydantic.Field(default_factory=dict)
    raw_place: bool = False


def locate(raw: Path | None, cache: Path, options: ParquetOptions) -> RawFiles:
    """The log's files with their days, and the joined ones. Raises DataError saying what was looked for.

    The hidden truth of a simulation is refused: a model that reads it has nothing left to learn.
    """
    if raw is None:
        raise DataError("parquet: these are your own files; give their folder with --raw DIR")
    if not raw.exists():
        raise DataError(f"{raw}: no such folder or file")
    root = raw if raw.is_dir() else raw.parent
    attributes = attribute_files(root, options.join)
    log = _log_files(raw, root, options.log, {file.path for file in attributes})
    if not log:
        tables = ", ".join(sorted({str(file.table) for file in attributes}))
        others = f", but for those that options.join names: {tables}" if tables else ""
        raise DataError(f"{raw}: no file matches options.log {options.log!r}{others}")
    _refuse_truth([*log, *(file.path for file in attributes)])
    files = (*described(log, root), *attributes)
    check_moments(files, options.join, Moments(options.time, options.clock))
    return files


def _log_files(raw: Path, root: Path, pattern: str, joined_files: set[Path]) -> list[Path]:
    """The files of the log, in order. A file that --raw names is the log, whatever it is called."""
    if not raw.is_dir():
        return [] if raw in joined_files else [raw]
    paths = [path for path in raw.glob(pattern) if path.is_file() and path not in joined_files]
    paths = [path for path in paths if not is_leftover(path, root, pattern)]
    prepared = {folder for folder in {path.parent for path in paths} if _is_prepared(folder, root)}
    return sorted(path for path in paths if path.parent not in prepared)


def _is_prepared(folder: Path, root: Path) -> bool:
    """Whether a folder is in what `swrec prepare` wrote: --out may lie below --raw."""
    between = [folder, *folder.parents][: len(folder.relative_to(root).parts)]
    return any(all((part / name).is_file() for name in PREPARED) for part in between)


def _refuse_truth(paths: list[Path]) -> None:
    """Raises DataError naming a file of a simulation's truth."""
    for folder, path in {path.resolve().parent: path for path in paths}.items():
        for above in (folder, *folder.parents):
            if above.name == "truth" and (above.parent / "simulation.yaml").is_file():
                raise DataError(
                    f"{path}: is the hidden truth of a simulation, which is not to be read; "
                    "name its log: log/**/*.parquet"
                )


def read(engine: Engine, files: RawFiles, options: ParquetOptions) -> ir.Table:
    """The log with its attributes; `time` in microseconds.

    Raises DataError naming a column that is missing or of a wrong type.
    """
    log = [file for file in files if file.table is None]
    place = log[0].path
    columns = [dict(file.columns) | ({RAW_FILE: file.below} if options.raw_place else {}) for file in log]
    table = engine.parquet([file.path for file in log], columns, RAW_ROW if options.raw_place else None)
    table = joined(engine, table, files, options.join, Moments(options.time, options.clock), str(place))
    for column, values in options.keep.items():
        table = _filtered(table, column, values, place)
    if options.scenario in table.columns and table[options.scenario].type().is_integer():
        table = table.mutate(**{options.scenario: table[options.scenario].cast("string")})
    if options.time is None:
        return table
    moment = micros(engine, table, options.time, OF_LOG, str(place))
    if table[options.time.column].type().is_timestamp():
        return table
    return table.mutate(**{options.time.column: moment})


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


def span(path: Path, options: ParquetOptions) -> tuple[int, int] | None:
    """First and last moment of a file, in microseconds since 1970; None when it has none that can be read as such."""
    return limits(path, options.time, OF_LOG) if options.time else None


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
    numbers_rows=False,
    span=span,
)
