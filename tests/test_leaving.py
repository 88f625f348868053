"""A worker that leaves: connections that wait to be accepted are not reset."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from swrec_prod.serving.process.leaving import connections, stop_listening, waiting

LOCAL = "127.0.0.1"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket as gRPC has one, in a group of those that share the port."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind((LOCAL, 0))
        one.listen()
        yield one


def test_it_says_how_many_wait(listening: socket.socket) -> None:
    assert waiting(listening) == 0
    with socket.create_connection(listening.getsockname()), socket.create_connection(listening.getsockname()):
        assert waiting(listening) == 2
        listening.accept()[0].close()
        assert waiting(listening) == 1


def test_what_was_sent_on_a_waiting_connection_is_read_before_the_place_is_given_up(listening: socket.socket) -> None:
    async def accepted_late() -> bytes:
        port = listening.getsockname()[1]
        leaving = asyncio.create_task(stop_listening(port))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not leaving.done(), "a connection waits"
        one, _ = listening.accept()
        await leaving
        assert connections(port) == 1
        with one:
            return one.recv(10)

    with socket.create_connection(listening.getsockname()) as client:
        client.sendall(b"a call")
        assert asyncio.run(accepted_late()) == b"a call"
    with pytest.raises(OSError):
        listening.accept()
