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
from collections.abc import Iterator

LATER = 1.1  # gRPC spreads the greatest age by a tenth to both sides
SPARE = 0.5  # seconds, over the age of the youngest connection
EVERY = 0.1  # seconds between looks at what is left


def patience(connection_age: float) -> float:
    """Seconds in which every connection reaches its greatest age."""
    return LATER * connection_age + SPARE


async def leave(port: int, seconds: float) -> None:
    """Take no more connections on the port, and wait until the last one is gone, or so many seconds."""
    stop_listening(port)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while connections(port) and loop.time() < end:
        await asyncio.sleep(EVERY)


def stop_listening(port: int) -> None:
    """Give the place among those who share the port to the others: gRPC itself knows no way to do only this."""
    for one in _sockets(port):
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            one.shutdown(socket.SHUT_RD)


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
