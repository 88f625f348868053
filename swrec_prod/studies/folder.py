"""A prepared folder made of another one: its rows, changed, in the same format.

It can be trained on and judged by. It has no vocabularies and no requests, so that nothing is exported from it: it is
for studies. Values that are unknown are not counted anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.config import DataConfig, SplitName, day_range
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.day_writer import DayWriter, rows_of_group
from swrec_prod.data.manifest import MANIFEST, Day, DayFileRecord, FileRecord, Source, Traffic
from swrec_prod.data.value_counts import ValueCounts
from swrec_prod.errors import DataError
from swrec_prod.files import committed, file_sha256, read_json, write_json
from swrec_prod.schema import FeatureSchema

NOTES = "study.json"  # in a changed folder: what was done to its rows
PARTS: tuple[SplitName, ...] = ("train", "valid", "test")


class Step(NamedTuple):
    """One change of rows. schema: of the changed ones. table: takes rows and the name of the part of each, [N] (""
    for none), and gives the changed ones. notes: what it does, for readers.
    """

    schema: FeatureSchema
    table: Callable[[pa.Table, np.ndarray], pa.Table]
    notes: Mapping[str, Any]


class PreparedRows:
    """The rows of a prepared folder as they lie on disk. data: which of them are train, valid and test."""

    def __init__(self, catalog: Catalog, data: DataConfig) -> None:
        self.catalog, self.data, self.schema = catalog, data, catalog.schema

    def day(self, day: date, columns: list[str] | None = None) -> pa.Table:
        """All rows of a day, with these columns (default: all)."""
        files = [file.path for file in self.catalog.files if file.day == day]
        return pa.concat_tables([pq.read_table(path, columns=columns, partitioning=None) for path in files])

    def parts_of(self, table: pa.Table, day: date) -> np.ndarray:
        """The part of each row, "" of those that are of none: text [N]."""
        if self.data.split == "random":
            return np.asarray(table["split"].cast(pa.string()).to_numpy(zero_copy_only=False), str)
        ranges = {part: day_range(getattr(self.data.days, part)) for part in PARTS}
        name = next((part for part, (first, last) in ranges.items() if first <= day <= last), "")
        return np.full(table.num_rows, name)

    def of_part(self, part: SplitName, columns: list[str]) -> Iterator[pa.Table]:
        """The rows of one part, a day at a time, with these columns."""
        wanted = [*columns, "split"] if self.data.split == "random" else columns
        for day in self.catalog.days:
            table = self.day(day, wanted)
            yield table.filter(pa.array(self.parts_of(table, day) == part)).select(columns)

    def training(self, columns: list[str]) -> pa.Table:
        """All training rows, with these columns. Raises DataError where there are none."""
        table = pa.concat_tables(self.of_part("train", columns))
        if not table.num_rows:
            raise DataError(f"{self.catalog.root}: no training rows; see data.days of the run file")
        return table

    def traffic(self, part: SplitName) -> np.ndarray:
        """Rows of each scenario in a part: int64 [S]."""
        sizes = np.zeros(self.schema.scenario.size, np.int64)
        for table in self.of_part(part, ["scenario"]):
            sizes += np.bincount(table["scenario"].to_numpy(), minlength=len(sizes))
        return sizes


def write_changed(rows: PreparedRows, step: Step, out: Path, identity: str) -> None:
    """Write the rows, changed by the step, as the prepared folder `out`, whole or not at all.

    identity: from what it is made, and how; see `is_made`.
    """
    before = rows.catalog.manifest
    assert before is not None, "an opened catalog has its manifest"
    with committed(out) as folder:
        step.schema.save(folder / "schema.yaml")
        write_json(folder / NOTES, [*notes_of(rows.catalog.root), dict(step.notes)])
        records, days, parts = [], {}, Counter[str]()
        for day in rows.catalog.days:
            given = rows.day(day)
            table = step.table(given, rows.parts_of(given, day))
            records += _write_day(rows, table, step.schema, day, folder)
            days[day] = Day(rows=table.num_rows, nulls={}, scenarios=_traffic(table, step.schema), raw=[])
            parts.update(rows.parts_of(table, day).tolist())
        others = [FileRecord.of(folder, folder / name) for name in ("schema.yaml", NOTES)]
        made = {"source": Source(data_file=identity, raw=[]), "files": records, "others": others, "days": days}
        made |= {"fingerprint": file_sha256(folder / "schema.yaml")}
        made |= {"splits": {part: parts[part] for part in PARTS}} if before.splits else {}
        write_json(folder / MANIFEST, before.model_copy(update=made).to_json())


def is_made(out: Path, identity: str) -> bool:
    """Whether the folder is what `write_changed` would write. Raises DataError where a file of it is damaged."""
    manifest = Catalog.open(out).manifest if out.exists() else None
    return manifest is not None and manifest.source.data_file == identity


def notes_of(folder: Path) -> list[dict[str, Any]]:
    """What was done to the rows of a changed folder; [] of any other."""
    path = folder / NOTES
    return read_json(path) if path.is_file() else []


def _write_day(
    rows: PreparedRows, table: pa.Table, schema: FeatureSchema, day: date, folder: Path
) -> list[DayFileRecord]:
    """Write one day; gives the manifest's records of its files, none where no row is left."""
    writer = DayWriter(folder, day, table.schema, ValueCounts(schema, table.schema), rows_of_group(schema))
    writer.write(lambda first, end: table.slice(first, end - first), 0, table.num_rows)
    records = writer.close()
    for record in records:
        record.fitted_until = next(file.fitted_until for file in rows.catalog.files if file.day == day)
    return records


def _traffic(table: pa.Table, schema: FeatureSchema) -> dict[str, Traffic]:
    """Rows and positives of every scenario that has rows."""
    names, scenario_N = schema.scenario.names, table["scenario"].to_numpy()
    sizes = np.bincount(scenario_N, minlength=len(names))
    positives = {
        task: np.bincount(scenario_N, pc.fill_null(table[f"label_{task}"], 0).to_numpy(), minlength=len(names))
        for task in schema.tasks
    }
    return {
        name: Traffic(rows=int(size), positives={task: int(sums[s]) for task, sums in positives.items()})
        for s, (name, size) in enumerate(zip(names, sizes, strict=True))
        if size
    }
