"""20,000 malformed messages, in both protocols: each is answered by a code of its own, none is a fault of the server's.

`make fuzz` sends more of them, of other seeds: FUZZ_MINUTES says for how long.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health
from hypothesis import given, settings
from hypothesis import strategies as st
from mutated_messages import decoded, encoded, mutated
from tiny_world import ITEMS, SCENARIOS, USER

from swrec_prod.serving.client import make_request
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.process.server import services
from swrec_prod.serving.protocol import inference, wire
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.watching.counts import Counts, served_by

SCORE, INFER = "/swrec.v1.Ranking/Score", "/inference.GRPCInferenceService/ModelInfer"
IN_PROCESS, OVER_SOCKETS = 9_000, 1_500  # messages of each protocol
OF_CLIENTS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
AND_OF_SIZE = {*OF_CLIENTS, "RESOURCE_EXHAUSTED"}
INNER = re.compile(
    r"Traceback|0x[0-9a-f]{6}|\.py\b|NoneType|ndarray|numpy|torch|google\.protobuf|Error\b|<class|<built"
)
EVERY = 50  # messages between two valid ones
GROWTH = 50  # MiB
MINUTES = float(os.environ.get("FUZZ_MINUTES", 0))


class Aborted(Exception):
    """What a call's context raises to end it."""


class Context:
    """A call without a socket."""

    def __init__(self) -> None:
        self.status, self.details = "OK", ""

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        self.status, self.details = code.name, details
        raise Aborted

    def set_code(self, code: grpc.StatusCode) -> None:
        self.status = code.name

    def set_details(self, details: str) -> None:
        self.details = details

    def time_remaining(self) -> float:
        return 30.0

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def auth_context(self) -> dict[str, Any]:
        return {}

    def set_trailing_metadata(self, metadata: Any) -> None:
        pass

    def add_done_callback(self, callback: Any) -> None:
        pass

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return False


class Details:
    """What is looked up to find a method."""

    invocation_metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method


class Direct:
    """The server's own handlers, asked without sockets, on an event loop."""

    def __init__(self, repo: Path) -> None:
        router = Router.load(repo)
        counts, checks = Counts.alone(served_by(router)), health.aio.HealthServicer()
        self._services = services(router, Options(repo), counts, checks)
        self._runner = asyncio.Runner()

    def has(self, method: str) -> bool:
        return any(service.service(Details(method)) for service in self._services.values())

    def ask(self, method: str, message: bytes) -> tuple[str, str, bytes]:
        """Code, details and answer."""
        found = (service.service(Details(method)) for service in self._services.values())
        return self._runner.run(self._ask(next(handler for handler in found if handler), message))

    async def _ask(self, handler: grpc.RpcMethodHandler, message: bytes) -> tuple[str, str, bytes]:
        context, reply = Context(), b""
        with contextlib.suppress(Aborted):
            reply = await handler.unary_unary(message, context)
        return context.status, context.details, reply

    def close(self) -> None:
        self._runner.close()


@pytest.fixture(scope="module")
def direct(tiny_repo) -> Iterator[Direct]:
    with_counts = Direct(tiny_repo)
    yield with_counts
    with_counts.close()


def valid_scores() -> list[bytes]:
    """Requests in our own protocol: of both models, columns of all types, with all that is optional and without."""
    messages = []
    for model in ("mscan", "shared_bottom"):
        request = make_request("home", USER, ITEMS)
        request.model = model
        messages.append(request.SerializeToString())
        request.version, request.request_id, request.unit = ("2" if model == "mscan" else "1"), "r-1", "u1"
        request.debias_strength = 0.1
        messages.append(request.SerializeToString())
    return messages


