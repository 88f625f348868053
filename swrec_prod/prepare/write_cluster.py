"""Prepare days on a cluster: first the rows of some users together, for their histories, then those of one file."""

from __future__ import annotations

import os
import tempfile
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import ibis
import pyarrow as pa

from swrec_prod.behaviours.history import LatestByFeature, latest_before
from swrec_prod.behaviours.windowed import windowed
from swrec_prod.data.day_writer import FILE_ROWS, DayWriter, Written, rows_of_group
from swrec_prod.data.manifest import DayFileRecord
from swrec_prod.data.value_counts import ValueCounts
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.engine.contract import Engine
from swrec_prod.prepare import etl
from swrec_prod.prepare.events import Events
from swrec_prod.prepare.prepared_rows import columns_of, prepared_rows
from swrec_prod.prepare.profile import Profile, day_of, number_of
from swrec_prod.schema import FeatureSchema
from swrec_prod.staging.staging import Staging

if TYPE_CHECKING:
    import ibis.expr.types as ir

GROUP_OF_USERS = 200_000  # rows, on average, that a worker holds at once
PARTS = 2**20  # a unit of work is one file: day * PARTS + part
TEXT, NUMBER = pa.string(), pa.int64()
FILE = pa.schema({"path": TEXT, "bytes": NUMBER, "sha256": TEXT, "day": TEXT, "rows": NUMBER, "row_groups": NUMBER})
WRITTEN = FILE.append(pa.field("counts", TEXT))


def spread_days(
    engine: Engine, events: Events, encoders: Encoders, profile: Profile, days: list[date], work: Staging
) -> Written:
    """Write `days` into the folder of `work`, which all workers must see, and give each with its files."""
    inside = events.of(days)
    inside = windowed(inside.filter(inside[etl.DAY].isin([number_of(day) for day in days])), encoders.schema)
    inside = inside.mutate(_unit=inside[etl.DAY] * PARTS + _position(inside, encoders.schema.time) // FILE_ROWS)
    rows = sum(profile.rows_of(day) for day in days)
    groups = max(rows // GROUP_OF_USERS, 1)
    inside = inside.mutate(_group=inside[encoders.schema.user].cast("string").hash().abs() % groups)
    columns, keep = columns_of(events.data_file, encoders, inside), events.data_file.keep
    latest = latest_before(engine, encoders, work.files_before(days[0]), events.seeds.behaviours(encoders))
    with_unit = columns.append(pa.field("_unit", pa.int64()))
    lists = engine.map_groups(inside, "_group", partial(_with_lists, encoders, columns, latest, keep), with_unit)
    # pickled, the type of a list of one length forgets that its elements are not null
    write = partial(_write, work.folder, work.scratch, encoders.schema, columns.serialize().to_pybytes())
    written = engine.arrow(engine.map_groups(lists, "_unit", write, WRITTEN)).sort_by("path").to_pylist()
    for day in days:
        files, counts = [], ValueCounts(encoders.schema, columns)
        for record in (record for record in written if record["day"] == str(day)):
            counts.add_text(record["counts"])
            files.append(DayFileRecord(**{name: record[name] for name in FILE.names}))
        yield day, files, counts
    work.save()


def _position(events: ir.Table, time: str) -> ir.IntegerValue:
    return ibis.row_number().over(ibis.window(group_by=etl.DAY, order_by=[events[time], events[etl.ROW]]))


def _with_lists(
    encoders: Encoders, columns: pa.Schema, latest: LatestByFeature, keep: tuple[str, ...], events: pa.Table
) -> pa.Table:
    """The prepared rows of some users, with their lists and the unit of each."""
    events = events.sort_by([(encoders.schema.time, "ascending"), (etl.ROW, "ascending")]).combine_chunks()
    rows, _ = prepared_rows(encoders, events, latest, keep)
    return rows.part(0, len(events)).select(columns.names).cast(columns).append_column("_unit", events["_unit"])


def _write(folder: Path, scratch: Path, schema: FeatureSchema, stored: bytes, rows: pa.Table) -> pa.Table:
    """Write one file, whole, by a rename, as a cluster may do the same work twice at a time; gives its record.

    stored: the file's columns and types, serialised.
    """
    columns = pa.ipc.read_schema(pa.py_buffer(stored))
    unit = rows["_unit"][0].as_py()
    rows = rows.sort_by([("time", "ascending"), ("row", "ascending")]).select(columns.names)
    with tempfile.TemporaryDirectory(dir=scratch) as aside:
        counts, group_rows, (day, part) = ValueCounts(schema, columns), rows_of_group(schema), divmod(unit, PARTS)
        writer = DayWriter(Path(aside), day_of(day), columns, counts, group_rows, first_part=part)
        writer.write(lambda first, end: rows.slice(first, end - first), 0, len(rows))
        files = writer.close()
        for file in files:
            (folder / file.path).parent.mkdir(exist_ok=True)
            os.replace(Path(aside) / file.path, folder / file.path)
    records = [{**file.model_dump(mode="json"), "counts": counts.to_text()} for file in files]  # one file a unit
    return pa.Table.from_pylist(records, WRITTEN)
