"""Whether to ask again, and when: rules without a socket, for both clients.

A call is asked again when the server is not there or about to end (UNAVAILABLE, and CANCELLED, as which a drain may end
a call that we did not cancel), after a random wait whose bound grows, so that clients do not come back all at once
("full jitter"); and when it is too busy (RESOURCE_EXHAUSTED) and says when to come back. All of it happens inside the
call's own deadline. Retries are a small share of all calls: when everything fails, asking again makes it worse.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc

from swrec_prod.errors import (
    BusyError,
    CallerError,
    ExpiredError,
    NotFoundError,
    RequestError,
    ServerError,
    SwrecError,
    UnavailableError,
)

PUSHBACK = "grpc-retry-pushback-ms"  # trailing metadata: when to ask again; negative: not at all
GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
FULL_CHANCES = 20.0  # retries that may come at once


@dataclass(frozen=True)
class Retries:
    """When to ask again.

    attempts: of one call, the first one included; 1: never again. first, longest: bounds of the wait before the second
    attempt, and before any, seconds; the bound doubles each time. share: retries for each call that was answered.
    """

    attempts: int = 4
    first: float = 0.02
    longest: float = 1.0
    share: float = 0.1


class Failure(NamedTuple):
    """How an attempt ended. pushback_ms: what the server said of asking again; None: nothing."""

    code: grpc.StatusCode
    details: str
    pushback_ms: int | None = None

    @property
    def never_begun(self) -> bool:
        """Whether the server has as many calls on the connection as it allows, and looked at none of this one.

        gRPC says so in words alone: HTTP/2's error code 7 is REFUSED_STREAM. Such a call neither is an attempt nor
        costs the budget: asking again later is what HTTP/2 wants.
        """
        return self.code is grpc.StatusCode.UNAVAILABLE and "RST_STREAM" in self.details and "code 7" in self.details


class Budget:
    """Keeps retries to a share of the answered calls. Threads may share it: a lost update does no harm."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.chances = FULL_CHANCES

    def earn(self) -> None:
        """A call was answered."""
        self.chances = min(FULL_CHANCES, self.chances + self.share)

    def spend(self) -> bool:
        """Take a retry, if one is left."""
        if self.chances < 1:
            return False
        self.chances -= 1
        return True


class Attempts:
    """The attempts of one call.

    clock: seconds; draw: a number in [0, 1).
    """

    def __init__(
        self,
        retries: Retries,
        budget: Budget,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.retries, self.budget, self._clock, self._draw = retries, budget, clock, draw
        self.end = clock() + timeout
        self.failed = self.refused = 0

    @property
    def left(self) -> float:
        """Seconds until the deadline; not below 0."""
        return max(0.0, self.end - self._clock())

    def wait(self, failure: Failure) -> float | None:
        """Seconds to wait before asking again; None: do not."""
        if failure.never_begun:
            self.refused += 1
            later = self._backoff(self.refused)
            return later if later < self.left else None
        self.failed += 1
        seconds = self._seconds(failure)
        if self.failed >= self.retries.attempts or seconds is None or seconds >= self.left:
            return None
        return seconds if self.budget.spend() else None

    def _seconds(self, failure: Failure) -> float | None:
        pushback = failure.pushback_ms
        if pushback is not None and failure.code in (*GONE, grpc.StatusCode.RESOURCE_EXHAUSTED):
            return None if pushback < 0 else pushback / 1e3 * (1 + 0.1 * self._draw())
        return self._backoff(self.failed) if failure.code in GONE else None

    def _backoff(self, times: int) -> float:
        return self._draw() * min(self.retries.longest, self.retries.first * 2 ** min(times - 1, 30))


def failure_of(error: Any) -> Failure:
    """What a grpc.RpcError says, of either client."""
    said = [value for key, value in error.trailing_metadata() or () if key == PUSHBACK]
    return Failure(error.code(), " ".join((error.details() or "").split()), _milliseconds(said[0]) if said else None)


def _milliseconds(text: str | bytes) -> int:
    """A pushback; what is no number means not to ask again, as in gRPC's own clients."""
    try:
        return int(text)
    except ValueError:
        return -1


# what gRPC for asyncio says of a stream that ends while requests are being written to it, whatever ended it
CUT_OFF = Failure(grpc.StatusCode.INTERNAL, "Internal error from Core")


def error_of(failure: Failure, target: str, timeout: float) -> SwrecError:
    """Our own error for a call that is not asked again."""
    code, details, pushback = failure
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFoundError(f"{target}: {details}")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return RequestError(f"{target}: {details}")
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return CallerError(f"{target}: {code.name}: {details}; check the client's token")
    if code in GONE or (code, details) == CUT_OFF[:2]:
        return UnavailableError(f"no server at {target}: {details}; check the address, or ask another one")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ExpiredError(f"no answer from {target} within {timeout:g} s; raise timeout, or send fewer candidates")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _busy(details, target, pushback)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ServerError(f"{target}: {details}; the server does not know this call, update it")
    return ServerError(f"{target}: {code.name}: {details}")


def _busy(details: str, target: str, pushback: int | None) -> SwrecError:
    if "larger than max" in details:  # grpc's own words, before any handler sees the message
        return RequestError(f"{target}: {details}; send fewer candidates, or raise --max-message-mb of the server")
    remedy = f"in {pushback} ms" if pushback is not None and pushback >= 0 else "later, or another server"
    text = f"{target}: RESOURCE_EXHAUSTED: {details}; ask again {remedy}"
    return BusyError(text, -1 if pushback is None else pushback)
