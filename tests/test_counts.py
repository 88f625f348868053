"""What workers count in shared memory, against numpy; and what Prometheus reads of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from swrec_prod.encoding.pack import Ragged
from swrec_prod.serving.process.pulse import Pulse
from swrec_prod.serving.scoring.unknown import UnknownIds
from swrec_prod.serving.watching.counts import CODES, SECONDS, Counts, Layout, Served
from swrec_prod.serving.watching.metrics import Tally

SERVED = [Served("m", "1", ("home", "cart"), ("item_id",)), Served("m", "2", ("home",)), Served("other", "1", ("x",))]
LABELS = {"model": "m", "version": "1"}


class Workers:
    """Workers of one generation, and what is told of them and of those before."""

    def __init__(self, tally: Tally, places: int = 2) -> None:
        self.layout = Layout(SERVED)
        self.memory = memoryview(bytearray(self.layout.bytes(places)))
        self.slots = self.layout.slots(self.memory)
        tally.begin(SERVED, self.memory)

    def counts(self, place: int) -> Counts:
        """Of a worker that begins in a place."""
        return Counts(self.layout, self.slots[place])


def told(tally: Tally) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(tally)
    return registry


def routed(model: str = "m", version: str = "1", scenario: int = 0, fallback: bool = False) -> Any:
    predictor = SimpleNamespace(name=model, version=version)
    return SimpleNamespace(predictor=predictor, scenario=scenario, fallback=fallback, variants=(), lacks_unit=False)


def test_every_series_has_numbers_of_its_own():
    layout = Layout(SERVED)
    taken = [range(series.at, series.at + series.family.width) for series in layout.series]
    assert sorted([*(i for numbers in taken for i in numbers), layout.scoring]) == list(range(layout.size))
    assert len({(series.family.name, series.labels) for series in layout.series}) == len(layout.series)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from(CODES), st.floats(0, 3), st.integers(0, 1), st.booleans()))
)
def test_requests_are_counted_as_by_hand(requests):
    tally = Tally()
    workers = Workers(tally)
    counts = [workers.counts(0), workers.counts(1)]
    for place, code, seconds, scenario, fallback in requests:
        counts[place].begun()
        counts[place].request(routed(scenario=scenario, fallback=fallback), code, seconds, candidates=10)
    value = told(tally).get_sample_value
    for code in CODES:
        for index, scenario in enumerate(("home", "cart")):
            n = sum(request[1] == code and request[3] == index for request in requests)
            assert (value("scorer_requests_total", {**LABELS, "scenario": scenario, "code": code}) or 0) == n
    seconds = np.array([request[2] for request in requests])
    for bound in SECONDS:
        assert value("scorer_request_seconds_bucket", {**LABELS, "le": str(bound)}) == (seconds <= bound).sum()
    assert value("scorer_request_seconds_count", LABELS) == len(requests)
    np.testing.assert_allclose(value("scorer_request_seconds_sum", LABELS), seconds.sum())
    assert value("scorer_candidates_total", LABELS) == 10 * len(requests)
    assert value("scorer_fallbacks_total", LABELS) == sum(request[4] for request in requests)
    assert value("scorer_inflight") == 0


def test_a_request_that_found_no_package_has_no_labels():
    tally = Tally()
    counts = Workers(tally).counts(0)
    counts.begun()
    counts.request(None, "INVALID_ARGUMENT", 0.001)
    nothing = {"scenario": "", "model": "", "version": "", "code": "INVALID_ARGUMENT"}
    assert told(tally).get_sample_value("scorer_requests_total", nothing) == 1


def test_what_a_worker_had_in_hand_dies_with_it_and_what_it_had_counted_stays():
    tally = Tally()
    workers = Workers(tally)
    for _ in range(2):  # the second one takes the place of the first one
        counts = workers.counts(0)
        counts.begun()
        counts.request(routed(), "OK", 0.001)
        counts.begun()
    assert told(tally).get_sample_value("scorer_inflight") == 1
    assert told(tally).get_sample_value("scorer_request_seconds_count", LABELS) == 2


def test_counters_go_on_over_generations():
    tally = Tally()
    for _ in range(3):
        if tally.living:
            tally.end(tally.living[-1])
        counts = Workers(tally).counts(1)
        counts.begun()
        counts.request(routed(), "OK", 0.001)
        counts.rejected("queue")
        counts.begun()
    value = told(tally).get_sample_value
    assert value("scorer_requests_total", {**LABELS, "scenario": "home", "code": "OK"}) == 3
    assert value("scorer_rejected_total", {"reason": "queue"}) == 3
    assert value("scorer_inflight") == 1  # of the last generation


def test_a_reason_and_a_code_that_are_new_are_counted_with_others():
    tally = Tally()
    counts = Workers(tally).counts(0)
    counts.rejected("weather")
    counts.begun()
    counts.request(routed(), "DATA_LOSS", 0.001)
    value = told(tally).get_sample_value
    assert value("scorer_rejected_total", {"reason": "other"}) == 1
    assert value("scorer_requests_total", {**LABELS, "scenario": "home", "code": "INTERNAL"}) == 1


def test_unknown_ids_are_counted_once():
    tally, unknown = Tally(), UnknownIds("m/1", {"item_id": 0.1})
    predictor = SimpleNamespace(name="m", version="1", encoder=SimpleNamespace(unknown=unknown))
    pulse = Pulse(router_of({"m": {1: predictor}}), SimpleNamespace(), Workers(tally).counts(0))
    unknown.add({"item_id": Ragged(np.array([0, 3, 0]), np.array([3]))}, elsewhere=4)
    pulse.tell()
    pulse.tell()
    unknown.add({"item_id": np.array([0, 1])})
    pulse.tell()
    value = told(tally).get_sample_value
    assert value("scorer_ids_total", {**LABELS, "feature": "item_id"}) == 5
    assert value("scorer_oov_ids_total", {**LABELS, "feature": "item_id"}) == 3
    assert value("scorer_behaviours_elsewhere_total", LABELS) == 4


def router_of(predictors: Mapping[str, Mapping[int, Any]]) -> Any:
    return SimpleNamespace(predictors=predictors)
