"""Clients that behave badly, and clients that suffer from others: the server keeps nothing of the former."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from drawn_requests import poisoned, request_of
from runs import wait_for
from tiny_world import launch

from swrec_prod.serving.protocol import wire

SCORE = "/swrec.v1.Ranking/Score"
OWN = (("grpc.use_local_subchannel_pool", 1),)  # a connection for each channel
SETTLED = 10.0  # seconds that the server gets to close what is of clients that are gone


class Server(NamedTuple):
    """A server of these tests' own. process: its supervisor's id."""

    target: str
    process: int

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.target.partition(":")
        return host, int(port)

    def files(self) -> int:
        """Open file descriptors, sockets too, of all its processes."""
        return sum(len(list(Path(f"/proc/{process}/fd").iterdir())) for process in family(self.process))

    def memory_mib(self) -> float:
        """What its processes hold, what they share counted for each."""
        statuses = [Path(f"/proc/{process}/status").read_text() for process in family(self.process)]
        return sum(int(status.partition("VmRSS:")[2].split()[0]) for status in statuses) / 1024

    def settles(self, files: int) -> bool:
        """Whether it soon has no more of them than it had."""
        until = time.monotonic() + SETTLED
        while self.files() > files and time.monotonic() < until:
            time.sleep(0.05)
        return self.files() <= files


def family(process: int) -> Iterator[int]:
    yield process
    for tasks in Path(f"/proc/{process}/task").glob("*/children"):
        for child in tasks.read_text().split():
            yield from family(int(child))


@pytest.fixture(scope="module")
def server(tiny_repo, tmp_path_factory) -> Iterator[Server]:
    port_file = tmp_path_factory.mktemp("faults") / "port"
    with launch(
        tiny_repo, port_file, queue_ms=1e5
    ) as process:  # the machine may be slow; here nothing is to be refused
        yield Server(wait_for(port_file, process), process.pid)
        process.terminate()


pytestmark = pytest.mark.process


def score(target: str, message: bytes) -> bytes:
    with grpc.insecure_channel(target) as channel:
        return channel.unary_unary(SCORE)(message, timeout=60)


def test_nobody_gets_what_is_anothers(server):
    """Each of 400 requests, in flight beside others, has the very answer that it has alone."""
    messages = [request_of(number, candidates=1 + number % 7) for number in range(400)]

    async def ask(at_once: int) -> list[bytes]:
        turns = asyncio.Semaphore(at_once)
        channels = [grpc.aio.insecure_channel(server.target, OWN) for _ in range(4)]

        async def one(number: int) -> bytes:
            async with turns:
                return await channels[number % 4].unary_unary(SCORE)(messages[number], timeout=60)

        try:
            return await asyncio.gather(*map(one, range(len(messages))))
        finally:
            await asyncio.gather(*(channel.close() for channel in channels))

    alone, together = asyncio.run(ask(1)), asyncio.run(ask(64))
    assert alone == together
    replies = [wire.ScoreResponse.FromString(reply) for reply in together]
    assert [reply.request_id for reply in replies] == [f"request {number}" for number in range(400)]
    assert len({reply.score for reply in replies}) == 400


def test_a_poisoned_request_fails_alone(server):
    good = {number: score(server.target, request_of(number)) for number in range(40)}

    async def ask() -> None:
        async with grpc.aio.insecure_channel(server.target) as channel:
            call = channel.unary_unary(SCORE)

            async def one(number: int) -> None:
                if number % 3 == 0:
                    asked = call(poisoned(number), timeout=60)
                    assert await asked.code() is grpc.StatusCode.INVALID_ARGUMENT
                    assert "price" in await asked.details()
                else:
                    assert await call(request_of(number % 40), timeout=60) == good[number % 40]

            await asyncio.gather(*map(one, range(300)))

    asyncio.run(ask())


def test_clients_that_leave_in_the_middle_leave_nothing(server):
    """1,000 connections that end while a call is on its way, or being answered."""
    as_before, files = score(server.target, request_of(1)), server.files()

    async def leave(number: int) -> None:
        channel = grpc.aio.insecure_channel(server.target, OWN)
        call = channel.unary_unary(SCORE)(request_of(number, candidates=200), timeout=60)
        with contextlib.suppress(asyncio.TimeoutError, asyncio.CancelledError, grpc.aio.AioRpcError):
            await asyncio.wait_for(call, random.Random(number).random() * 0.02)
        await channel.close()

    async def leave_all() -> None:
        for start in range(0, 1000, 50):
            await asyncio.gather(*map(leave, range(start, start + 50)))

    asyncio.run(leave_all())
    assert score(server.target, request_of(1)) == as_before
    assert server.settles(files)


def test_cancelled_and_hasty_calls_leave_nothing(server):
    """3,000 calls, one in ten cancelled and one in ten with a deadline of a millisecond; `make soak` has millions."""
    as_before, files = score(server.target, request_of(1)), server.files()
    messages = [request_of(number, candidates=100) for number in range(50)]
    draw, codes = random.Random(1), Counter[str]()

    async def client(call: grpc.aio.UnaryUnaryMultiCallable) -> None:
        for _ in range(95):
            kind = draw.random()
            asked = call(draw.choice(messages), timeout=0.001 if kind < 0.1 else 60)
            if kind > 0.9:
                asyncio.get_running_loop().call_later(draw.random() * 0.01, asked.cancel)
            codes[(await asked.code()).name] += 1

    async def soak() -> None:
        async with grpc.aio.insecure_channel(server.target) as channel:
            await asyncio.gather(*(client(channel.unary_unary(SCORE)) for _ in range(16)))

    asyncio.run(soak())
    before = server.memory_mib()
    asyncio.run(soak())
    assert set(codes) <= {"OK", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
    assert codes["OK"] > 0.6 * codes.total()
    assert score(server.target, request_of(1)) == as_before
    assert server.settles(files)
    assert server.memory_mib() < before + 20


def test_hundreds_of_connections_that_say_nothing_are_no_burden(server):
    as_before, files = score(server.target, request_of(2)), server.files()
    with contextlib.ExitStack() as opened:
        for _ in range(400):
            opened.enter_context(socket.create_connection(server.address, timeout=10))
        assert score(server.target, request_of(2)) == as_before
    assert server.settles(files)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """An HTTP/2 frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def call_frames(stream: int, message: bytes) -> bytes:
    """A call: headers as literals (RFC 7541, section 6.2.2), and the message in one frame."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": SCORE,
        ":authority": "server",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    block = b"".join(
        b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in headers.items()
    )
    data = b"\x00" + struct.pack(">I", len(message)) + message
    return frame(1, 4, stream, block) + frame(0, 1, stream, data)


def window(size: int) -> bytes:
    """Settings: how many bytes of each answer may be under way, SETTINGS_INITIAL_WINDOW_SIZE."""
    return frame(4, 0, 0, struct.pack(">HI", 4, size))


def read(connection: socket.socket, answers: int) -> bytes:
    """What comes until there are so many answers, or until nothing comes."""
    data = b""
    with contextlib.suppress(TimeoutError):
        while data.count(b"request ") < answers and (more := connection.recv(1 << 16)):
            data += more
    return data


def test_a_client_that_does_not_read_holds_nobody_up(server):
    """It asks 50 times and takes not one byte of an answer; others have theirs, and later it has its own."""
    as_before, files = score(server.target, request_of(3)), server.files()
    with socket.create_connection(server.address, timeout=10) as slow:
        slow.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + window(0))
        for stream in range(1, 101, 2):
            slow.sendall(call_frames(stream, request_of(stream)))
        for _ in range(20):
            assert score(server.target, request_of(3)) == as_before
        slow.settimeout(0.2)
        assert b"request " not in read(slow, 50)
        slow.settimeout(30)
        slow.sendall(window(1 << 20))
        assert read(slow, 50).count(b"request ") == 50
    assert server.settles(files)