def valid_infers() -> list[bytes]:
    """The same in the Open Inference Protocol: values as bytes and as numbers, of one row and of several."""
    user = {
        "user_id": ("BYTES", [1], packed_texts("u1")),
        "age": ("INT64", [1], struct.pack("<q", 30)),
        "invited_by": ("BYTES", [1], packed_texts("u2")),
        "hour": ("FP64", [1], struct.pack("<d", 5.0)),
        "history.item": ("INT64", [1, 3], struct.pack("<3q", 1, 2, 3)),
        "history.scenario": ("BYTES", [1, 3], packed_texts("home", "cart", "home")),
    }
    items = {
        "item_id": ("INT64", [2], struct.pack("<2q", 4, 5)),
        "tags": ("BYTES", [2], packed_texts("t1", "t2")),
        "tags.lengths": ("INT32", [2], struct.pack("<2i", 2, 0)),
        "price": ("FP32", [1], struct.pack("<f", 1.5)),
        "price.lengths": ("INT32", [2], struct.pack("<2i", 1, 0)),
    }
    return [
        infer_request(model, {**user, **items}, parameters)
        for model in ("mscan", "shared_bottom")
        for parameters in ({"scenario": "home"}, {"scenario": "cart", "debias_strength": 0.1, "timeout": 10_000_000})
    ]


def packed_texts(*texts: str) -> bytes:
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def infer_request(
    model: str, tensors: dict[str, tuple[str, list[int], bytes]], parameters: dict[str, Any] | None = None
) -> bytes:
    """A ModelInferRequest."""
    request = inference.ModelInferRequest(model_name=model, id="r-1")
    for name, (datatype, shape, data) in tensors.items():
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(data)
    for name, value in (parameters or {}).items():
        field = {str: "string_param", float: "double_param", int: "int64_param"}[type(value)]
        setattr(request.parameters[name], field, value)
    return request.SerializeToString()


VALID = {SCORE: valid_scores, INFER: valid_infers}


def check_outcome(message: bytes, code: str, details: str, allowed: set[str]) -> None:
    assert code in allowed, (code, details, message[:500])
    assert not INNER.search(details), (details, message[:500])
    assert len(details) <= 1000 and "\n" not in details, details


def memory_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


def messages(method: str, number: int, seed: int) -> Iterator[bytes]:
    """So many mutated messages; with FUZZ_MINUTES, as many as fit into them."""
    draw, seeds = random.Random(seed), VALID[method]()
    until = time.monotonic() + 60 * MINUTES
    while number > 0 or time.monotonic() < until:
        number -= 1
        yield mutated(draw.choice(seeds), draw)


@pytest.fixture
def seed() -> int:
    """The same in every run of the tests; another one in each of `make fuzz`, which a failure shows."""
    return random.SystemRandom().randrange(2**32) if MINUTES else 7


@pytest.mark.slow
@pytest.mark.timeout(120 + 90 * MINUTES)
@pytest.mark.parametrize("method", VALID)
def test_malformed_messages_are_the_clients_fault_and_leave_no_trace(method, direct, seed):
    valid = VALID[method]()
    as_before = [direct.ask(method, message) for message in valid]
    assert [code for code, _, _ in as_before] == ["OK"] * len(valid)
    refused, before = 0, 0.0
    for i, message in enumerate(messages(method, IN_PROCESS, seed)):
        code, details, _ = direct.ask(method, message)
        check_outcome(message, code, details, OF_CLIENTS)
        refused += code != "OK"
        if i % EVERY == 0:
            at = i // EVERY % len(valid)
            assert direct.ask(method, valid[at]) == as_before[at], message
        if i == 1000:
            before = memory_mib()
    assert refused > IN_PROCESS / 4, "most messages are to be malformed"
    assert memory_mib() < before + GROWTH


@pytest.mark.timeout(120 + 90 * MINUTES)
@pytest.mark.parametrize("method", VALID)
def test_malformed_messages_over_sockets(method, tiny_server, seed):
    async def send() -> None:
        async with grpc.aio.insecure_channel(tiny_server) as channel:
            call = channel.unary_unary(method)
            valid = VALID[method]()[0]
            as_before = await call(valid, timeout=30)

            async def one(message: bytes) -> None:
                asked = call(message, timeout=30)
                check_outcome(message, (await asked.code()).name, await asked.details() or "", AND_OF_SIZE)

            waiting: list[bytes] = []
            for message in messages(method, OVER_SOCKETS, seed + 1):
                waiting.append(message)
                if len(waiting) == EVERY:
                    await asyncio.gather(*map(one, waiting))
                    assert await call(valid, timeout=30) == as_before
                    waiting.clear()

    asyncio.run(send())


