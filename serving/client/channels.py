"""Connections to a server: how they are made, and which one a call takes.

A server with several workers shares its port between them, and the kernel gives a whole connection to one worker. So a
client has several, each call takes the one with the fewest calls in flight, and no connection gets more calls at once
than servers allow: one above that limit would be refused.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from swrec_prod.errors import ConfigError

MAX_MESSAGE = 64 << 20  # bytes of an answer: 1,000 candidates of one task take 16 kB
KEEPALIVE_TIMEOUT_MS = 10_000


@dataclass(frozen=True)
class Tls:
    """PEM files. ca: of the authority that signed the server's certificate, None for those that the system trusts;

    cert, key: of the client, for servers that ask for one; name: the name in the server's certificate, where the
    target is written otherwise.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """For grpc. Raises ConfigError for files that are not readable."""
        if (self.cert is None) != (self.key is None):
            raise ConfigError("tls: a certificate and its key belong together: give both cert and key")
        ca, key, cert = (None if path is None else _read(Path(path)) for path in (self.ca, self.key, self.cert))
        return grpc.ssl_channel_credentials(ca, key, cert)


@dataclass(frozen=True)
class Connection:
    """How to reach a server.

    target: host:port. channels: connections; streams: calls in flight on one; keepalive: seconds after which a
    connection that is silent in a call is tried. token: who calls, for servers that want to know; it is readable on the
    way unless there is tls.
    """

    target: str
    channels: int = 4
    streams: int = 100
    tls: Tls | None = None
    token: str | None = None
    keepalive: float = 30.0

    def __post_init__(self) -> None:
        if not isinstance(self.target, str) or not self.target:
            raise ConfigError(f"target is {self.target!r}; give host:port, as '127.0.0.1:8500'")
        for name in ("channels", "streams"):
            number = getattr(self, name)
            if not isinstance(number, int) or number < 1:
                raise ConfigError(f"{name} is {number!r}; give 1 or more")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ConfigError("token: it holds a character that is no printable ASCII; give the token alone")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with every call."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    def open(self, grpc_: Any) -> list[Any]:
        """The channels. grpc_: grpc or grpc.aio."""
        if self.tls is None:
            return [grpc_.insecure_channel(self.target, options=self._options(i)) for i in range(self.channels)]
        credentials = self.tls.credentials()
        return [grpc_.secure_channel(self.target, credentials, options=self._options(i)) for i in range(self.channels)]

    def _options(self, i: int) -> list[tuple[str, Any]]:
        """Each channel gets a connection of its own: grpc shares those of channels with the same options."""
        named = self.tls is not None and self.tls.name is not None
        return [
            ("grpc.use_local_subchannel_pool", 1),
            ("swrec.channel", i),
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.keepalive_time_ms", int(1e3 * self.keepalive)),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
            *([("grpc.ssl_target_name_override", self.tls.name)] if named and self.tls else []),
        ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise ConfigError(f"tls: {path}: {failure.strerror}") from None


class Line:
    """One channel, with its callables by path."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.in_flight = 0
        self._calls: dict[str, Any] = {}

    def unary(self, path: str) -> Any:
        """What calls a method: bytes in, bytes out."""
        if path not in self._calls:
            self._calls[path] = self.channel.unary_unary(path)
        return self._calls[path]

    def stream(self, path: str) -> Any:
        """What calls a method that has a stream both ways."""
        return self.channel.stream_stream(path)


class Lines:
    """The channels of a client. Threads may share them. streams: calls in flight on one."""

    def __init__(self, channels: list[Any], streams: int) -> None:
        self.lines = [Line(channel) for channel in channels]
        self.streams = streams
        self._lock = threading.Lock()
        self._turn = 0

    def take(self, avoid: Line | None = None) -> Line:
        """The one with the fewest calls in flight, of equals each in turn. avoid: this one only if all others are full.

        Whoever takes lets no more callers in than all lines have streams.
        """
        with self._lock:
            self._turn += 1
            order = [self.lines[(self._turn + i) % len(self.lines)] for i in range(len(self.lines))]
            line = min(order, key=lambda one: (one.in_flight >= self.streams, one is avoid, one.in_flight))
            line.in_flight += 1
            return line

    def give(self, line: Line) -> None:
        """A call on it has ended."""
        with self._lock:
            line.in_flight -= 1
