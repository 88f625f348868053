"""Who was shown what, where and when: the columns of a prepared folder that predictions repeat.

    row, day, user, scenario, label_<task>    of every folder
    time, request, item, weight               where the folder has them
    the columns that its data file keeps      under their own names

Only the files of the rows are read, and of them only these columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.data.day_files import ITEM, KEEP
from swrec_prod.errors import DataError, nearest
from swrec_prod.schema import FeatureSchema

OPTIONAL = ("time", "request", ITEM, "weight")
Groups = Mapping[Path, Sequence[int] | None]  # file below the folder -> the row groups to read; None: all


def bookkeeping(
    folder: str | Path, files: Groups, rows: np.ndarray, tasks: Sequence[str], columns: pa.Schema | None = None
) -> pa.Table:
    """What is known of the given rows of a prepared folder, in the order of `rows`.

    files: paths below `folder` such as `day=2000-04-25/part-0.parquet`. rows: int64 [N] row ids. columns: those to
    give, `known_columns` of more files than these; a column that only some files have is null elsewhere. Raises
    DataError for a file without its columns or day, a column whose type changes between files, or row ids that are in
    none of them.
    """
    folder = Path(folder)
    if not files:
        raise DataError(f"{folder}: no files to look {len(rows)} rows up in")
    columns = known_columns(folder, list(files), tasks) if columns is None else columns
    wanted = np.unique(rows)
    parts = [_of_file(folder / file, groups, wanted, tasks) for file, groups in files.items()]
    table = pa.concat_tables([columns.empty_table(), *parts], promote_options="default")
    table = table.take(_places(folder, table["row"].to_numpy(), rows, len(files)))
    if pa.types.is_integer(table.schema.field("scenario").type):
        values = _scenario_values(folder, table["scenario"])
        table = table.set_column(table.column_names.index("scenario"), "scenario", values)
    return table


def known_columns(folder: Path, files: Sequence[str | Path], tasks: Sequence[str]) -> pa.Schema:
    """The columns that `bookkeeping` gives of these files, with their types.

    Raises DataError for a file that lacks one, or a column whose type changes between files.
    """
    first: dict[str, tuple[pa.Field, str | Path]] = {}
    for file in files:
        for field in _fields(folder / file, tasks):
            known, where = first.setdefault(field.name, (field, file))
            if field.type != known.type:
                difference = f"column {field.name!r} is {field.type}, expected {known.type} (as in {where})"
                raise DataError(f"{folder / file}: {difference}; prepare all days again with --overwrite")
    return pa.schema([field for field, _ in first.values()])


def _fields(path: Path, tasks: Sequence[str]) -> list[pa.Field]:
    """The columns of one file under their own names."""
    _day(path)
    try:
        stored = pq.read_schema(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; is the prepared folder complete?") from None
    fields = [pa.field(_own_name(name), stored.field(name).type) for name in _stored(path, stored.names, tasks)]
    return [fields[0], pa.field("day", pa.string()), *fields[1:]]


def _stored(path: Path, known: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """The columns to read of a file that has the `known` ones."""
    names = ["row", "user", "scenario", *(f"label_{task}" for task in tasks)]
    for name in names:
        if name not in known:
            raise DataError(f"{path}: no column {name!r}; {nearest(name, known)}")
    names += [name for name in OPTIONAL if name in known]
    return names + [name for name in known if name.startswith(KEEP)]


def _of_file(path: Path, groups: Sequence[int] | None, wanted: np.ndarray, tasks: Sequence[str]) -> pa.Table:
    """The wanted rows of one file; wanted: sorted row ids."""
    with pq.ParquetFile(path) as parquet:
        names = _stored(path, parquet.schema_arrow.names, tasks)
        groups = range(parquet.num_row_groups) if groups is None else groups
        table = parquet.read_row_groups(list(groups), columns=names).select(names)
    table = table.filter(pa.array(np.isin(table["row"].to_numpy(), wanted)))
    table = table.rename_columns([_own_name(name) for name in names])
    return table.add_column(1, "day", pa.repeat(pa.scalar(_day(path)), table.num_rows))


def _day(path: Path) -> str:
    day = path.parent.name.removeprefix("day=")
    if day == path.parent.name:
        raise DataError(f"{path}: the folder of a prepared file is day=YYYY-MM-DD, not {path.parent.name!r}")
    return day


def _own_name(stored: str) -> str:
    return "item" if stored == ITEM else stored.removeprefix(KEEP)


def _places(folder: Path, known: np.ndarray, rows: np.ndarray, files: int) -> np.ndarray:
    """Where in `known`, the row ids of some files, each of `rows` is."""
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known[order], rows)
    lost = at >= len(known)
    lost[~lost] = known[order[at[~lost]]] != rows[~lost]
    if lost.any():
        raise DataError(
            f"{folder}: {lost.sum()} of {len(rows)} rows, such as row {rows[lost][0]}, are in none of {files} files"
        )
    return order[at]


def _scenario_values(folder: Path, indices: pa.ChunkedArray) -> pa.ChunkedArray:
    """Scenario indices as values; the fallback index behind the known values is "(unseen)"."""
    return pc.take(pa.array(FeatureSchema.load(folder / "schema.yaml").scenario.names), indices)
