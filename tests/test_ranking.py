"""swrec.v1.Ranking beyond one request and its scores: streams, what is served, why; and how errors become codes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import pytest
from tiny_world import ITEMS, SCENARIOS, STRENGTHS, USER

from swrec_prod.errors import (
    BusyError,
    CallerError,
    DataError,
    ExpiredError,
    NotFoundError,
    RequestError,
    UnavailableError,
)
from swrec_prod.serving.client import Client, make_request
from swrec_prod.serving.protocol import ranking_pb2, ranking_pb2_grpc
from swrec_prod.serving.service.answering import Outcome
from swrec_prod.serving.service.ranking import MOST_IN_FLIGHT, RankingService
from swrec_prod.serving.service.status import MAX_DETAILS, Status, status_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def stub(tiny_server) -> Iterator[ranking_pb2_grpc.RankingStub]:
    with grpc.insecure_channel(tiny_server) as channel:
        yield ranking_pb2_grpc.RankingStub(channel)


def asked(scenario: str, request_id: str, **items: list) -> ranking_pb2.ScoreRequest:
    request = make_request(scenario, USER, {**ITEMS, **items})
    request.model, request.request_id = "mscan", request_id
    return ranking_pb2.ScoreRequest.FromString(request.SerializeToString())


# Streams


def test_each_request_of_a_stream_is_answered_and_a_wrong_one_ends_nothing(stub, tiny_server):
    requests = {f"r{i}": asked(SCENARIOS[i % 3], f"r{i}") for i in range(3 * MOST_IN_FLIGHT)}
    requests["r5"] = asked("home", "r5", item_id=["4", "5"])
    requests["r8"] = asked("hom", "r8")
    answers = {answer.request_id: answer for answer in stub.ScoreStream(iter(requests.values()), timeout=60)}
    assert answers.keys() == requests.keys()
    errors = {name: answer.error for name, answer in answers.items() if answer.WhichOneof("outcome") == "error"}
    assert {name: error.code for name, error in errors.items()} == {"r5": INVALID.value[0], "r8": 5}
    assert "value '4' is str, expected int64" in errors["r5"].message
    assert "did you mean home?" in errors["r8"].message
    with Client(tiny_server, timeout=30) as client:
        alone = {name: client.score(name, USER, ITEMS, model="mscan").score.reshape(-1).tolist() for name in SCENARIOS}
    for name in requests.keys() - errors.keys():
        assert list(answers[name].response.score) == alone[requests[name].scenario]
        assert answers[name].response.request_id == name


def test_bytes_that_are_no_request_end_no_stream(tiny_server):
    with grpc.insecure_channel(tiny_server) as channel:
        stream = channel.stream_stream("/swrec.v1.Ranking/ScoreStream")
        sent = [b"\xff\xffnot a message", asked("home", "r1").SerializeToString()]
        answers = [ranking_pb2.StreamedScore.FromString(data) for data in stream(iter(sent), timeout=60)]
    codes = {answer.request_id: answer.error.code for answer in answers}
    assert codes == {"": INVALID.value[0], "r1": 0}


class Slow:
    """Stands where Answering stands: the first request takes until the last has come, or until it is stopped."""

    router = None

    def __init__(self) -> None:
        self.begun, self.most, self.stopped = 0, 0, 0
        self.released = asyncio.Event()

    async def outcome(self, form, data, context) -> Outcome:
        self.begun += 1
        self.most = max(self.most, self.begun)
        try:
            if data == b"slow":
                await self.released.wait()
            await asyncio.sleep(0)
            return Outcome(data.decode(), b"", None)
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        finally:
            self.begun -= 1


async def these(*requests: bytes):
    for request in requests:
        yield request


def ids(answers: list[bytes]) -> list[str]:
    return [ranking_pb2.StreamedScore.FromString(answer).request_id for answer in answers]


def test_a_slow_request_of_a_stream_holds_no_other_up():
    async def ask() -> list[bytes]:
        slow, answers = Slow(), []
        async for answer in RankingService(slow).score_stream(these(b"slow", b"1", b"2", b"3"), None):
            answers.append(answer)
            if len(answers) == 3:
                slow.released.set()
        return answers

    found = ids(asyncio.run(ask()))
    assert sorted(found[:3]) == ["1", "2", "3"]
    assert found[3] == "slow"


def test_a_stream_has_only_so_many_requests_in_flight():
    async def ask() -> tuple[int, int]:
        slow = Slow()
        stream = RankingService(slow).score_stream(these(*[b"slow"] * 200), None)
        first = asyncio.ensure_future(anext(stream))
        for _ in range(1000):
            await asyncio.sleep(0)
        most = slow.begun
        slow.released.set()
        rest = [await first] + [answer async for answer in stream]
        return most, len(rest)

    assert asyncio.run(ask()) == (MOST_IN_FLIGHT, 200)


def test_what_a_stream_has_begun_is_stopped_with_it():
    async def ask() -> tuple[int, int]:
        slow = Slow()
        stream = RankingService(slow).score_stream(these(b"slow", b"1"), None)
        assert ids([await anext(stream)]) == ["1"]
        await stream.aclose()
        await asyncio.sleep(0.01)
        return slow.stopped, slow.begun

    assert asyncio.run(ask()) == (1, 0)


# What is served, and why


def test_models_are_listed_with_what_a_request_needs(stub):
    mscan, shared_bottom = stub.ListModels(ranking_pb2.ListModelsRequest(), timeout=30).models
    assert (mscan.name, mscan.version, mscan.is_default, mscan.architecture) == ("mscan", "2", True, "mscan")
    assert (list(mscan.tasks), list(mscan.scenarios), mscan.fallback_scenario) == (["click", "buy"], [*SCENARIOS], "")
    assert (mscan.causal, shared_bottom.causal) == (True, False)
    assert {column.name for column in mscan.user} == USER.keys()
    assert {(column.name, column.type, column.several) for column in mscan.items} == {
        ("item_id", "int64", False),
        ("tags", "string", True),
        ("price", "float64", False),
    }
    assert "history.item" not in {column.name for column in shared_bottom.user}


def test_routing_is_explained(stub):
    explained = stub.Explain(ranking_pb2.ExplainRequest(model="mscan", scenario="cart"), timeout=30)
    assert (explained.model, explained.version, explained.scored_scenario) == ("mscan", "2", "cart")
    assert (explained.fallback, explained.debias_strength) == (False, STRENGTHS["cart"])
    assert any("mscan" in reason for reason in explained.reasons)
    with pytest.raises(grpc.RpcError, match=r"scenario 'hom' is unknown") as failure:
        stub.Explain(ranking_pb2.ExplainRequest(model="mscan", scenario="hom"), timeout=30)
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND


# Errors


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (RequestError("x"), Status(INVALID, "x")),
        (DataError("x"), Status(INVALID, "x")),
        (NotFoundError("x"), Status(grpc.StatusCode.NOT_FOUND, "x")),
        (CallerError("x"), Status(grpc.StatusCode.UNAUTHENTICATED, "x")),
        (CallerError("x", is_known=True), Status(grpc.StatusCode.PERMISSION_DENIED, "x")),
        (BusyError("x", 7), Status(grpc.StatusCode.RESOURCE_EXHAUSTED, "x", 7)),
        (ExpiredError("x"), Status(grpc.StatusCode.DEADLINE_EXCEEDED, "x")),
        (UnavailableError("x"), Status(grpc.StatusCode.UNAVAILABLE, "x")),
        (RequestError("é" * 5000), Status(INVALID, "é" * MAX_DETAILS)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_has_its_code(failure, status):
    assert status_of(failure) == status


@pytest.mark.parametrize("pushback", [-1, 40])
def test_a_client_is_told_when_to_ask_again(pushback):
    class Busy(Slow):
        async def outcome(self, form, data, context) -> Outcome:
            return Outcome("", b"", status_of(BusyError("not scored", pushback)))

    async def ask() -> tuple[grpc.StatusCode, list]:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((RankingService(Busy()).handlers(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await channel.unary_unary("/swrec.v1.Ranking/Score")(b"", timeout=30)
            stream = channel.stream_stream("/swrec.v1.Ranking/ScoreStream")(these(b""), timeout=30)
            answers = [ranking_pb2.StreamedScore.FromString(answer) async for answer in stream]
        await server.stop(None)
        assert [answer.error.pushback_ms for answer in answers] == [pushback]
        return failure.value.code(), list(failure.value.trailing_metadata())

    code, trailing = asyncio.run(ask())
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ("grpc-retry-pushback-ms", str(pushback)) in [tuple(pair) for pair in trailing]
