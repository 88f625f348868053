"""Moments of a team's own log and of its tables of attributes: columns of whole numbers, timestamps or dates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError, nearest
from swrec_prod.raw.moment import midnights
from swrec_prod.strict import Strict
from swrec_prod.zones import DAY_US, Clock

if TYPE_CHECKING:
    import ibis.expr.types as ir

Unit = Literal["us", "ms", "s"]
OF_LOG = "the time"  # what the moments of the log are called in messages
MICROSECONDS = {"us": 1, "ms": 1_000, "s": 1_000_000}


class Time(Strict):
    """When an impression was.

    column: of timestamps, or of whole numbers since 1970 UTC. unit: of whole numbers; timestamps have their own.
    """

    column: str = "time"
    unit: Unit = "us"


def micros(
    engine: Engine, table: ir.Table, time: Time, what: str, place: str, clock: Clock | None = None
) -> ir.IntegerValue:
    """The moments as int64 microseconds since 1970.

    what: the column's purpose, place: the file, for messages. clock: dates are taken too, as their midnights by it.
    Raises DataError when the column is missing or none of
    moments.
    """
    if time.column not in table.columns:
        raise DataError(f"{place}: column {time.column!r}, {what}, is missing; {nearest(time.column, table.columns)}")
    moment = table[time.column]
    if moment.type().is_timestamp():
        return engine.micros(moment)
    if moment.type().is_date() and clock is not None:
        return midnights(engine.micros(moment.cast("timestamp")) // DAY_US, clock)
    if not moment.type().is_integer():
        expected = "expected timestamps, or whole numbers and options.time.unit"
        raise DataError(f"{place}: column {time.column!r} is {moment.type()}, {expected}")
    return moment.cast("int64") * MICROSECONDS[time.unit]


def limits(path: Path, time: Time, what: str, clock: Clock | None = None) -> tuple[int, int] | None:
    """First and last moment of a file, in microseconds since 1970; None when it has none that can be read as such."""
    try:
        columns = pq.read_schema(path).names
        if time.column not in columns:
            raise DataError(f"{path}: column {time.column!r}, {what}, is missing; {nearest(time.column, columns)}")
        moments = pq.read_table(path, columns=[time.column], partitioning=None)[time.column].drop_null()
    except (pa.ArrowException, OSError) as failure:
        raise DataError(f"{path}: column {time.column!r} cannot be read ({' '.join(str(failure).split())})") from None
    unit: Unit = time.unit
    if pa.types.is_date(moments.type) and clock is not None:
        days = moments.cast(pa.date32()).cast(pa.int32()).to_numpy().astype(np.int64)
        moments, unit = pa.chunked_array([clock.midnights(days)]), "us"
    if pa.types.is_timestamp(moments.type):
        moments, unit = moments.cast(pa.timestamp("us", moments.type.tz), safe=False).cast(pa.int64()), "us"
    if not len(moments) or not pa.types.is_integer(moments.type):
        return None
    ends = pc.min_max(moments)
    return ends["min"].as_py() * MICROSECONDS[unit], ends["max"].as_py() * MICROSECONDS[unit]