# Requests that are right in form, and wrong in what they say

NAMES = st.sampled_from(
    [*USER, *ITEMS, "history.time", "history.item.length", "time", "", "item", "x" * 3000, "\x00", "\u7528\u6237"]
)
EXTREME = st.sampled_from([-(2**63), -1, 0, 1, 49, 50, 2**31, 2**63 - 1])
FLOATS = st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e300, -1e300, 1e-320, 0.0, 1.5])
TEXTS = st.sampled_from(["", "u1", "home", "t1", "\x00", "x" * 2000, "\u7528\u6237", "NaN", "4"])
LENGTHS = st.lists(st.sampled_from([-(2**31), -1, 0, 1, 2, 3, 1000, 2**31 - 1]), max_size=4)


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["ints", "floats", "strings", "none"]))
    column: dict[str, Any] = {"name": draw(NAMES)}
    if kind == "ints":
        column["ints"] = np.array(draw(st.lists(EXTREME, max_size=4)), wire.INTS).tobytes()
    elif kind == "floats":
        column["floats"] = np.array(draw(st.lists(FLOATS, max_size=4)), wire.FLOATS).tobytes()
    elif kind == "strings":
        column["strings"] = draw(st.lists(TEXTS, max_size=4))
    if draw(st.booleans()):
        column["lengths"] = np.array(draw(LENGTHS), wire.LENGTHS).tobytes()
    return column


@settings(max_examples=1000, deadline=None)
@given(
    part=st.sampled_from(["user", "items"]),
    wrong=st.lists(columns(), min_size=1, max_size=3),
    scenario=st.sampled_from([*SCENARIOS, "", "nowhere", "x" * 100_000, "\x00"]),
    model=st.sampled_from(["mscan", "shared_bottom"]),
    strength=st.none() | FLOATS,
)
def test_wrong_values_are_the_clients_fault(direct, part, wrong, scenario, model, strength):
    request = make_request("home", USER, ITEMS, debias_strength=strength)
    request.model, request.scenario = model, scenario
    kept = getattr(request, part)
    for column in wrong:
        replaced = [c for c in kept if c.name != column["name"]]
        del kept[:]
        kept.extend([*replaced, wire.Column(**column)])
    message = request.SerializeToString()
    code, details, reply = direct.ask(SCORE, message)
    check_outcome(message, code, details, OF_CLIENTS)
    if code == "OK":
        scored = wire.ScoreResponse.FromString(reply)
        assert np.isfinite(np.frombuffer(scored.score, wire.SCORES)).all()


@settings(max_examples=1000, deadline=None)
@given(
    name=st.sampled_from(["item_id", "history.item", "price", "tags", "user_id", "age", "tags.lengths", "other"]),
    datatype=st.sampled_from(["INT64", "INT32", "UINT64", "FP32", "FP64", "FP16", "BF16", "BOOL", "BYTES", "", "fp32"]),
    shape=st.lists(st.sampled_from([-1, 0, 1, 2, 3, 1000, 1001, 2**31, 2**62, 2**63 - 1]), max_size=4),
    data=st.binary(max_size=40) | st.lists(FLOATS, max_size=4).map(lambda v: np.array(v, "<f8").tobytes()),
)
def test_wrong_tensors_are_the_clients_fault(direct, name, datatype, shape, data):
    request = inference.ModelInferRequest.FromString(valid_infers()[0])
    at = next((i for i, tensor in enumerate(request.inputs) if tensor.name == name), None)
    if at is None:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(data)
    else:
        request.inputs[at].datatype, request.inputs[at].shape[:] = datatype, shape
        request.raw_input_contents[at] = data
    message = request.SerializeToString()
    code, details, _ = direct.ask(INFER, message)
    check_outcome(message, code, details, OF_CLIENTS)


def request_of(**fields: Any) -> bytes:
    request = make_request("home", USER, ITEMS)
    request.model = "mscan"
    for name, value in fields.items():
        setattr(request, name, value)
    return request.SerializeToString()


