"""The address that all workers listen on: checked, and reserved while the server lives.

Workers share a port by SO_REUSEPORT, which would let a second server take half of the calls of the first one without a
word. So the supervisor looks first whether anybody has the port, and then holds it by a socket that never listens.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from swrec_prod.errors import ConfigError
from swrec_prod.serving.protocol.target import target


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """The port, which no other program can take within the block; 0 becomes a free one. Raises ConfigError."""
    with contextlib.ExitStack() as held:
        for family, address in _addresses(host, port):
            if port:
                _check_free(family, (address, port), host)
            port = _hold(held, family, (address, port), host)
        yield port


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as failure:
        raise ConfigError(f"host {host!r}: {failure.strerror}; use an address of this machine") from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _check_free(family: socket.AddressFamily, address: tuple[str, int], host: str) -> None:
    """Without SO_REUSEPORT, binding fails where anybody has the port; connections that have ended do not count."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(probe, address, host)


def _hold(held: contextlib.ExitStack, family: socket.AddressFamily, address: tuple[str, int], host: str) -> int:
    holder = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _bind(holder, address, host)
    return int(holder.getsockname()[1])


def _bind(socket_: socket.socket, address: tuple[str, int], host: str) -> None:
    if socket_.family == socket.AF_INET6:
        socket_.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        socket_.bind(address)
    except OSError as failure:
        raise ConfigError(
            f"cannot listen on {target(host, address[1])}: {failure.strerror}; is the port taken? 0 takes any free one"
        ) from None
