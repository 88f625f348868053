"""The server counts ids that are 0, and says it once a minute where they are many more than in training."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swrec_prod.encoding.pack import Ragged
from swrec_prod.serving.scoring.unknown import UnknownIds

TRAINING = {"item": 0.01, "user": 0.3, "tags": 0.0}


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def columns(items: int, unknown: int, user: int = 1) -> dict[str, np.ndarray | Ragged]:
    """A request: so many items, of which so many are unknown, each with a known and an unknown tag."""
    ids = np.where(np.arange(items) < unknown, 0, 5).astype(np.int32)
    tags = Ragged(np.tile(np.array([0, 3], np.int32), items), np.arange(items + 1) * 2)
    return {"item": ids, "user": np.array([user], np.int32), "tags": tags, "price": np.zeros(items, np.float32)}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ids(clock: Clock) -> UnknownIds:
    return UnknownIds("mscan/3", TRAINING, clock)


def test_what_is_much_above_training_is_told_once_a_minute(
    ids: UnknownIds, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for clock.now in np.arange(0.0, 60.0, 0.5):
            ids.add(columns(10, 8, user=0))
        assert caplog.messages == []
        clock.now = 60.0
        ids.add(columns(10, 8, user=0))
    assert caplog.messages == [
        "mscan/3: values of requests are unknown: item 80% (training 1.0%), user 100% (training 30.0%), "
        "tags 50% (training 0.0%)"
    ]


@pytest.mark.parametrize(("unknown", "told"), [(0, False), (6, False), (7, False), (8, True)])
def test_a_little_more_than_in_training_is_not_told(
    clock: Clock, caplog: pytest.LogCaptureFixture, unknown: int, told: bool
) -> None:
    ids = UnknownIds("m/1", {"item": 0.01}, clock)
    clock.now = 61.0
    with caplog.at_level(logging.WARNING):
        ids.add(columns(100, unknown))
    assert bool(caplog.messages) == told


def test_a_minute_knows_nothing_of_the_minute_before(
    ids: UnknownIds, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tags = {"tags": Ragged(np.ones(0, np.int32), np.zeros(1, np.int64))}
    with caplog.at_level(logging.WARNING):
        for clock.now, unknown in ((61.0, 100), (122.0, 0)):
            ids.add(columns(200, unknown) | tags)
    assert len(caplog.messages) == 1 and "item 50%" in caplog.messages[0]
    assert ids.shares()["item"] == 100 / 400


def test_few_ids_are_counted_on_until_they_are_enough(
    ids: UnknownIds, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for clock.now in np.arange(61.0, 99 * 61, 61.0):
            ids.add({"user": np.zeros(1, np.int32)})
        assert caplog.messages == []
        for clock.now in (100 * 61.0, 101 * 61.0, 102 * 61.0):
            ids.add({"user": np.zeros(1, np.int32)})
    assert len(caplog.messages) == 1


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300), st.floats(0, 100)), max_size=20))
def test_shares_are_of_all_requests_so_far(requests: list[tuple[int, int, float]]) -> None:
    clock, total = Clock(), Counter[str]()
    ids = UnknownIds("m/1", TRAINING, clock)
    for items, unknown, seconds in requests:
        clock.now += seconds
        ids.add(columns(items, min(unknown, items)))
        total.update(ids=items, zeros=min(unknown, items))
    expected = {"item": total["zeros"] / total["ids"], "user": 0.0, "tags": 0.5} if requests else {}
    assert ids.shares() == pytest.approx(expected)


def test_a_package_of_before_counts_nothing() -> None:
    ids = UnknownIds("m/1", {})
    ids.add(columns(10, 10))
    assert ids.shares() == {}
