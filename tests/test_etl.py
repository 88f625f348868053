"""Behaviours known strictly before each row, against a naive loop; order and days."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swrec_prod.data.etl import behaviours, codes, days_of, in_order
from swrec_prod.errors import DataError

EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.booleans()), min_size=1, max_size=40)


def naive(events: list[tuple[int, int, bool]], row: int, max_length: int | None) -> list[int]:
    user, time, _ = events[row]
    earlier = [i for i, (u, t, happened) in enumerate(events) if u == user and t < time and happened]
    return earlier if max_length is None else earlier[-max_length:]


@given(EVENTS, st.sampled_from([None, 1, 2, 5]))
def test_every_row_sees_the_latest_behaviours_before_its_time_and_none_at_it(
    events: list[tuple[int, int, bool]], longest: int | None
) -> None:
    events = sorted(events, key=lambda event: event[1])
    user, time, happened = (np.array(column) for column in zip(*events, strict=True))
    found = behaviours(user, time, happened, longest).of_rows(slice(0, len(events)))
    lists = [found.values[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)]
    assert lists == [naive(events, row, longest) for row in range(len(events))]


@given(EVENTS, st.data())
def test_lists_of_some_rows_are_the_lists_of_all_rows(events: list[tuple[int, int, bool]], data: st.DataObject) -> None:
    events = sorted(events, key=lambda event: event[1])
    user, time, happened = (np.array(column) for column in zip(*events, strict=True))
    windows = behaviours(user, time, happened, 3)
    rows = np.array(data.draw(st.lists(st.integers(0, len(events) - 1))), np.int64)
    some, all_rows = windows.of_rows(rows), windows.of_rows(slice(0, len(events))).take(rows)
    assert np.array_equal(some.values, all_rows.values) and np.array_equal(some.offsets, all_rows.offsets)


def test_rows_come_by_time_then_row_and_a_naive_timestamp_is_utc() -> None:
    moments = [datetime(2024, 1, 2), datetime(2024, 1, 1, 23, 59), datetime(2024, 1, 2)]
    table = pa.table({"row": [2, 1, 0], "at": pa.array(moments, pa.timestamp("s"))})
    ordered = in_order(table, "at")
    assert ordered["row"].to_pylist() == [1, 0, 2]
    assert ordered["at"][0].as_py() == datetime(2024, 1, 1, 23, 59, tzinfo=UTC)
    assert days_of(ordered["at"]).astype(str).tolist() == ["2024-01-01", "2024-01-02", "2024-01-02"]


def test_a_moment_counts_for_its_utc_day() -> None:
    late = pa.array([datetime(2024, 1, 1, 23, 30, tzinfo=UTC)]).cast(pa.timestamp("us", "Asia/Tokyo"))
    assert days_of(in_order(pa.table({"row": [0], "at": late}), "at")["at"]).astype(str).tolist() == ["2024-01-01"]


def test_time_of_another_type_or_missing_is_an_error() -> None:
    with pytest.raises(DataError, match="'at' is int64, expected timestamp"):
        in_order(pa.table({"row": [0], "at": [5]}), "at")
    with pytest.raises(DataError, match="'at' has 1 missing"):
        in_order(pa.table({"row": [0], "at": pa.array([None], pa.timestamp("us"))}), "at")


def test_codes_tell_values_apart() -> None:
    assert codes(pa.chunked_array([["b", "a"], ["b"]])).tolist() == [0, 1, 0]
