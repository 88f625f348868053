"""Both clients against servers that answer as told: retries, deadlines, connections, parts, and what errors say."""

from __future__ import annotations

import asyncio
import math
import random
import textwrap
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import grpc
import numpy as np
import pytest
from asked_servers import in_turn, refusal, scores, serving
from hypothesis import given
from hypothesis import strategies as st
from tiny_world import ITEMS, USER

from swrec_prod.errors import (
    BusyError,
    CallerError,
    ConfigError,
    ExpiredError,
    NotFoundError,
    RequestError,
    ServerError,
    UnavailableError,
)
from swrec_prod.serving.client import AsyncClient, Client, Retries, ScoredItems, Tls, aio, sync
from swrec_prod.serving.client.channels import Lines
from swrec_prod.serving.client.retry import FULL_CHANCES, Attempts, Budget, Failure
from swrec_prod.serving.protocol import ranking_pb2

KINDS = ("sync", "aio")
GONE = grpc.StatusCode.UNAVAILABLE
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


def ask(kind: str, target: str, method: str = "score", *, options=None, **arguments):
    """What a method of either client returns."""
    if kind == "sync":
        with Client(target, **(options or {})) as client:
            return getattr(client, method)(**arguments)

    async def inside():
        async with AsyncClient(target, **(options or {})) as client:
            return await getattr(client, method)(**arguments)

    return asyncio.run(inside())


def score(kind: str, target: str, items=(1, 2, 3), options=None, **more) -> ScoredItems:
    return ask(kind, target, options=options, scenario="home", user={}, items={"item_id": items}, **more)


# Asking again


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "failure",
    [refusal(GONE), refusal(grpc.StatusCode.CANCELLED), refusal(FULL, pushback_ms="5"), refusal(GONE, pushback_ms="5")],
    ids=["gone", "cancelled", "busy", "gone with pushback"],
)
def test_what_passes_is_asked_again(kind, failure):
    with serving({"Score": in_turn(failure, failure, scores)}) as asked:
        assert score(kind, asked.target).score.tolist() == [[1], [2], [3]]
    assert len(asked.bodies) == 3 and len(set(asked.bodies)) == 1
    assert len(set(asked.peers)) > 1, "not all over the connection that failed"


