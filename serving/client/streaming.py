"""The requests of one ScoreStream call, and which answer is whose: rules without a socket, for both clients.

A server answers each request when it is finished, under its id. So every request on its way has an id of its own: the
caller's, or `#` and its position; a request that is sent in parts has one for each of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from swrec_prod.errors import RequestError, ServerError, SwrecError
from swrec_prod.serving.client import calls
from swrec_prod.serving.client.reply import ScoredItems, joined, others_than_latest, scored
from swrec_prod.serving.client.request import make_call, message_of, parts_of
from swrec_prod.serving.client.retry import Failure, error_of
from swrec_prod.serving.client.values import shown
from swrec_prod.serving.protocol import wire

CODES = {code.value[0]: code for code in grpc.StatusCode}


class Streamed(NamedTuple):
    """How one request of a stream ended. position: which one it was, from 0 on; scored: its scores, None where there is
    an error, which is what Client.score would have raised.
    """

    position: int
    request_id: str
    scored: ScoredItems | None
    error: SwrecError | None


@dataclass
class Asked:
    """A request on its way. parts: answers by part, with the moment of each; missing: how many there are to come."""

    position: int
    request_id: str
    missing: int
    parts: dict[int, tuple[ScoredItems, float]] = field(default_factory=dict)
    error: SwrecError | None = None


class Requests:
    """Those of one stream: taken one by one, no more of them on their way than may be.

    in_flight: how many; most: candidates of a message. Raises RequestError for an in_flight that cannot be.
    """

    def __init__(self, requests: Iterable[Mapping[str, Any]], in_flight: int, most: int, target: str) -> None:
        if not isinstance(in_flight, int) or in_flight < 1:
            raise RequestError(f"in_flight is {shown(in_flight)}; give the number of requests on their way, 1 or more")
        self._rest: Iterator[tuple[int, Mapping[str, Any]]] = enumerate(requests)
        self._in_flight, self._most, self._target = in_flight, most, target
        self._asked: dict[str, Asked] = {}  # by the id that is used for it
        self._parts: dict[str, tuple[str, int]] = {}  # id of a message -> the request's, and which part it is
        self._is_over = False

    @property
    def waiting(self) -> int:
        """How many have been sent and are not answered."""
        return len(self._asked)

    def next(self) -> list[bytes] | Streamed | None:
        """The messages of the next request, or what is wrong with it; None where there is none, or no room for it."""
        if self._is_over or self.waiting >= self._in_flight:
            return None
        position, named = next(self._rest, (-1, None))
        if named is None:
            self._is_over = True
            return None
        try:
            return self._messages(position, named)
        except RequestError as wrong:
            return Streamed(position, str(named.get("request_id", "")), None, wrong)

    def answered(self, message: bytes) -> Streamed | None:
        """How a request has ended by this StreamedScore; None where parts of it are still to come."""
        name, part, outcome = self._read(message)
        asked = self._asked[name]
        if isinstance(outcome, ScoredItems):
            asked.parts[part] = outcome, time.monotonic()
        else:
            asked.error = asked.error or outcome
        asked.missing -= 1
        if asked.missing:
            return None
        del self._asked[name]
        return self._ended(asked)

    def ended_early(self) -> ServerError:
        """What to raise when the stream ends before all is answered."""
        return ServerError(f"{self._target}: the stream ended with {self.waiting} requests unanswered; ask them again")

    def _messages(self, position: int, named: Mapping[str, Any]) -> list[bytes]:
        call = make_call(**named)
        name = call.request_id or f"#{position}"
        parts = parts_of(call, self._most)
        ids = [name] if len(parts) == 1 else [f"{name}#{i}" for i in range(len(parts))]
        if taken := [one for one in (name, *ids) if one in self._asked or one in self._parts]:
            raise RequestError(f"request_id {shown(taken[0])} is that of a request on its way; give each its own")
        named_parts = [replace(part, request_id=one) for part, one in zip(parts, ids, strict=True)]
        made = [message_of(part).SerializeToString() for part in named_parts]
        self._parts.update({one: (name, i) for i, one in enumerate(ids)})
        self._asked[name] = Asked(position, call.request_id, len(parts))
        return made

    def _read(self, message: bytes) -> tuple[str, int, ScoredItems | SwrecError]:
        """Of a StreamedScore: the request, which part of it, and how that ended. Raises ServerError."""
        try:
            reply = wire.StreamedScore.FromString(message)
            name, part = self._parts.pop(reply.request_id)
        except (DecodeError, KeyError):
            raise ServerError(f"{self._target}: an answer on the stream is none to a request of it") from None
        if reply.WhichOneof("outcome") == "response":
            return name, part, scored(reply.response)
        error = reply.error
        code = CODES.get(error.code, grpc.StatusCode.UNKNOWN)
        return name, part, error_of(Failure(code, error.message, error.pushback_ms or None), self._target, 0.0)

    def _ended(self, asked: Asked) -> Streamed:
        if asked.error is not None:
            return Streamed(asked.position, asked.request_id, None, asked.error)
        parts = [asked.parts[i] for i in sorted(asked.parts)]
        found = [part for part, _ in parts]
        if others_than_latest(parts):
            mixed = calls.mixed_versions(self._target, found)
            return Streamed(asked.position, asked.request_id, None, mixed)
        whole = joined(found)._replace(request_id=asked.request_id)
        return Streamed(asked.position, asked.request_id, whole, None)
