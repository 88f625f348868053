"""Many requests over one call: every answer is its request's, what is wrong with one is its own, and stopping stops."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import grpc
import numpy as np
import pytest
from asked_servers import scores, serving
from hypothesis import given
from hypothesis import strategies as st
from tiny_world import USER

from swrec_prod.errors import (
    BusyError,
    ExpiredError,
    NotFoundError,
    RequestError,
    ServerError,
    SwrecError,
    UnavailableError,
)
from swrec_prod.serving.client import AsyncClient, Client, ScoredItems, Streamed
from swrec_prod.serving.client.retry import CUT_OFF
from swrec_prod.serving.client.streaming import Requests
from swrec_prod.serving.protocol import wire

KINDS = ("sync", "aio")
Asks = Callable[..., list[Streamed]]


def streamed(kind: str, target: str, requests: Iterable[Mapping[str, Any]], **arguments: Any) -> list[Streamed]:
    """All answers that a stream of either client gives. channels, streams, max_candidates: of the client."""
    own = {name: arguments.pop(name) for name in ("channels", "streams", "max_candidates") if name in arguments}
    if kind == "sync":
        with Client(target, 60, **own) as client:
            return list(client.score_stream(requests, **arguments))

    async def ask() -> list[Streamed]:
        async with AsyncClient(target, 60, **own) as client:
            return [ended async for ended in client.score_stream(requests, **arguments)]

    return asyncio.run(ask())


def request(number: int, candidates: int = 2, **more: Any) -> dict[str, Any]:
    items = {
        "item_id": [(number + i) % 50 for i in range(candidates)],
        "tags": [[f"t{i}"] * (i % 3) for i in range(candidates)],
        "price": [None if i % 4 == 3 else float(i) for i in range(candidates)],
    }
    user = {**USER, "user_id": f"u{number % 20}"}
    return {"scenario": "cart", "user": user, "items": items, "model": "mscan", **more}


def same(one: ScoredItems, other: ScoredItems) -> None:
    for got, expected in zip(one[:4], other[:4], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)  # float32, summed in another order
    assert one[4:] == other[4:]


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_gets_what_it_gets_alone_or_its_own_error(kind: str, tiny_server: str) -> None:
    requests = [request(n, 1 + n % 5, request_id=f"r-{n}" if n % 2 else "") for n in range(60)]
    requests[7]["model"] = "mscam"
    requests[20]["items"] = {"item_id": [4, 5]}
    requests[31]["user"] = {"user_id": b"M"}
    requests[44]["scenario"] = "\ud800"
    ended = streamed(kind, tiny_server, requests, in_flight=8, timeout=100)
    assert sorted(one.position for one in ended) == list(range(60))
    errors = {one.position: type(one.error) for one in ended if one.error is not None}
    assert errors == {7: NotFoundError, 20: RequestError, 31: RequestError, 44: RequestError}
    with Client(tiny_server, 60) as client:
        for one in ended:
            assert one.request_id == requests[one.position]["request_id"]
            if one.scored is not None:
                same(one.scored, client.score(**requests[one.position]))


@pytest.mark.parametrize("kind", KINDS)
def test_one_above_the_limit_goes_in_parts_and_is_whole_again(kind: str, tiny_server: str) -> None:
    sizes = [1, 7, 3, 10, 4]
    ended = streamed(
        kind, tiny_server, [request(n, size) for n, size in enumerate(sizes)], max_candidates=3, timeout=60
    )
    with Client(tiny_server, 60) as client:
        for one in ended:
            assert one.scored is not None and one.request_id == one.scored.request_id == ""
            same(one.scored, client.score(**request(one.position, sizes[one.position])))
    assert sorted(one.position for one in ended) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_are_taken_than_are_in_flight_and_stopping_gives_the_place_back(kind: str, tiny_server: str) -> None:
    taken: list[int] = []

    def endless() -> Iterator[Mapping[str, Any]]:
        for number in range(10**9):
            taken.append(number)
            yield request(number)

    def look(ended: Streamed, answered: int) -> None:
        assert ended.error is None and len(taken) <= answered + 5

    if kind == "sync":
        with Client(tiny_server, 60, channels=1, streams=1) as client:
            for answered, ended in enumerate(client.score_stream(endless(), in_flight=5, timeout=60), 1):
                look(ended, answered)
                if answered == 30:
                    break
            assert client.score(**request(1)).model == "mscan"
        return

    async def ask() -> None:
        async with AsyncClient(tiny_server, 60, channels=1, streams=1) as client:
            answered = 0
            async with aclosing(client.score_stream(endless(), in_flight=5, timeout=60)) as stream:
                async for ended in stream:
                    look(ended, answered := answered + 1)
                    if answered == 30:
                        break
            assert (await client.score(**request(1))).model == "mscan"

    asyncio.run(ask())


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_without_requests_ends_and_what_cannot_be_is_refused(kind: str, tiny_server: str) -> None:
    assert streamed(kind, tiny_server, []) == []
    with pytest.raises(RequestError, match="in_flight is 0; give the number"):
        streamed(kind, tiny_server, [], in_flight=0)
    with pytest.raises(RequestError, match="timeout is -1"):
        streamed(kind, tiny_server, [], timeout=-1)


# What ends a stream


async def silent(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    async for _body in requests:
        pass
    yield b""


async def ends_at_once(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    await anext(aiter(requests))
    for answer in ():
        yield answer


async def refuses(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "about to end")
    yield b""


async def of_nobody(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    yield wire.StreamedScore(request_id="nobody's", response=b"").SerializeToString()


async def busy(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    async for body in requests:
        name = wire.ScoreRequest.FromString(body).request_id
        error = wire.StreamError(code=8, message="full", pushback_ms=7)
        yield wire.StreamedScore(request_id=name, error=error).SerializeToString()


ENDS = {
    "late": (silent, ExpiredError, "no answer from .* within 0.5 s"),
    "early": (ends_at_once, ServerError, "the stream ended with 3 requests unanswered"),
    "gone": (refuses, UnavailableError, "no server at .*: about to end"),
    "not ours": (of_nobody, ServerError, "is none to a request of it"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ENDS)
def test_what_ends_a_stream_is_raised(case: str, kind: str) -> None:
    stream, error, said = ENDS[case]
    timeout = 0.5 if case == "late" else 60
    with serving({}, streams={"ScoreStream": stream}) as asked, pytest.raises(SwrecError) as raised:
        streamed(kind, asked.target, [request(n) for n in range(3)], timeout=timeout)
    if kind == "aio" and CUT_OFF.details in str(raised.value):  # it ended while a request was written
        error, said = UnavailableError, "no server at .*; check the address"
    assert type(raised.value) is error and re.search(said, str(raised.value))


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_refused_says_when_to_come_back(kind: str) -> None:
    with serving({}, streams={"ScoreStream": busy}) as asked:
        ended = streamed(kind, asked.target, [request(n) for n in range(40)], in_flight=3)
    assert [(type(one.error), one.error.pushback_ms) for one in ended] == [(BusyError, 7)] * 40


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_callers_own_requests_is_raised_as_it_is(kind: str, tiny_server: str) -> None:
    def broken() -> Iterator[Mapping[str, Any]]:
        yield request(1)
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        streamed(kind, tiny_server, broken())


def test_a_closed_client_says_so(tiny_server: str) -> None:
    client = Client(tiny_server)
    client.close()
    with pytest.raises(UnavailableError, match="the client is closed"):
        list(client.score_stream([request(1)]))


# Without a socket


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "a", "b"])), max_size=30),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_whatever_the_order_of_answers_each_request_ends_once_with_its_own(
    drawn: list[tuple[int, str]], in_flight: int, order: random.Random
) -> None:
    """Sizes and ids are drawn: an id that is on its way already is refused, and later may be used again."""
    requests = [
        {"scenario": "home", "user": {}, "items": {"x": np.arange(size) + 100 * n}, "request_id": name}
        for n, (size, name) in enumerate(drawn)
    ]
    stream, sent, ended = Requests(requests, in_flight, 3, "here"), list[bytes](), list[Streamed]()
    while (asked := stream.next()) is not None or stream.waiting:
        assert stream.waiting <= in_flight
        if isinstance(asked, list):
            sent.extend(asked)
        elif asked is not None:
            ended.append(asked)
        else:
            body = sent.pop(order.randrange(len(sent)))
            name = wire.ScoreRequest.FromString(body).request_id
            answer = wire.StreamedScore(request_id=name, response=asyncio.run(scores(body)))
            if (one := stream.answered(answer.SerializeToString())) is not None:
                ended.append(one)
    assert sorted(one.position for one in ended) == list(range(len(requests))) and not sent
    for one in ended:
        if one.scored is None:
            assert drawn[one.position][1] and "is that of a request on its way" in str(one.error)
        else:
            assert one.scored.score[:, 0].tolist() == requests[one.position]["items"]["x"].tolist()
