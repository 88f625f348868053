"""Who was shown what, where and when: the columns of a prepared folder that predictions repeat.

    row, day, user, scenario, label_<task>    of every folder
    time, request, item, weight               where the folder has them
    the columns that its data file keeps      under their own names

Only the files of the rows are read, and of them only these columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.data.day_files import ITEM, KEEP
from swrec_prod.errors import DataError, nearest
from swrec_prod.schema import FeatureSchema

OPTIONAL = ("time", "request", ITEM, "weight")


def bookkeeping(folder: str | Path, files: Sequence[str | Path], rows: np.ndarray, tasks: Sequence[str]) -> pa.Table:
    """What is known of the given rows of a prepared folder, in the order of `rows`.

    files: paths below `folder` such as `day=2000-04-25/part-0.parquet`. rows: int64 [N] row ids. A column that only
    some files have is null elsewhere. Raises DataError for a file without its columns or day, a column whose type
    changes between files, or row ids that are in none of them.
    """
    folder = Path(folder)
    wanted = np.unique(rows)
    parts = [_of_file(folder / file, wanted, tasks) for file in files]
    if not parts:
        raise DataError(f"{folder}: no files to look {len(rows)} rows up in")
    _check_types(folder, files, parts)
    table = pa.concat_tables(parts, promote_options="default")
    known = table["row"].to_numpy()
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known[order], rows)
    lost = at >= len(known)
    lost[~lost] = known[order[at[~lost]]] != rows[~lost]
    if lost.any():
        raise DataError(
            f"{folder}: {lost.sum()} of {len(rows)} rows, "
            f"such as row {rows[lost][0]}, are in none of {len(parts)} files"
        )
    table = table.take(order[at])
    if pa.types.is_integer(table.schema.field("scenario").type):
        values = _scenario_values(folder, table["scenario"])
        table = table.set_column(table.column_names.index("scenario"), "scenario", values)
    return table


def known_columns(folder: Path, files: Sequence[str | Path]) -> list[str]:
    """The columns that `bookkeeping` gives of these files, labels left out."""
    stored = dict.fromkeys(name for file in files for name in pq.read_schema(folder / file).names)
    more = [_own_name(name) for name in stored if name in OPTIONAL or name.startswith(KEEP)]
    return ["row", "day", "user", "scenario", *more]


def _of_file(path: Path, wanted: np.ndarray, tasks: Sequence[str]) -> pa.Table:
    """The wanted rows of one file; wanted: sorted row ids."""
    day = path.parent.name.removeprefix("day=")
    if day == path.parent.name:
        raise DataError(f"{path}: the folder of a prepared file is day=YYYY-MM-DD, not {path.parent.name!r}")
    names = ["row", "user", "scenario", *(f"label_{task}" for task in tasks)]
    try:
        known = pq.read_schema(path).names
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; is the prepared folder complete?") from None
    for name in names:
        if name not in known:
            raise DataError(f"{path}: no column {name!r}; {nearest(name, known)}")
    names += [name for name in OPTIONAL if name in known]
    names += [name for name in known if name.startswith(KEEP)]
    table = pq.read_table(path, columns=names, partitioning=None)
    table = table.filter(pa.array(np.isin(table["row"].to_numpy(), wanted)))
    table = table.rename_columns([_own_name(name) for name in table.column_names])
    return table.add_column(1, "day", pa.repeat(pa.scalar(day), table.num_rows))


def _own_name(stored: str) -> str:
    return "item" if stored == ITEM else stored.removeprefix(KEEP)


def _check_types(folder: Path, files: Sequence[str | Path], parts: Sequence[pa.Table]) -> None:
    first: dict[str, tuple[pa.DataType, str | Path]] = {}
    for file, part in zip(files, parts, strict=True):
        for field in part.schema:
            kind, where = first.setdefault(field.name, (field.type, file))
            if field.type != kind:
                difference = f"column {field.name!r} is {field.type}, expected {kind} (as in {where})"
                raise DataError(f"{folder / file}: {difference}; prepare all days again with --overwrite")


def _scenario_values(folder: Path, indices: pa.ChunkedArray) -> pa.ChunkedArray:
    """Scenario indices as values; the fallback index behind the known values is "(unseen)"."""
    return pc.take(pa.array(FeatureSchema.load(folder / "schema.yaml").scenario.names), indices)
