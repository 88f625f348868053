"""Batches in the queue: who joins them, who is left out, and that all of it is given back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from batched import Timed, assert_same, counted, drawn, scored_at_once

from swrec_prod.errors import BusyError, RequestError
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.routing.routes import Share
from swrec_prod.serving.scoring.predictor import Scored
from swrec_prod.serving.scoring.together import score_together
from swrec_prod.serving.service.admission import Admission
from swrec_prod.serving.service.batching import Batching
from swrec_prod.serving.service.costs import Costs
from swrec_prod.serving.service.schedule import Bounds
from swrec_prod.serving.watching.counts import Counts, served_by


@pytest.fixture(scope="module")
def router(tiny_repo: Path) -> Router:
    return Router.load(tiny_repo)


@pytest.mark.parametrize("wait", [0.0, 0.002])
def test_what_waits_is_scored_in_fewer_forwards_and_each_gets_its_own(router: Router, wait: float) -> None:
    calls = [drawn(n, 1 + n % 7) for n in range(300)]
    counts, read = counted(router)

    async def run() -> list[Any]:
        admission = Admission(counts, Bounds(1e9), batching=Batching(100, wait))
        outcomes = await scored_at_once(admission, router, calls)
        assert admission.schedule.requests == 0 and admission.schedule.waiting < 1e-6 and not admission._waiting
        return outcomes

    for call, got in zip(calls, asyncio.run(run()), strict=True):
        routed = router.route(call)
        assert_same(got, routed.predictor.score(call, routed.scenario, routed.strength))
    assert 1 <= read["batches"] <= read["requests"] / 5 and read["requests"] > 250


def test_a_request_that_nothing_goes_with_waits_no_longer_than_it_may(router: Router) -> None:
    async def run() -> Any:
        admission = Admission(Counts.alone(served_by(router)), batching=Batching(1_000, 0.01))
        return await scored_at_once(admission, router, [drawn(1, 5)], seconds=60.0)

    [got] = asyncio.run(run())
    assert isinstance(got, Scored)


def test_one_with_little_time_waits_no_longer_than_half_of_it(router: Router) -> None:
    """A wait for others that is longer than the deadline would otherwise leave every request without an answer."""

    async def run() -> Any:
        admission = Admission(Counts.alone(served_by(router)), Bounds(1e9), batching=Batching(1_000, wait=60.0))
        patient = asyncio.ensure_future(admission.scored(drawn(1, 5), router.route(drawn(1, 5)), 3_600.0))
        await asyncio.sleep(0)
        hasty = asyncio.ensure_future(admission.scored(drawn(1, 5), router.route(drawn(1, 5)), 2.0))
        return await asyncio.gather(patient, hasty)

    patient, hasty = asyncio.run(run())
    assert_same(patient, hasty)


def test_a_failure_of_no_ones_own_ends_its_batch_and_the_next_is_scored(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([MemoryError("no room")])

    def fails_once(*given: Any) -> Any:
        for failure in failures:
            raise failure
        return score_together(*given)

    monkeypatch.setattr("swrec_prod.serving.service.admission.score_together", fails_once)
    calls = [drawn(n, 2) for n in range(1, 40)]

    async def run() -> tuple[list[Any], list[Any]]:
        admission = Admission(Counts.alone(served_by(router)), Bounds(1e9), batching=Batching(1_000, 0.01))
        both = await scored_at_once(admission, router, calls), await scored_at_once(admission, router, calls)
        assert admission.schedule.requests == 0 and not admission._waiting
        return both

    first, second = asyncio.run(run())
    failed = [outcome for outcome in first if isinstance(outcome, MemoryError)]
    assert len(failed) > 1 and all(isinstance(outcome, Scored) for outcome in first if outcome not in failed)
    assert all(isinstance(outcome, Scored) for outcome in second)


def test_limits_of_a_scenario_and_what_waits_are_given_back_by_batches(router: Router) -> None:
    """8 may wait or be scored at a time: of 20 at once the others are refused, and again when these are answered."""
    share = Share("home", max_concurrent=8)
    calls = [call for call in (drawn(n, 2) for n in range(1, 400)) if call.scenario == "home"][:20]
    assert len(calls) == 20

    async def run() -> list[list[Any]]:
        admission = Admission(Counts.alone(served_by(router)), Bounds(1e9), batching=Batching(1_000, 0.02))

        async def all_at_once() -> list[Any]:
            routed = [router.route(call)._replace(share=share) for call in calls]
            asked = [admission.scored(call, one, 60.0) for call, one in zip(calls, routed, strict=True)]
            return await asyncio.gather(*asked, return_exceptions=True)

        return [await all_at_once() for _ in range(3)]

    for outcomes in asyncio.run(run()):
        assert [type(outcome) for outcome in outcomes] == [Scored] * 8 + [BusyError] * 12


def test_what_is_given_up_while_it_is_scored_leaves_nothing_and_others_have_theirs(router: Router) -> None:
    calls = [drawn(n, 200) for n in range(1, 61)]

    async def run() -> list[Any]:
        admission = Admission(Counts.alone(served_by(router)), Bounds(1e9), batching=Batching(20_000, 0.01))
        asked = [asyncio.ensure_future(admission.scored(call, router.route(call), 60.0)) for call in calls]
        while not any(not job.is_waiting for job in admission._waiting):
            await asyncio.sleep(0)
        for one in asked[::3]:
            one.cancel()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        while admission._is_active:
            await asyncio.sleep(0)
        assert admission.schedule.requests == 0 and admission.schedule.waiting < 1e-6 and not admission._waiting
        return outcomes

    for i, outcome in enumerate(asyncio.run(run())):
        assert isinstance(outcome, Scored) or (i % 3 == 0 and isinstance(outcome, asyncio.CancelledError))


def test_a_batch_is_expected_to_take_as_much_longer_as_forwards_have_until_one_was_seen() -> None:
    predictor: Any = Timed(0.01)
    alone = Costs()
    for _ in range(200):
        alone.learn(predictor, 50, 4 * predictor.milliseconds(50))
    batches = Costs(alone)
    assert batches.milliseconds(predictor, 50) == alone.milliseconds(predictor, 50) > 3.9 * predictor.milliseconds(50)
    for _ in range(200):
        batches.learn(predictor, 50, predictor.milliseconds(50))
    assert batches.milliseconds(predictor, 50) < 1.1 * predictor.milliseconds(50)
    assert alone.milliseconds(predictor, 50) > 3.9 * predictor.milliseconds(50)


def test_nobody_is_scored_who_has_gone_and_a_failure_is_not_shared(router: Router) -> None:
    calls = [drawn(n, 2) for n in range(0, 40, 2)]
    calls[5].user.clear()

    async def run() -> list[Any]:
        admission = Admission(Counts.alone(served_by(router)), Bounds(1e9), batching=Batching(1_000, 0.005))
        asked = [asyncio.ensure_future(admission.scored(call, router.route(call), 60.0)) for call in calls]
        await asyncio.sleep(0)
        asked[7].cancel()
        return await asyncio.gather(*asked, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert isinstance(outcomes[5], RequestError) and isinstance(outcomes[7], asyncio.CancelledError)
    assert all(isinstance(outcome, Scored) for i, outcome in enumerate(outcomes) if i not in (5, 7))
