"""Admission: what is refused at once, in which order the rest is scored, that nothing is scored for nobody.

First the decisions alone, over a clock of the test's own, then in an event loop, then over a socket.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swrec_prod.errors import BusyError, ExpiredError, RequestError
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.process.server import start
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.protocol.call import Column, ScoreCall
from swrec_prod.serving.routing.router import Routed, Router
from swrec_prod.serving.routing.routes import Routes, Share
from swrec_prod.serving.scoring.predictor import Scored
from swrec_prod.serving.service.admission import INLINE_MS, Admission
from swrec_prod.serving.service.costs import Costs
from swrec_prod.serving.service.quotas import Bucket
from swrec_prod.serving.service.schedule import Bounds, Job, Refusal, Schedule
from swrec_prod.serving.watching.counts import REJECTED, Counts, Layout, Served, total

HOME, CART, ANY = Share("home"), Share("cart"), Bounds(1e9, 10**9)
FAR = 1e9  # a deadline that nothing misses


def taken(schedule: Schedule, now: float = 0.0) -> Job | None:
    """The next job, scored in exactly its cost."""
    job = schedule.take(now).job
    if job is not None:
        schedule.done(job, now + job.cost / 1e3)
    return job


def order(schedule: Schedule) -> list[Job]:
    return list(iter(lambda: taken(schedule), None))


# Order


@pytest.mark.parametrize("before", [0, 1, 10, 19])
def test_a_small_request_behind_twenty_large_ones_waits_for_two_forwards_at_most(before):
    schedule = Schedule(ANY)
    for _ in range(20):
        schedule.enter(0.0, 8.0, FAR, HOME)
    for _ in range(before):
        taken(schedule)
    running = schedule.take(0.0).job
    small = schedule.enter(0.0, 0.3, FAR, HOME)
    schedule.done(running, 0.0)
    assert small in order(schedule)[:2]


def test_large_requests_keep_half_of_the_time_beside_any_number_of_small_ones():
    schedule = Schedule(ANY)
    large = schedule.enter(0.0, 8.0, FAR, HOME)
    before = 0.0
    while True:  # a small one comes whenever one is taken
        schedule.enter(0.0, 0.5, FAR, HOME)
        schedule.enter(0.0, 0.5, FAR, HOME)
        job = taken(schedule)
        if job is large:
            break
        before += job.cost
    assert before <= 8.0


def test_a_storm_in_a_scenario_with_limits_leaves_others_their_part():
    schedule = Schedule(ANY)
    for _ in range(100):
        schedule.enter(0.0, 1.0, FAR, HOME._replace(queue_ms=1e6))
    for _ in range(10):
        schedule.enter(0.0, 1.0, FAR, CART)
    assert 9 <= sum(job.share is CART for job in order(schedule)[:20]) <= 11


def test_scenarios_without_limits_are_scored_in_the_order_of_arrival():
    schedule = Schedule(ANY)
    entered = [schedule.enter(0.0, 1.0, FAR, share) for share in [HOME, HOME, CART, HOME, HOME, CART]]
    assert order(schedule) == entered


COSTS = st.sampled_from([0.2, 0.3, 1.0, 5.0, 8.0])
SHARES = st.sampled_from([HOME, CART, Share("search", max_concurrent=3), Share("feed", queue_ms=6.0)])
STEPS = st.one_of(
    st.tuples(st.just("enter"), COSTS, SHARES, st.floats(0.0, 0.1)),
    st.tuples(st.just("take"), st.floats(0.5, 2.0)),
    st.tuples(st.just("drop"), st.integers(0, 50)),
    st.tuples(st.just("pass"), st.floats(0.0, 0.05)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=120))
def test_bounds_hold_and_every_request_ends_once(steps):
    schedule, now = Schedule(Bounds(20.0, 12)), 0.0
    waiting: list[Job] = []
    for step in steps:
        match step:
            case "enter", cost, share, patience:
                try:
                    waiting.append(schedule.enter(now, cost, now + patience, share))
                except Refusal as refusal:
                    assert refusal.reason in ("queue", "deadline", "scenario")
                    assert waiting or cost > 1e3 * patience or refusal.reason == "deadline"
            case "take", slowness:
                job, late = schedule.take(now)
                assert all(now + one.cost / 1e3 > one.deadline for one in late)
                ended = [*late, *([job] if job else [])]
                assert all(one in waiting for one in ended) and len(set(map(id, ended))) == len(ended)
                waiting = [one for one in waiting if one not in ended]
                if job is None:
                    assert not waiting
                else:
                    assert now + job.cost / 1e3 <= job.deadline
                    now += slowness * job.cost / 1e3
                    schedule.done(job, now)
            case "drop", i if waiting:
                schedule.drop(waiting.pop(i % len(waiting)))
            case "pass", seconds:
                now += seconds
        assert schedule.requests == len(waiting) <= 12
        assert schedule.waiting == pytest.approx(sum(job.cost for job in waiting), abs=1e-6)
        assert schedule.waiting <= 20.0 or len(waiting) == 1
        assert sum(job.share.name == "search" for job in waiting) <= 3
        feed = [job.cost for job in waiting if job.share.name == "feed"]
        assert sum(feed) <= 6.0 or len(feed) == 1
        assert len(schedule._heap) <= 2 * len(waiting) + 65


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(COSTS, SHARES), min_size=1, max_size=60))
def test_within_a_flow_who_came_first_is_first_and_all_are_scored(entries):
    schedule = Schedule(ANY)
    jobs = [schedule.enter(0.0, cost, FAR, Share(share.name)) for cost, share in entries]
    scored = order(schedule)
    assert sorted(map(id, scored)) == sorted(map(id, jobs))
    for flow in {id(job.flow): job.flow for job in jobs}.values():
        assert [job for job in scored if job.flow is flow] == [job for job in jobs if job.flow is flow]


# What is refused


def test_what_cannot_be_answered_in_time_is_refused_and_told_when_to_ask_again():
    schedule = Schedule(ANY)
    for _ in range(10):
        schedule.enter(0.0, 5.0, FAR, HOME)
    with pytest.raises(Refusal) as refusal:
        schedule.enter(0.0, 5.0, 0.050, HOME)
    assert (refusal.value.reason, refusal.value.pushback) == ("deadline", 50.0)
    with pytest.raises(Refusal) as refusal:
        schedule.enter(0.0, 60.0, 0.050, HOME)
    assert refusal.value.pushback == -1  # it alone takes longer
    assert schedule.enter(0.0, 5.0, 0.085, HOME) and schedule.enter(0.0, 0.3, 0.010, HOME)


def test_the_pace_of_a_busy_server_lengthens_the_waits_that_are_expected():
    schedule, now = Schedule(ANY), 0.0
    for _ in range(100):
        schedule.enter(0.0, 1.0, FAR, HOME)
    for _ in range(80):  # 3 ms pass for each that should take 1 ms
        job = schedule.take(now).job
        now += 3e-3
        schedule.done(job, now)
    assert schedule.wait(now, job.flow) == pytest.approx(60, rel=0.1)


def test_one_forward_that_was_held_up_changes_costs_by_little():
    predictor, costs = Slow(0.1, 0.001), Costs()
    costs.learn(predictor, 100, 1_000.0)
    assert costs.milliseconds(predictor, 100) <= 0.2 * 1.1 + 1e-9
    for _ in range(100):
        costs.learn(predictor, 100, 0.8)
        costs.learn(predictor, 1_000, 1.1)
    assert costs.milliseconds(predictor, 100) == pytest.approx(0.8, rel=0.01)
    assert costs.milliseconds(predictor, 1_000) == pytest.approx(1.1, rel=0.01)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 0.3), st.floats(0.1, 30.0)), min_size=1, max_size=100))
def test_a_bucket_gives_its_rate_and_a_second_at_once_and_no_more(asked):
    bucket, now, given_out, largest = Bucket(20.0), 0.0, 0.0, 0.0
    for pause, amount in asked:
        now += pause
        wait = bucket.wait(now, amount)
        if wait == 0.0:
            bucket.charge(amount)
            given_out, largest = given_out + amount, max(largest, amount)
        else:
            assert bucket.wait(now + wait + 1e-9, amount) == pytest.approx(0.0, abs=1e-9)
            now += wait + 1e-9
    assert given_out <= 20.0 * (1.0 + now) + max(0.0, largest - 20.0) + 1e-6


# In an event loop


class Slow:
    """A predictor whose forwards take as long as it says, or until `released`."""

    name, version, tasks, quick, scenarios = "slow", "1", ("click",), True, ("home", "cart")
    manifest = SimpleNamespace(row_0={}, causal=False)

    def __init__(self, fixed: float = 20.0, a_row: float = 0.0) -> None:
        self.fixed, self.a_row = fixed, a_row
        self.entered, self.released = threading.Event(), threading.Event()
        self.released.set()
        self.scored: list[str] = []

    def milliseconds(self, rows: int) -> float:
        return self.fixed + self.a_row * rows

    def scenario(self, value: str) -> tuple[int, bool]:
        return self.scenarios.index(value), False

    def scenario_name(self, index: int) -> str:
        return self.scenarios[index]

    def strength(self, call: ScoreCall, scenario: int) -> float:
        return 0.0

    def score(self, call: ScoreCall, scenario: int, strength: float) -> Scored:
        self.scored.append(call.request_id)
        self.entered.set()
        assert self.released.wait(60)
        time.sleep(self.milliseconds(call.rows) / 1e3)
        if call.request_id == "bad":
            raise RequestError("bad")
        ones = np.ones((call.rows, 1), np.float32)
        return Scored(ones, ones, ones[:, :0], ones[:, :0], strength)


def asked(name: str, rows: int = 1) -> ScoreCall:
    return ScoreCall("", "", "home", request_id=name, items=[Column("item", np.zeros(rows, np.int64), None)])


def counted() -> tuple[Counts, Callable[[], dict[str, float]]]:
    """Counts, and a function of what was rejected for which reason."""
    served = [Served("slow", "1", Slow.scenarios)]
    layout = Layout(served)
    slots = layout.slots(memoryview(bytearray(layout.bytes(1))))
    series = {s.labels[0]: s for s in layout.series if s.family is REJECTED}
    return Counts(layout, slots[0]), lambda: {k: total(slots, s)[0] for k, s in series.items() if total(slots, s)[0]}


def test_no_forward_for_calls_that_expired_or_were_cancelled_while_they_waited():
    predictor, (counts, rejected) = Slow(8.0), counted()

    async def run() -> list:
        admission, routed = Admission(counts), Routed(predictor, 0, "home", False, 0.0)
        predictor.released.clear()
        first = asyncio.ensure_future(admission.scored(asked("first"), routed, 60.0))
        await asyncio.to_thread(predictor.entered.wait, 60)
        late = asyncio.ensure_future(admission.scored(asked("late"), routed, 0.05))
        gone = asyncio.ensure_future(admission.scored(asked("gone"), routed, 60.0))
        last = asyncio.ensure_future(admission.scored(asked("last"), routed, 60.0))
        await asyncio.sleep(0.1)
        gone.cancel()
        predictor.released.set()
        with pytest.raises(ExpiredError):
            await admission.scored(asked("came late"), routed, -0.001)
        return await asyncio.gather(first, late, gone, last, return_exceptions=True)

    first, late, gone, last = asyncio.run(run())
    assert isinstance(first, Scored) and isinstance(last, Scored)
    assert isinstance(late, ExpiredError) and isinstance(gone, asyncio.CancelledError)
    assert predictor.scored == ["first", "last"]
    assert rejected() == {"expired": 2}


def test_refusals_name_their_reason_and_the_loop_is_free_beside_a_long_forward():
    predictor, (counts, rejected) = Slow(30.0), counted()

    async def run() -> None:
        admission = Admission(counts, Bounds(milliseconds=65.0), default_deadline=60.0)
        routed = Routed(predictor, 0, "home", False, 0.0)
        predictor.released.clear()
        first = asyncio.ensure_future(admission.scored(asked("first"), routed, None))
        await asyncio.to_thread(predictor.entered.wait, 60)
        others = [asyncio.ensure_future(admission.scored(asked(f"{i}"), routed, None)) for i in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="too much waits already; ask again in") as busy:
            await admission.scored(asked("queue"), routed, None)
        assert busy.value.pushback_ms >= 60
        with pytest.raises(BusyError, match="not be answered within its deadline; do not ask again") as busy:
            await admission.scored(asked("hopeless"), routed, 0.01)
        assert busy.value.pushback_ms == -1
        with pytest.raises(BusyError, match="scenario's share"):
            await admission.scored(asked("share"), routed._replace(share=Share("home", max_concurrent=0)), None)
        predictor.released.set()
        await asyncio.gather(first, *others)
        with pytest.raises(RequestError, match=r"^bad$"):
            await admission.scored(asked("bad"), routed, None)
        assert isinstance(await admission.scored(asked("again"), routed, None), Scored)
        assert admission.schedule.requests == admission.schedule.waiting == 0 and not admission._waiting

    asyncio.run(run())
    assert rejected() == {"queue": 1, "deadline": 1, "scenario": 1}
    assert predictor.scored == ["first", "0", "1", "bad", "again"]


def test_a_call_without_a_deadline_gets_the_default_one():
    admission = Admission(Counts.alone([Served("slow", "1", Slow.scenarios)]), default_deadline=0.01)
    with pytest.raises(BusyError, match="deadline"):
        asyncio.run(admission.scored(asked("long"), Routed(Slow(30.0), 0, "home", False, 0.0), None))


@pytest.mark.parametrize("fixed", [2.0, 8.0], ids=["in the loop", "in the thread"])
def test_of_calls_that_come_at_once_those_are_refused_that_the_queue_has_no_room_for(fixed):
    async def run() -> list:
        admission = Admission(Counts.alone([Served("slow", "1", Slow.scenarios)]), Bounds(milliseconds=100.0))
        routed = Routed(Slow(fixed), 0, "home", False, 0.0)
        calls = [admission.scored(asked(f"{i}"), routed, 60.0) for i in range(200)]
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = asyncio.run(run())
    refused = [outcome for outcome in outcomes if isinstance(outcome, BusyError)]
    assert len(refused) >= 200 - 2 * 100 / fixed - 1 and all(busy.pushback_ms > 0 for busy in refused)
    assert sum(isinstance(outcome, Scored) for outcome in outcomes) == 200 - len(refused) >= 100 / fixed / 2


@pytest.mark.parametrize("fixed", [0.05, 6.0], ids=["in the loop", "in the thread"])
def test_every_call_gets_its_own_scores(fixed):
    async def run() -> list[int]:
        admission, routed = Admission(Counts.alone([Served("slow", "1", Slow.scenarios)])), None
        routed = Routed(Slow(fixed), 0, "home", False, 0.0)
        calls = [admission.scored(asked(f"{rows}", rows), routed, 60.0) for rows in range(1, 40)]
        return [len(scored.score) for scored in await asyncio.gather(*calls)]

    assert asyncio.run(run()) == list(range(1, 40))


# Over a socket


async def storm(predictor: Slow, routes: Routes, calls: list[tuple[str, float]]) -> list[tuple[str, str | None]]:
    """Code and pushback of calls that are sent at once, each of a scenario and with its seconds."""
    server, _, port = await start(Router({"slow": {1: predictor}}, routes), Options(Path(), port=0))

    async def one(ask, scenario: str, timeout: float) -> tuple[str, str | None]:
        columns = [{"name": "item", "ints": np.zeros(1, "<i8").tobytes()}]
        data = wire.ScoreRequest(scenario=scenario, items=columns).SerializeToString()
        try:
            await ask(data, timeout=timeout)
            return "OK", None
        except grpc.aio.AioRpcError as error:
            return error.code().name, dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms")

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary("/swrec.v1.Ranking/Score")
        outcomes = await asyncio.gather(*(one(ask, *call) for call in calls))
        assert (await one(ask, "home", 10.0))[0] == "OK"  # normal again
    await server.stop(None)
    return outcomes


@pytest.mark.parametrize("fixed", [4.0, 8.0], ids=["in the loop", "in the thread"])
def test_overload_ends_calls_as_answered_refused_or_expired_and_nothing_else(fixed):
    # the client shares the loop, so a deadline must leave a slow machine the time to send 600 calls
    outcomes = asyncio.run(storm(Slow(fixed), Routes(), [("home", 2.0)] * 600))
    codes = Counter(code for code, _ in outcomes)
    assert set(codes) <= {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
    assert codes["OK"] and codes["OK"] < 600
    if fixed >= INLINE_MS:  # beside a forward in the loop, calls may wait in gRPC until they have expired
        assert codes["RESOURCE_EXHAUSTED"]
    pushbacks = [pushback for code, pushback in outcomes if code == "RESOURCE_EXHAUSTED"]
    assert all(pushback is not None and int(pushback) >= -1 for pushback in pushbacks)


def test_the_limit_of_one_scenario_leaves_the_queue_to_another():
    routes = Routes.model_validate({"scenarios": {"home": {"max_concurrent": 2}}})
    calls = [*[("home", 20.0)] * 60, *[("cart", 20.0)] * 10]
    outcomes = asyncio.run(storm(Slow(10.0), routes, calls))
    assert Counter(code for code, _ in outcomes[:60])["RESOURCE_EXHAUSTED"] >= 40
    assert {code for code, _ in outcomes[60:]} == {"OK"}
