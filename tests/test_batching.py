"""Requests that are scored together: each has the scores that it has alone, and what is wrong with one is its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from batched import CLOSE, Timed, assert_same, drawn
from drawn_requests import poisoned, request_of
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import wait_for
from tiny_world import MODELS, SCENARIOS, launch

from swrec_prod.errors import ConfigError, DataError, RequestError
from swrec_prod.export.loaded import Logits
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.protocol.call import call_of
from swrec_prod.serving.routing.router import Routed, Router
from swrec_prod.serving.routing.routes import Share
from swrec_prod.serving.scoring import features
from swrec_prod.serving.scoring.predictor import Predictor, Scored
from swrec_prod.serving.scoring.together import Asked, score_together
from swrec_prod.serving.service.batching import Batch, Batching, Member
from swrec_prod.serving.service.costs import Costs
from swrec_prod.serving.service.schedule import Bounds, Schedule

FAR = 1e9  # a deadline that nothing misses


@pytest.fixture(scope="module")
def router(tiny_repo: Path) -> Router:
    return Router.load(tiny_repo)


# One forward


@pytest.mark.parametrize("model", MODELS)
def test_every_request_of_200_batches_is_scored_as_alone(router: Router, model: str) -> None:
    predictor, draw = router.predictor(model, ""), random.Random(1)
    for _ in range(200):
        scenario = draw.randrange(len(SCENARIOS))
        numbers = draw.sample(range(10_000), draw.randint(1, 8))
        asked = [Asked(drawn(n, draw.randint(1, 9)), draw.choice([-1.0, 0.0, 0.5])) for n in numbers]
        for one, got in zip(asked, score_together(predictor, asked, scenario), strict=True):
            assert isinstance(got, Scored)
            assert_same(got, predictor.score(one.call, scenario, one.strength))


@pytest.mark.parametrize("model", MODELS)
def test_a_wrong_request_is_refused_by_itself_in_the_words_that_it_gets_alone(router: Router, model: str) -> None:
    predictor = router.predictor(model, "")
    calls = [drawn(n, 3) for n in range(6)]
    calls[2] = call_of(wire.ScoreRequest.FromString(poisoned(2)))
    calls[4].user.clear()
    outcomes = score_together(predictor, [Asked(call, 0.5) for call in calls], 0)
    for i, (call, outcome) in enumerate(zip(calls, outcomes, strict=True)):
        if i in (2, 4):
            with pytest.raises((RequestError, DataError)) as alone:
                predictor.score(call, 0, 0.5)
            assert type(outcome) is alone.type and str(outcome) == str(alone.value)
        else:
            assert_same(outcome, predictor.score(call, 0, 0.5))


class Fails:
    """A predictor whose forward fails for many rows, or where a request has the rows that it cannot take."""

    def __init__(self, predictor: Predictor, cannot: int) -> None:
        self.encoder, self.scored, self.forward_of, self.cannot = (
            predictor.encoder,
            predictor.scored,
            predictor.forward,
            cannot,
        )

    def forward(self, packed: Any, scenario: int) -> Logits:
        rows = len(packed.items.scenario_B)
        if rows == self.cannot or rows > 10:
            raise RuntimeError(f"cannot take {rows} rows")
        return self.forward_of(packed, scenario)


def test_where_the_forward_of_all_fails_only_the_one_fails_that_fails_alone(router: Router) -> None:
    predictor = router.predictor("mscan", "")
    asked = [Asked(drawn(n, rows), 0.0) for n, rows in enumerate([5, 4, 7, 4])]
    failing: Any = Fails(predictor, cannot=7)
    outcomes = score_together(failing, asked, 1)
    assert [type(outcome) for outcome in outcomes] == [Scored, Scored, RuntimeError, Scored]
    assert_same(outcomes[3], predictor.score(asked[3].call, 1, 0.0))


def test_no_forward_has_more_values_than_one_request_may_have(router: Router, monkeypatch: Any) -> None:
    predictor, asked = router.predictor("mscan", ""), [Asked(drawn(n, 9), 0.0) for n in (1, 2, 3)]
    values = [predictor.encoder.user_values(predictor.encoder.encoded(one.call)) for one in asked]
    rows: list[int] = []
    forward = predictor.forward
    monkeypatch.setattr(predictor, "forward", lambda p, s: rows.append(len(p.items.scenario_B)) or forward(p, s))
    for most, expected in ((sum(values), [27]), (sum(values) - 1, [9, 9, 9])):
        monkeypatch.setattr("swrec_prod.serving.scoring.together.MAX_VALUES", most)
        score_together(predictor, asked, 0)
        assert rows == expected
        rows.clear()
    assert max(values) < features.MAX_VALUES


# Which requests


PREDICTORS = (Timed(0.01), Timed(0.05))
WAITING = st.tuples(st.sampled_from([0, 1]), st.sampled_from([0, 1]), st.integers(1, 50), st.floats(0.002, 0.2))


@settings(deadline=None)
@given(st.lists(WAITING, min_size=1, max_size=40), st.integers(1, 300))
def test_a_batch_is_of_one_program_within_its_rows_and_in_time_for_all(entries: list[Any], most: int) -> None:
    schedule, members = Schedule(Bounds(1e9, 10**9)), []
    for which, scenario, rows, patience in entries:
        predictor: Any = PREDICTORS[which]
        job = schedule.enter(0.0, predictor.milliseconds(rows), FAR, Share())
        job.deadline = patience
        members.append(Member(job, Routed(predictor, scenario, "", False, 0.0), rows))
    job = schedule.take(0.0).job
    if job is None:
        return
    first = next(member for member in members if member.job is job)
    rest = [member for member in members if member.job.is_waiting]
    batch = Batch.of(first, rest, Batching(most), Costs(), now=0.0)
    assert batch.members[0] is first and batch.rows == sum(member.rows for member in batch.members)
    assert batch.rows <= max(most, first.rows)
    assert all(first.goes_with(member) for member in batch.members)
    assert all(batch.cost / 1e3 <= member.job.deadline for member in batch.members)
    before = schedule.waiting
    schedule.join(batch.others, batch.cost)
    assert schedule.waiting == pytest.approx(before - sum(job.cost for job in batch.others), abs=1e-6)
    schedule.done(job, batch.cost / 1e3, others=batch.others)
    left = [member.job for member in rest if member.job not in batch.others]
    found = list(iter(lambda: schedule.take(0.0).job, None))
    assert {id(one) for one in found} <= {id(one) for one in left}
    assert schedule.requests == 0


# Over a socket


@pytest.fixture(scope="module")
def server(tiny_repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port_file = tmp_path_factory.mktemp("batching") / "port"
    with launch(tiny_repo, port_file, queue_ms=1e5, batch_rows=64, batch_wait_us=500) as process:
        yield wait_for(port_file, process)
        process.terminate()


@pytest.mark.process
def test_a_server_that_batches_answers_as_one_that_does_not(server: str, router: Router) -> None:
    async def ask() -> None:
        async with grpc.aio.insecure_channel(server) as channel:
            method = channel.unary_unary("/swrec.v1.Ranking/Score")

            async def one(number: int) -> None:
                if number % 10 == 0:
                    assert await method(poisoned(number), timeout=60).code() is grpc.StatusCode.INVALID_ARGUMENT
                    return
                reply = wire.ScoreResponse.FromString(await method(request_of(number, 1 + number % 7), timeout=60))
                assert reply.request_id == f"request {number}"
                call = drawn(number, 1 + number % 7)
                routed = router.route(call)
                expected = routed.predictor.score(call, routed.scenario, routed.strength)
                np.testing.assert_allclose(np.frombuffer(reply.score, "<f4"), expected.score.ravel(), **CLOSE)

            await asyncio.gather(*map(one, range(300)))

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("given_options", "said"),
    [({"batch_rows": -1}, "batch rows is -1"), ({"batch_wait_us": 10.0}, "give --batch-rows too")],
)
def test_what_batches_cannot_be_is_refused(given_options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Options(Path(), **given_options).checked()
