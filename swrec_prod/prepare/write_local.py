"""Prepare days in this process: the engine's rows come a few hours at a time,
in order, and are written as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from swrec_prod.data.prefetch import prefetched
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.engine.contract import Engine
from swrec_prod.prepare import etl
from swrec_prod.prepare.behaviours import Carry
from swrec_prod.prepare.day_writer import DayWriter, stored_schema
from swrec_prod.prepare.prepared_rows import Carries, Rows, prepared_rows
from swrec_prod.prepare.profile import Profile, day_of
from swrec_prod.prepare.staging import Work
from swrec_prod.schema import FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir

CHUNK_ROWS = 1_000_000  # held in memory, twice: one chunk is written while the engine works at the next
EventsOf = Callable[[list[date]], "ir.Table"]
Finished = Callable[[date, list[dict[str, Any]]], None]


def stream_days(
    engine: Engine,
    events: EventsOf,
    encoders: Encoders,
    profile: Profile,
    days: list[date],
    work: Work,
    finished: Finished,
    kept: bool,
) -> None:
    """Write `days` into the folder of `work`; `finished` is told of each day, with its files' records.

    events: gives etl.standard of some days; asked for a chunk's days at a time, so that no chunk reads the files of
    others. kept: what it gives is evaluated already.
    """
    schema = stored_schema(encoders.schema, etl.SPLIT in events(days[:1]).columns)
    carries = _carries(engine, encoders, work, days[0])
    writer: DayWriter | None = None
    with closing(prefetched(_chunks(engine, events, encoders.schema, profile, days, kept), 1, name="engine")) as chunks:
        for chunk in chunks:
            rows, carries = prepared_rows(encoders, chunk, carries)
            for day, first, last in day_slices(rows.day):
                if writer is None or writer.day != day:
                    if writer is not None:
                        finished(writer.day, writer.close())
                    writer = DayWriter(work.folder, day, schema)
                _append(writer, rows, first, last)
            work.save()
    if writer is not None:
        finished(writer.day, writer.close())


def day_slices(days: np.ndarray) -> Generator[tuple[date, int, int], None, None]:
    """(day, first row, end) of each run of equal days; days since 1970 [N]."""
    starts = np.flatnonzero(np.concatenate(([True], days[1:] != days[:-1])))[: len(days)]
    for first, last in zip(starts, [*starts[1:], len(days)], strict=True):
        yield day_of(int(days[first])), int(first), int(last)


def _append(writer: DayWriter, rows: Rows, first: int, last: int) -> None:
    """Rows [first, last), a row group at a time, since their lists are large."""
    while first < last:
        end = min(first + writer.room, last)
        writer.add(rows.part(first, end))
        first = end


def _chunks(
    engine: Engine, events: EventsOf, schema: FeatureSchema, profile: Profile, days: list[date], kept: bool
) -> Generator[pa.Table, None, None]:
    """The events of `days` by (time, row), with how many behaviours of the chunk came before;
    at most CHUNK_ROWS, or an hour.

    A chunk is of whole days, or of one day that is too large for one. Such a day is evaluated once: duplicates and row
    numbers are those of the whole day.
    """
    for run in profile.runs(days, CHUNK_ROWS):
        chunks = list(profile.chunks(run, CHUNK_ROWS))
        once = len(chunks) > 1 and not kept
        within = engine.kept(events(run).order_by(etl.HOUR)) if once else events(run)
        for first, end, _ in chunks:
            inside = within.filter((within[etl.HOUR] >= first) & (within[etl.HOUR] < end))
            yield engine.arrow(etl.windowed(inside, schema).order_by([schema.time, etl.ROW])).combine_chunks()
        if once:
            engine.forget(within)


def _carries(engine: Engine, encoders: Encoders, work: Work, first: date) -> Carries:
    """The latest behaviours of every user on the prepared days before `first`."""
    before = [work.folder / file["path"] for file in work.manifest["files"] if file["day"] < str(first)]
    if not before:
        return {}
    rows = engine.parquet(before)
    sequences = encoders.schema.of_kind("sequence")
    return {feature.name: Carry.of_table(engine.arrow(etl.latest(rows, feature))) for feature in sequences}
