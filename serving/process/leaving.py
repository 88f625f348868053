"""How a worker leaves while another one takes its place: no caller notices, whatever client it has.

It takes no more connections, and keeps answering on those that it has. Every connection reaches its greatest age
(Options.connection_age) sooner or later: gRPC then says so in HTTP/2's own way (GOAWAY, RFC 9113, section 6.8), calls
that are on their way are still answered, and the client connects again, to a worker that stays. What is left at the
end, as streams are, is drained as at SIGTERM (process/gate.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator

LATER = 1.1  # gRPC spreads the greatest age by a tenth to both sides
SPARE = 0.5  # seconds, over the age of the youngest connection
EVERY = 0.1  # seconds between looks at what is left
ACCEPTING, SOON = 5.0, 0.001  # seconds that connections may wait to be accepted, and between looks at them
UNACKED = 24  # bytes of Linux' tcp_info before tcpi_unacked, which is 4 long


def patience(connection_age: float) -> float:
    """Seconds in which every connection reaches its greatest age."""
    return LATER * connection_age + SPARE


async def leave(port: int, seconds: float) -> None:
    """Take no more connections on the port, and wait until the last one is gone, or so many seconds."""
    await stop_listening(port)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while connections(port) and loop.time() < end:
        await asyncio.sleep(EVERY)


async def stop_listening(port: int) -> None:
    """Give the place among those who share the port to the others: gRPC itself knows no way to do only this.

    Connections that wait to be accepted would be reset, with the calls that their clients have sent already. So it is
    done at a moment when none waits. (One whose handshake is under way at that moment is still reset, unless the system
    moves it to another worker: sysctl net.ipv4.tcp_migrate_req.)
    """
    for one in _sockets(port):
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            await _none_waits(one)
            one.shutdown(socket.SHUT_RD)


async def _none_waits(listening: socket.socket) -> None:
    for _ in range(int(ACCEPTING / SOON)):
        if waiting(listening) == 0:
            return
        await asyncio.sleep(SOON)


def waiting(listening: socket.socket) -> int:
    """How many connections wait to be accepted: what Linux says in the place of unacknowledged segments."""
    information = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, UNACKED + 4)
    return int.from_bytes(information[UNACKED : UNACKED + 4], sys.byteorder)


def connections(port: int) -> int:
    """How many connections this process has on its side of the port."""
    return sum(_is_connected(one) for one in _sockets(port))


def _sockets(port: int) -> Iterator[socket.socket]:
    """This process's sockets on the port, each while it is looked at."""
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), _duplicate(int(descriptor)) as one:
            if one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockname()[1] == port:
                yield one


def _duplicate(descriptor: int) -> socket.socket:
    """Another descriptor of the same socket. Raises OSError for what is none."""
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _is_connected(one: socket.socket) -> bool:
    try:
        return one.getpeername() is not None
    except OSError:
        return False
