"""Load generators: what they count, against servers that answer as told and computations of our own."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import time

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
from asked_servers import in_turn, refusal, scores, serving
from commands import refused, succeeds, swrec
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import SCENARIOS

from swrec_prod.errors import ConfigError, DataError, NotFoundError, RequestError, UnavailableError
from swrec_prod.serving.callers import bodies
from swrec_prod.serving.callers.capacity import Goal, capacity, goal_of, ramp
from swrec_prod.serving.callers.histogram import Histogram
from swrec_prod.serving.callers.load import LoadResult, Plan, closed_loop, moments, open_loop
from swrec_prod.serving.callers.processes import load, shares
from swrec_prod.serving.client import Input, ServedModel
from swrec_prod.serving.client.channels import Connection
from swrec_prod.serving.client.request import make_call
from swrec_prod.serving.protocol import ranking_pb2

BODY = ranking_pb2.ScoreRequest(scenario="home").SerializeToString()


def histogram(durations) -> Histogram:
    filled = Histogram()
    for seconds in durations:
        filled.add(seconds)
    return filled


@settings(max_examples=200)
@given(st.lists(st.floats(1e-5, 900), min_size=1), st.floats(0.001, 1), st.integers(0, 10))
def test_quantiles_are_those_of_numpy(durations, q, cut):
    filled = histogram(durations[:cut])
    filled.merge(histogram(durations[cut:]))
    wanted = np.quantile(durations, q, method="inverted_cdf")
    assert filled.quantile(q) == pytest.approx(wanted, rel=0.006)
    assert filled.largest == max(durations) and filled.count == len(durations)


def test_nothing_has_no_quantile():
    assert math.isnan(Histogram().quantile(0.5)) and math.isnan(Histogram().summary()["max_ms"])


@given(st.lists(st.floats(0, 1e9), max_size=20))
def test_any_duration_is_counted(durations):
    assert histogram(durations).count == len(durations)


# Loops


def test_a_closed_loop_keeps_its_callers_busy():
    in_flight, most = 0, 0

    async def slow(data, context):
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.02)
        in_flight -= 1
        return data

    with serving({"Score": slow}) as asked:
        result = closed_loop(asked.target, [b"a", b"b"], clients=6, seconds=0.6, warmup=0.2)
    assert most == 6, "as many as there are callers"
    assert result.codes.keys() == {"OK"} and result.within == result.calls
    assert 0 < result.rate <= 6 / 0.02 and result.answered.quantile(0.01) >= 0.0195
    assert result.calls * 0.02 <= 6 * (0.6 + 0.02), "no more than callers have time for"
    assert {body: asked.bodies.count(body) > 0 for body in (b"a", b"b")} == {b"a": True, b"b": True}
    assert 0 < result.cpu_share <= 1.5


STALL = 0.6  # seconds


def test_an_open_loop_counts_the_wait_of_requests_that_a_stall_delays():
    """The server answers nothing for a while: all requests of that time wait for its end, as a queue says."""
    rate, seconds = 200.0, 1.5
    first: list[float] = []

    async def stalling(data, context):
        first.append(time.perf_counter())
        if (rest := first[0] + STALL - time.perf_counter()) > 0 and len(first) > 1:
            await asyncio.sleep(rest)
        return data

    with serving({"Score": stalling}) as asked:
        result = open_loop(asked.target, [BODY], rate, seconds, poisson=False, warmup=0, deadline_ms=10_000, channels=1)
    due = np.arange(0, seconds, 1 / rate)
    waits = np.maximum(STALL - due, 0)
    assert result.calls == len(due)
    for q in (0.7, 0.8, 0.9):
        wanted = np.quantile(waits, q, method="inverted_cdf")
        assert wanted - 0.15 <= result.answered.quantile(q) <= wanted + 0.5
    assert result.answered.largest >= STALL - 0.15
    assert result.late.count == len(due)


def test_an_open_loop_does_not_wait_for_answers():
    """A caller that waited would send one request in the whole time."""

    async def never(data, context):
        await asyncio.sleep(0 if not asked.bodies[1:] else 5)
        return data

    with serving({"Score": never}) as asked:
        result = open_loop(asked.target, [BODY], 100, 0.5, poisson=False, warmup=0, deadline_ms=300, channels=1)
    assert result.codes == {"DEADLINE_EXCEEDED": 50} and result.within == 0 and result.goodput == 0
    assert result.calls == 50 and math.isnan(result.answered.quantile(0.5))


def test_codes_are_counted_and_refusals_timed():
    passing = in_turn(scores, *[scores, refusal(grpc.StatusCode.RESOURCE_EXHAUSTED)] * 20)
    with serving({"Score": passing}) as asked:
        result = open_loop(asked.target, [BODY], 100, 0.4, poisson=False, warmup=0, channels=1)
    assert result.codes == {"OK": 20, "RESOURCE_EXHAUSTED": 20}
    assert (result.answered.count, result.refused.count, result.within) == (20, 20, 20)
    assert result.offered == 100 and result.rate == result.goodput == 50


def test_what_is_late_is_no_goodput():
    result = LoadResult(2.0)
    for seconds in (0.1, 0.2, 0.3):
        result.add("OK", seconds, deadline=0.2)
    assert (result.within, result.rate, result.goodput) == (2, 1.5, 1.0)


@pytest.mark.parametrize("poisson", [False, True])
def test_moments_have_the_rate(poisson):
    plan = Plan(Connection("x:1"), 500.0, 100.0, rate=50.0, poisson=poisson)
    found = moments(plan)
    gaps = np.diff(found)
    assert len(found) == pytest.approx(30_000, rel=0.02) and found[0] >= 0 and found[-1] < 600 and (gaps >= 0).all()
    assert gaps.std() / gaps.mean() == pytest.approx(1.0 if poisson else 0.0, abs=0.05)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(grpc.StatusCode.INVALID_ARGUMENT, "age is missing"), RequestError),
        (refusal(grpc.StatusCode.NOT_FOUND, "model"), NotFoundError),
    ],
)
def test_a_load_of_requests_that_are_refused_for_good_is_none(answer, error):
    with serving({"Score": answer}) as asked, pytest.raises(error):
        closed_loop(asked.target, [BODY], 2, 0.1, warmup=0)
    with pytest.raises(UnavailableError, match=r"no server at 127.0.0.1:9"):
        open_loop("127.0.0.1:9", [BODY], 10, 0.1)


@given(st.integers(1, 40), st.integers(1, 8), st.floats(1, 1e4))
def test_processes_share_callers_and_rate(clients, processes, rate):
    closed = shares(Plan(Connection("x:1"), 1.0, clients=clients), processes)
    assert sum(plan.clients for plan in closed) == max(clients, processes)
    opened = shares(Plan(Connection("x:1"), 1.0, rate=rate), processes)
    assert sum(plan.rate for plan in opened) == pytest.approx(rate)
    assert len({plan.seed for plan in opened}) == processes and not any(plan.clients for plan in opened)


@pytest.mark.process
def test_processes_load_together():
    said: list[str] = []
    with serving({"Score": scores}) as asked:
        plan = Plan(Connection(asked.target, 1), 0.5, 0.1, rate=100.0, poisson=False)
        result = load(plan, [BODY], 2, said.append)
    assert result.codes == {"OK": 50} and result.processes == 2
    with pytest.raises(UnavailableError, match="no server at"):
        load(dataclasses.replace(plan, connection=Connection("127.0.0.1:9", 1)), [BODY], 2, said.append)


# Ramps


@given(st.floats(2, 1e5), st.floats(1, 1e5))
def test_a_ramp_finds_the_capacity(limit, first):
    """Of a server that holds every rate up to a limit."""

    def measure(rate):
        result = LoadResult(1.0)
        for _ in range(10):
            result.add("OK", 0.01 if rate <= limit else 0.5, deadline=0.1)
        return result

    steps = ramp(measure, Goal(0.99, 25, 0.99), first, lambda step: None)
    assert limit / 1.07 <= capacity(steps) <= limit


def test_a_ramp_over_a_server_that_holds_nothing_ends():
    steps = ramp(lambda rate: LoadResult(1.0), Goal(0.99, 25, 0.99), 100, lambda step: None)
    assert capacity(steps) == 0 and len(steps) < 100


@pytest.mark.parametrize(("fast", "slow", "met"), [(1000, 0, True), (995, 5, True), (980, 20, False)])
def test_a_goal_looks_at_the_quantile(fast, slow, met):
    result = LoadResult(1.0)
    for seconds in [0.01] * fast + [0.03] * slow:
        result.add("OK", seconds, deadline=1.0)
    assert Goal(0.99, 25, 0.99).is_met(result) is met


@pytest.mark.parametrize(("refused", "met"), [(5, True), (20, False)])
def test_a_goal_looks_at_goodput(refused, met):
    result = LoadResult(1.0)
    for code in ["OK"] * (1000 - refused) + ["RESOURCE_EXHAUSTED"] * refused:
        result.add(code, 0.001, deadline=1.0)
    assert Goal(0.99, 25, 0.99).is_met(result) is met


def test_goals_are_read():
    assert goal_of("p99.9=1s", 0.9) == Goal(0.999, 1000, 0.9)
    for slo in ("p99", "25ms", "p0=25ms", "p100=25ms", "p99=25"):
        with pytest.raises(ConfigError, match="not a quantile and its bound"):
            goal_of(slo, 0.99)


# What is sent


@pytest.mark.parametrize("candidates", [1, 3, 7, 20])
def test_candidates_are_repeated(candidates):
    items = {
        "id": [1, 2, 3],
        "tags": [["a"], [], ["b", "c"]],
        "price": [1.5, None, 2.5],
        "h.x": [[[1], []], [], [[2, 3]]],
    }
    call = bodies.with_candidates(make_call("home", {}, items), candidates)
    times = -(-candidates // 3)
    wanted = make_call("home", {}, {name: (values * times)[:candidates] for name, values in items.items()})
    for found, right in zip(call.items, wanted.items, strict=True):
        assert found.name == right.name
        np.testing.assert_array_equal(found.values, right.values)
        lengths = [np.ones(len(c.values)) if c.lengths is None else c.lengths for c in (found, right)]
        np.testing.assert_array_equal(*lengths)


def test_rows_of_a_folder_are_sent(tiny_folder):
    rows = pq.read_table(tiny_folder / "requests.parquet")
    own, fixed = (
        [ranking_pb2.ScoreRequest.FromString(body) for body in bodies.of_folder(tiny_folder, "mscan", (), n)]
        for n in (0, 10)
    )
    assert len(own) == len(fixed) == len(set(rows["time"].to_pylist()))
    assert {request.scenario for request in own} == set(SCENARIOS) and {request.model for request in own} == {"mscan"}
    ids = [[list(next(c for c in r.items if c.name == "item_id").ints) for r in part] for part in (own, fixed)]
    assert sorted(i for found in ids[0] for i in found) == sorted(rows["item_id"].to_pylist())
    assert ids[1] == [(found * 10)[:10] for found in ids[0]]
    with pytest.raises(DataError, match="swrec prepare writes it"):
        bodies.of_folder(tiny_folder / "none", "", (), 0)


MODEL = ServedModel(
    "mscan", "2", True, "mscan", ("click", "buy"), SCENARIOS, "", True,
    user=(
        Input("user_id", "string", False), Input("age", "int64", False), Input("invited_by", "string", False),
        Input("hour", "float64", False),
        Input("history.item", "int64", True), Input("history.scenario", "string", True),
    ),
    items=(Input("item_id", "int64", False), Input("tags", "string", True), Input("price", "float64", False)),
)  # fmt: skip


def test_made_up_requests_are_scored(tiny_server):
    found = bodies.of_model([MODEL], "", 5)
    assert {ranking_pb2.ScoreRequest.FromString(body).scenario for body in found} == set(SCENARIOS)
    with grpc.insecure_channel(tiny_server) as channel:
        for body in found[:9]:
            reply = channel.unary_unary("/swrec.v1.Ranking/Score")(body, timeout=30)
            assert len(ranking_pb2.ScoreResponse.FromString(reply).score) == 5 * 2
    with pytest.raises(NotFoundError, match="did you mean mscan"):
        bodies.of_model([MODEL], "mscam", 5)
    with pytest.raises(NotFoundError, match="model '': known: a, mscan"):
        bodies.of_model([MODEL._replace(name="a"), MODEL], "", 5)


# The command


def test_the_command_reports(tiny_folder, tiny_server):
    words = ("loadtest", tiny_folder, "--target", tiny_server, "--model", "mscan", "--duration", 0.5, "--warmup", 0.1)
    found = json.loads(succeeds(*words, "--clients", 2, "--json"))
    assert found["ok_per_s"] == found["goodput_per_s"] == found["codes_per_s"]["OK"] > 0
    assert found["answered"]["p50_ms"] <= found["answered"]["p99_ms"] <= found["answered"]["max_ms"]
    assert found["refused"]["p50_ms"] is None and found["client_processes"] == 1
    said = succeeds(*words, "--rate", 20, "--constant")
    assert "offered: 20.0 requests/s for 0.5 s" in said and "\nOK: " in said and "\nsent late by: p50 " in said


def test_the_command_finds_a_capacity(tiny_folder, tiny_server):
    words = ("loadtest", tiny_folder, "--target", tiny_server, "--model", "mscan", "--duration", 0.2, "--warmup", 0)
    done = swrec(*words, "--ramp", "--rate", 20, "--slo", "p50=0.001ms")
    assert done.out.strip() == "no rate was answered with p50=0.001ms and 99% inside 1000 ms"
    assert "fails: 20 requests/s offered" in done.err


@pytest.mark.process
def test_without_a_folder_values_are_made_up():
    async def models(data, context):
        columns = {part: [ranking_pb2.Input(**c._asdict()) for c in getattr(MODEL, part)] for part in ("user", "items")}
        model = ranking_pb2.Model(name="m", is_default=True, scenarios=SCENARIOS, **columns)
        return ranking_pb2.ListModelsResponse(models=[model]).SerializeToString()

    with serving({"Score": scores, "ListModels": models}) as asked:
        words = ("--target", asked.target, "--candidates", 7, "--duration", 0.3, "--warmup", 0, "--rate", 50)
        assert "OK: " in succeeds("loadtest", *words)
    sent = [ranking_pb2.ScoreRequest.FromString(body) for body in asked.bodies if body]
    assert {len(request.items[0].ints) for request in sent} == {7} and {request.model for request in sent} == {"m"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--slo", "fast"), "--slo fast: not a quantile and its bound"),
        (("--duration", "0"), "--duration 0: give more than 0"),
        (("--rate", "-1"), "--rate -1: give 0 or more"),
        (("--goodput", "2"), "--goodput 2: give a share of the calls"),
    ],
)
def test_the_command_refuses(words, message, tiny_folder):
    refused(swrec("loadtest", tiny_folder, *words), "ConfigError: " + message)


def test_made_up_requests_follow_what_the_server_lists(tiny_server):
    words = ("loadtest", "--target", tiny_server, "--model", "mscan", "--candidates", 5, "--duration", 0.3)
    found = json.loads(succeeds(*words, "--warmup", 0, "--clients", 2, "--json"))
    assert found["codes_per_s"].keys() == {"OK"}