REFUSALS = {
    "no pushback": (refusal(FULL, "quota"), BusyError, r"127.0.0.1:\d+: RESOURCE_EXHAUSTED: quota; ask again later"),
    "never": (refusal(FULL, "quota", "-1"), BusyError, r"quota; ask again later, or another server"),
    "gone for good": (
        refusal(GONE, "no", "-1"),
        UnavailableError,
        r"no server at 127.0.0.1:\d+: no; check the address",
    ),
    "pushback of no number": (refusal(FULL, "x", "soon"), BusyError, r"ask again later"),
    "later than the deadline": (refusal(FULL, "queue", "60000"), BusyError, r"queue; ask again in 60000 ms"),
    "an error of the request": (refusal(grpc.StatusCode.INVALID_ARGUMENT, "age"), RequestError, r":\d+: age$"),
    "not found": (refusal(grpc.StatusCode.NOT_FOUND, "model"), NotFoundError, r":\d+: model$"),
    "unknown caller": (refusal(grpc.StatusCode.UNAUTHENTICATED), CallerError, "check the client's token"),
    "forbidden": (refusal(grpc.StatusCode.PERMISSION_DENIED), CallerError, "check the client's token"),
    "a fault": (refusal(grpc.StatusCode.INTERNAL, "error 1f\n2e"), ServerError, r":\d+: INTERNAL: error 1f 2e$"),
    "too old": (refusal(grpc.StatusCode.UNIMPLEMENTED), ServerError, "update it"),
    "too large": (refusal(FULL, "Received message larger than max (5 vs. 4)"), RequestError, "send fewer candidates"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", REFUSALS)
def test_what_stays_is_asked_once_and_said_on_one_line(case, kind):
    answer, error, message = REFUSALS[case]
    with serving({"Score": answer}) as asked, pytest.raises(error, match=message) as failure:
        score(kind, asked.target)
    assert len(asked.bodies) == 1 and "\n" not in str(failure.value)
    assert type(failure.value) is error


@pytest.mark.parametrize("kind", KINDS)
def test_attempts_end(kind):
    options = {"retries": Retries(attempts=3, first=0.001)}
    with serving({"Score": refusal(GONE)}) as asked, pytest.raises(UnavailableError):
        score(kind, asked.target, options=options)
    assert len(asked.bodies) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_has_one_deadline_for_all_its_attempts(kind):
    async def slow(data, context):
        await asyncio.sleep(30)

    late = pytest.raises(ExpiredError, match=r"no answer from .* within 3 s; raise timeout, or send fewer")
    with serving({"Score": in_turn(refusal(FULL, pushback_ms="200"), slow)}) as asked, late:
        score(kind, asked.target, timeout=3)
    first, second = asked.left
    rounded = 0.02  # gRPC sends what is left in steps of up to 10 ms, rounded up
    assert second <= first - 0.2 + rounded and first <= 3 + rounded


@pytest.mark.parametrize("timeout", [0, -1, "5", True, math.inf, math.nan, Fraction(10**400), 1e300, None])
def test_a_timeout_is_seconds(timeout):
    with Client("127.0.0.1:9") as client, pytest.raises(RequestError if timeout is not None else UnavailableError):
        client.score("home", {}, {}, timeout=timeout)


@pytest.mark.parametrize("kind", KINDS)
def test_no_server_is_said(kind):
    with pytest.raises(UnavailableError, match=r"no server at 127.0.0.1:9: .*; check the address"):
        score(kind, "127.0.0.1:9")


def attempts(retries=None, timeout=5.0, draw=0.5, budget=None):
    return Attempts(retries or Retries(), budget or Budget(0.1), timeout, clock=lambda: 0.0, draw=lambda: draw)


def test_waits_grow_to_a_bound_and_are_random_below_it():
    retries = Retries(attempts=9, first=0.1, longest=1.0)
    bounds = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    for draw in (0.0, 0.3, 0.999):
        call = attempts(retries, draw=draw)
        assert [call.wait(Failure(GONE, "")) for _ in bounds] == pytest.approx([draw * bound for bound in bounds])
        assert call.wait(Failure(GONE, "")) is None


@given(st.integers(0, 4000), st.floats(0, 0.999), st.floats(0.1, 3))
def test_a_pushback_is_kept_and_never_waited_for_in_vain(pushback, draw, timeout):
    wait = attempts(timeout=timeout, draw=draw).wait(Failure(FULL, "", pushback))
    assert wait is None if pushback / 1e3 >= timeout else wait is None or pushback / 1e3 <= wait < timeout


def test_a_budget_bounds_retries_when_everything_fails():
    budget = Budget(0.1)
    refused = sum(attempts(budget=budget).wait(Failure(GONE, "")) is None for _ in range(1000))
    assert 1000 - refused == FULL_CHANCES
    for _ in range(100):
        budget.earn()
    again = sum(attempts(budget=budget).wait(Failure(GONE, "")) is not None for _ in range(1000))
    assert 9 <= again <= 10  # a tenth of the answered calls


def test_a_stream_that_was_refused_costs_nothing_but_time():
    call = attempts(Retries(attempts=2, first=0.1, longest=1.0), budget=(budget := Budget(0.1)))
    refused = Failure(GONE, "Stream removed (RST_STREAM (Received RST_STREAM with error code 7))")
    waits = [call.wait(refused) for _ in range(100)]
    assert waits[:5] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5]) and waits[-1] == 0.5
    assert budget.chances == FULL_CHANCES and call.wait(Failure(GONE, "")) is not None


# Connections


@pytest.mark.parametrize("kind", KINDS)
def test_calls_spread_over_connections_of_their_own(kind):
    async def slow(data, context):
        await asyncio.sleep(0.05)
        return await scores(data)

    requests = [{"scenario": "home", "user": {}, "items": {"item_id": [i]}} for i in range(32)]
    with serving({"Score": slow}) as asked:
        if kind == "sync":
            with Client(asked.target, channels=4) as client:
                found = [one.score[0, 0] for one in client.score_many(requests, in_flight=8)]
        else:

            async def many():
                async with AsyncClient(asked.target, channels=4) as client:
                    return [one.score[0, 0] async for one in client.score_many(requests, in_flight=8)]

            found = asyncio.run(many())
    assert found == list(range(32))
    assert Counter(asked.peers).keys() and len(set(asked.peers)) == 4
    assert min(Counter(asked.peers).values()) >= 4