def many_columns() -> bytes:
    request = make_request("home", USER, ITEMS)
    request.user.extend(wire.Column(name=f"c{i}") for i in range(5000))
    return request.SerializeToString()


def nested_without_end() -> bytes:
    message = b""
    for _ in range(2000):
        message = encoded([(6, 2, message)])
    return message


def infer_of(shape: list[int], data: bytes = b"", datatype: str = "INT64") -> bytes:
    return infer_request("mscan", {"item_id": (datatype, shape, data)}, {"scenario": "home"})


def many_inputs() -> bytes:
    request = inference.ModelInferRequest(model_name="mscan")
    for i in (*range(9_000), 8_999):
        request.inputs.add(name=f"c{i}", datatype="INT64", shape=[0])
        request.raw_input_contents.append(b"")
    request.parameters["scenario"].string_param = "home"
    return request.SerializeToString()


HUGE = {
    "a scenario of a megabyte": (SCORE, request_of(scenario="x" * 2**20)),
    "a model's name of a megabyte": (SCORE, request_of(model="m" * 2**20)),
    "a version of a megabyte": (SCORE, request_of(version="9" * 2**20)),
    "5,000 columns": (SCORE, many_columns()),
    "2,000 messages in each other": (SCORE, nested_without_end()),
    "five megabytes": (SCORE, request_of(request_id="x" * (5 << 20))),
    "nothing": (SCORE, b""),
    "400,000 sizes": (INFER, infer_of([2**63 - 1] * 400_000)),
    "sizes whose product is beyond 64 bits": (INFER, infer_of([2**62, 2**62])),
    "sizes whose product is 0 in 64 bits": (INFER, infer_of([2**32, 2**32])),
    "a negative size": (INFER, infer_of([-1, -8], bytes(64))),
    "2**40 rows of nothing": (INFER, infer_of([2**40, 0])),
    "a byte too many": (INFER, infer_of([2], bytes(17))),
    "text that is longer than its bytes": (INFER, infer_of([1], b"\xff\xff\xff\xff", "BYTES")),
    "a million empty texts for one": (INFER, infer_of([1], bytes(4_000_000), "BYTES")),
    "a datatype of a megabyte": (INFER, infer_of([1], b"", "F" * 2**20)),
    "9,001 inputs": (INFER, many_inputs()),
    "5,000 parameters": (INFER, infer_request("mscan", {}, {f"p{i}": i for i in range(5000)})),
    "a scenario that is a number": (INFER, infer_request("mscan", {}, {"scenario": 1})),
    "no input": (INFER, infer_request("mscan", {}, {"scenario": "home"})),
}


@pytest.mark.parametrize("case", HUGE)
def test_what_is_extreme_is_refused_in_a_moment(case, tiny_server):
    method, message = HUGE[case]
    with grpc.insecure_channel(tiny_server) as channel:
        with pytest.raises(grpc.RpcError) as failure:
            channel.unary_unary(method)(message, timeout=30)
        check_outcome(message, failure.value.code().name, failure.value.details(), AND_OF_SIZE - {"OK"})
        assert channel.unary_unary(SCORE)(request_of(), timeout=30)


def test_a_message_that_unpacks_to_more_than_is_allowed_is_refused(tiny_server):
    message = request_of(request_id="x" * (50 << 20))
    with grpc.insecure_channel(tiny_server) as channel:
        call = channel.unary_unary(SCORE)
        with pytest.raises(grpc.RpcError) as failure:
            call(message, timeout=60, compression=grpc.Compression.Gzip)  # 50 KB on the wire
        assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert call(request_of(), timeout=30, compression=grpc.Compression.Gzip)


def test_an_unknown_method_is_not_implemented(tiny_server):
    with grpc.insecure_channel(tiny_server) as channel, pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary("/swrec.v1.Ranking/Scores")(b"", timeout=30)
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_mutator_changes_messages_and_reads_what_it_writes():
    draw, message = random.Random(1), valid_scores()[1]
    fields = decoded(message)
    assert fields is not None
    assert encoded(fields) == message
    others = [mutated(message, draw) for _ in range(200)]
    assert len(set(others)) > 150
    assert sum(decoded(other) is not None for other in others) > 50, "some stay messages"
