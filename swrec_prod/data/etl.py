"""The relational part of prepare: order events by time, and give every row the behaviours that were known before it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from swrec_prod.data.pack import Ragged, spread
from swrec_prod.data.values import flat
from swrec_prod.errors import DataError

MICROSECONDS = pa.timestamp("us", "UTC")


class Windows(NamedTuple):
    """The behaviours of every row: `events[start[i]:stop[i]]` are row positions, oldest first.

    events: int64 [behaviours]; start, stop: int64 [N]. Lists are built from it for some rows at a time (`of_rows`), as
    all of them together are many times larger than the table.
    """

    events: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def of_rows(self, rows: np.ndarray | slice) -> Ragged:
        """Row positions of the behaviours of `rows`."""
        index, offsets = spread(self.start[rows], self.stop[rows] - self.start[rows])
        return Ragged(self.events[index], offsets)


def in_order(table: pa.Table, time: str) -> pa.Table:
    """The rows by (time, row), with `time` as timestamp[us, UTC]; a timestamp without a zone is UTC.

    Raises DataError when the column holds no timestamps, or a missing one.
    """
    column = table[time]
    if not pa.types.is_timestamp(column.type):
        raise DataError(f"column {time!r} is {column.type}, expected timestamp")
    if column.null_count:
        raise DataError(f"column {time!r} has {column.null_count} missing values; every row needs its time")
    moments = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(MICROSECONDS)
    table = table.set_column(table.column_names.index(time), time, moments)
    order = np.lexsort((table["row"].to_numpy(), moments.cast(pa.int64()).to_numpy()))
    return table if np.array_equal(order, np.arange(len(order))) else table.take(pa.array(order)).combine_chunks()


def days_of(time: pa.ChunkedArray) -> np.ndarray:
    """The UTC day of each moment, datetime64[D] [N]."""
    return time.cast(pa.int64()).to_numpy().astype("datetime64[us]").astype("datetime64[D]")


def codes(values: pa.ChunkedArray) -> np.ndarray:
    """One small integer for each distinct value, int32 [N]."""
    return flat(values).dictionary_encode().indices.to_numpy()


def behaviours(user: np.ndarray, time: np.ndarray, happened: np.ndarray, max_length: int | None) -> Windows:
    """For each row the latest `max_length` rows of the same user where `happened`, strictly before the row's time.

    user: int [N] codes; time: int64 [N], non-decreasing; happened: bool [N]. Rows of a user that share a time do not see
    each other. Equal times keep the order of the rows.
    """
    order = np.argsort(user, kind="stable")  # by (user, time, row): the rows come by time
    user, time, happened = user[order], time[order], happened[order]
    new_user = _starts(user)
    before = np.cumsum(happened) - happened  # behaviours of all users so far, this row left out
    first_of_user = before[_latest(new_user)]
    stop = before[_latest(new_user | _starts(time))]
    start = first_of_user if max_length is None else np.maximum(first_of_user, stop - max_length)
    windows = Windows(order[happened], np.empty_like(start), np.empty_like(stop))
    windows.start[order], windows.stop[order] = start, stop
    return windows


def _starts(values: np.ndarray) -> np.ndarray:
    """True where a run of equal values begins."""
    return np.concatenate(([True], values[1:] != values[:-1]))[: len(values)]


def _latest(marks: np.ndarray) -> np.ndarray:
    """For each position the latest one at or before it that is marked; position 0 is."""
    return np.maximum.accumulate(np.where(marks, np.arange(len(marks)), 0))
