"""Prepare days in this process: rows come from the engine a few hours at a time, in order, and are written."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from swrec_prod.behaviours.history import latest_before
from swrec_prod.behaviours.windowed import windowed
from swrec_prod.data.day_writer import DayWriter, Written, rows_of_group
from swrec_prod.data.prefetch import prefetched
from swrec_prod.data.value_counts import ValueCounts
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.engine.contract import Engine
from swrec_prod.prepare import etl
from swrec_prod.prepare.events import Events
from swrec_prod.prepare.prepared_rows import columns_of, prepared_rows
from swrec_prod.prepare.profile import Profile, day_of
from swrec_prod.schema import FeatureSchema
from swrec_prod.staging.staging import Staging

if TYPE_CHECKING:
    pass

CHUNK_ROWS = 1_000_000  # held in memory, twice: one chunk is written while the engine works at the next


def stream_days(
    engine: Engine, events: Events, encoders: Encoders, profile: Profile, days: list[date], work: Staging
) -> Written:
    """Write `days` into the folder of `work`, and give each with its files once it is complete."""
    schema, keep = columns_of(events.data_file, encoders, events.of(days[:1])), events.data_file.keep
    latest = latest_before(engine, encoders, work.files_before(days[0]), events.seeds.behaviours(encoders))
    group_rows = rows_of_group(encoders.schema)
    writer: DayWriter | None = None
    with closing(prefetched(_chunks(engine, events, encoders.schema, profile, days), 1, name="engine")) as chunks:
        for chunk in chunks:
            rows, latest = prepared_rows(encoders, chunk, latest, keep)
            for day, first, last in day_slices(rows.day):
                if writer is None or writer.day != day:
                    if writer is not None:
                        yield writer.day, writer.close(), writer.counts
                    writer = DayWriter(work.folder, day, schema, ValueCounts(encoders.schema, schema), group_rows)
                writer.write(rows.part, first, last)
            work.save()
    if writer is not None:
        yield writer.day, writer.close(), writer.counts


def day_slices(days: np.ndarray) -> Generator[tuple[date, int, int], None, None]:
    """(day, first row, end) of each run of equal days; days since 1970 [N]."""
    starts = np.flatnonzero(np.concatenate(([True], days[1:] != days[:-1])))[: len(days)]
    for first, last in zip(starts, [*starts[1:], len(days)], strict=True):
        yield day_of(int(days[first])), int(first), int(last)


def _chunks(
    engine: Engine, events: Events, schema: FeatureSchema, profile: Profile, days: list[date]
) -> Generator[pa.Table, None, None]:
    """The events of `days` by (time, row), CHUNK_ROWS or an hour at a time, with the chunk's behaviours before each.

    A chunk is of whole days, and reads their files only; or it is of one day that is too large for one. Such a day is
    evaluated once, as duplicates and row numbers are those of the whole day; a log without days is evaluated already.
    """
    for run in profile.runs(days, CHUNK_ROWS):
        chunks = list(profile.chunks(run, CHUNK_ROWS))
        once = len(chunks) > 1 and events.log.has_days
        within = engine.materialise(events.of(run).order_by(etl.HOUR)) if once else events.of(run)
        for first, end, _ in chunks:
            inside = within.filter((within[etl.HOUR] >= first) & (within[etl.HOUR] < end))
            yield engine.arrow(windowed(inside, schema).order_by([schema.time, etl.ROW])).combine_chunks()
        if once:
            engine.release(within)