@given(st.lists(st.sampled_from("tg"), max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_a_call_takes_the_line_with_the_fewest(steps, channels, streams):
    lines, taken, draw = Lines([object() for _ in range(channels)], streams), [], random.Random(0)
    for step in steps:
        if step == "t" and len(taken) < channels * streams:
            avoid = draw.choice([None, *lines.lines])
            line = lines.take(avoid)
            taken.append(line)
            others = [one.in_flight for one in lines.lines if one is not avoid or one is line]
            assert line.in_flight - 1 <= min(others) and line.in_flight <= streams
        elif step == "g" and taken:
            lines.give(taken.pop(draw.randrange(len(taken))))
    assert sum(one.in_flight for one in lines.lines) == len(taken)


def test_a_thousand_threads_share_a_client_though_the_server_allows_few_streams():
    async def slow(data, context):
        await asyncio.sleep(0.002)
        return await scores(data)

    limit = [("grpc.max_concurrent_streams", 10)]
    with serving({"Score": slow}, limit) as asked, Client(asked.target, 60, channels=2, streams=20) as client:
        begin = threading.Barrier(1000)

        def one(i):
            begin.wait()
            return client.score("home", {}, {"item_id": [i]}).score[0, 0]

        with ThreadPoolExecutor(1000) as threads:
            assert list(threads.map(one, range(1000))) == list(range(1000))
    assert len(asked.bodies) == 1000


def test_a_thousand_tasks_do_too():
    async def many(target):
        async with AsyncClient(target, 60, channels=2, streams=20) as client:
            return await asyncio.gather(*(client.score("home", {}, {"item_id": [i]}) for i in range(1000)))

    with serving({"Score": scores}, [("grpc.max_concurrent_streams", 10)]) as asked:
        assert [one.score[0, 0] for one in asyncio.run(many(asked.target))] == list(range(1000))


@pytest.mark.parametrize("kind", KINDS)
def test_waiting_for_a_place_counts(kind):
    async def slow(data, context):
        await asyncio.sleep(1)
        return await scores(data)

    options = {"channels": 1, "streams": 1, "max_candidates": 1}
    with serving({"Score": slow}) as asked, pytest.raises(ExpiredError):
        score(kind, asked.target, items=[1, 2], timeout=0.3, options=options)
    assert len(asked.bodies) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_goes_along(kind):
    with serving({"Score": scores}) as asked:
        score(kind, asked.target, options={"token": "s3cret"})
        score(kind, asked.target)
    assert [metadata.get("authorization") for metadata in asked.metadata] == ["Bearer s3cret", None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": ""}, "target is ''; give host:port"),
        ({"channels": 0}, "channels is 0; give 1 or more"),
        ({"streams": 1.5}, "streams is 1.5; give 1 or more"),
        ({"token": "a\nb"}, "token: it holds a character that is no printable ASCII"),
        ({"tls": Tls(ca="none.pem")}, "tls: none.pem: No such file"),
        ({"tls": Tls(cert="c.pem")}, "give both cert and key"),
    ],
)
@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_a_client_that_cannot_be_is_refused(options, message, make):
    with pytest.raises(ConfigError, match=message):
        make(**{"target": "127.0.0.1:9", **options})


def test_a_closed_client_says_so():
    with Client("127.0.0.1:9") as client:
        pass
    with pytest.raises(UnavailableError, match="closed channel"):
        client.score("home", {}, {"item_id": [1]})


# Parts


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_request_is_sent_in_parts(kind):
    items = {"item_id": np.arange(25), "tags": [["t"] * (i % 3) for i in range(25)], "price": [None, 1.5] * 12 + [2.0]}
    with serving({"Score": scores}) as asked:
        found = ask(kind, asked.target, options={"max_candidates": 10}, scenario="home", user=USER, items=items)
    assert found.score[:, 0].tolist() == list(range(25))
    sent = sorted(map(ranking_pb2.ScoreRequest.FromString, asked.bodies), key=lambda part: part.items[0].ints[0])
    assert len(sent) == 3 and all(part.user == sent[0].user for part in sent)
    columns = [list(zip(*(part.items for part in sent), strict=True))[i] for i in range(3)]
    assert [i for part in columns[0] for i in part.ints] == list(range(25))
    assert [n for part in columns[1] for n in part.lengths] == [i % 3 for i in range(25)]
    assert all(len(part.strings) == sum(part.lengths) for part in columns[1])
    assert [x for part in columns[2] for x in part.floats] == [1.5] * 12 + [2.0]


@pytest.mark.parametrize("kind", KINDS)
def test_all_parts_are_by_one_version(kind):
    """The server changes its version after two parts."""
    seen = []

    async def changing(data, context):
        seen.append(data)
        return await scores(data, version="1" if len(seen) <= 2 else "2")

    with serving({"Score": changing}) as asked:
        found = score(kind, asked.target, items=range(30), options={"max_candidates": 10})
    assert found.version == "2" and found.score[:, 0].tolist() == list(range(30))
    assert len(seen) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_versions_that_never_agree_are_not_mixed(kind):
    async def by_candidate(data, context):
        first = ranking_pb2.ScoreRequest.FromString(data).items[0].ints[0]
        return await scores(data, version="1" if first < 5 else "2")

    mixed = pytest.raises(UnavailableError, match=r"echo/1 and echo/2 each scored some of the candidates")
    with serving({"Score": by_candidate}) as asked, mixed:
        score(kind, asked.target, items=range(10), options={"max_candidates": 5})


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_that_fails_fails_the_request(kind):
    async def by_candidate(data, context):
        if ranking_pb2.ScoreRequest.FromString(data).items[0].ints[0] >= 5:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
        return await scores(data)

    with serving({"Score": by_candidate}) as asked, pytest.raises(RequestError, match="no"):
        score(kind, asked.target, items=range(10), options={"max_candidates": 5})


# What else can be asked


@pytest.mark.parametrize("kind", KINDS)
def test_models_and_decisions(kind):
    async def models(data, context):
        item = ranking_pb2.Input(name="tags", type="string", several=True)
        model = ranking_pb2.Model(name="m", version="3", is_default=True, tasks=["click"], scenarios=["home"])
        model.items.append(item)
        return ranking_pb2.ListModelsResponse(models=[model]).SerializeToString()

    async def decided(data, context):
        request = ranking_pb2.ExplainRequest.FromString(data)
        reasons = [f"{request.model}/{request.version} for {request.unit} in {request.scenario}"]
        return ranking_pb2.ExplainResponse(model="m", debias_strength=0.5, reasons=reasons).SerializeToString()

    with serving({"ListModels": models, "Explain": decided}) as asked:
        [model] = ask(kind, asked.target, "list_models")
        why = ask(kind, asked.target, "explain", scenario="home", model="m", version=3, unit="u1")
    assert (model.name, model.version, model.is_default, model.scenarios) == ("m", "3", True, ("home",))
    assert model.items == (("tags", "string", True),) and model.user == ()
    assert (why.debias_strength, why.reasons) == (0.5, ("m/3 for u1 in home",))


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_is_ready_or_not(kind, tiny_server):
    for model, ready in (("", True), ("mscan", True), ("nothing", False)):
        assert ask(kind, tiny_server, "ready", model=model, timeout=30) is ready
    assert ask(kind, "127.0.0.1:9", "ready", timeout=0.2) is False


def test_an_answer_of_something_else_is_a_fault():
    async def other(data, context):
        return b"\xff\xffhello"

    with serving({"Score": other}) as asked, pytest.raises(ServerError, match=r"no swrec.v1.ScoreResponse"):
        score("sync", asked.target)


# The server that is meant


def test_both_clients_and_parts_score_alike(tiny_server):
    items = {name: values * 10 for name, values in ITEMS.items()}
    question = {"scenario": "home", "user": USER, "items": items, "model": "mscan", "timeout": 30}
    whole = ask("sync", tiny_server, **question)
    assert len(set(whole.score[:, 0].round(4))) == 2
    for kind in KINDS:
        found = ask(kind, tiny_server, options={"max_candidates": 3}, **question)
        for name in ("score", "probability", "interest_logit", "scenario_logit"):
            np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=1e-5)
        assert found._replace(**dict.fromkeys(whole._fields[:4])) == whole._replace(**dict.fromkeys(whole._fields[:4]))


@pytest.mark.parametrize("version", [2, "2", np.int64(2)])
def test_a_version_may_be_a_number(version, tiny_server):
    question = {"scenario": "home", "user": USER, "items": ITEMS, "model": "mscan", "timeout": 30}
    assert ask("sync", tiny_server, version=version, **question).version == "2"


@pytest.mark.parametrize(("module", "kind"), [(sync, "sync"), (aio, "aio")])
def test_the_examples_run(module, kind):
    lines = [line for line in module.__doc__.splitlines() if line.startswith("    ") or not line]
    code = textwrap.dedent("\n".join(lines))
    with serving({"Score": scores}) as asked:
        code = code.replace("127.0.0.1:8500", asked.target)
        found: dict = {}
        if kind == "aio":
            body = textwrap.indent(code, "  ")
            code = f"import asyncio\nasync def f():\n{body}\n  return scored\nscored = asyncio.run(f())"
        exec(code, found)
    assert found["scored"].score[:, 0].tolist() == [1, 2, 3] and found.get("best", 2) == 2
