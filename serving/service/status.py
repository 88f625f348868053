"""The one place that turns our errors into gRPC codes."""

from __future__ import annotations

import logging
import secrets
from typing import NamedTuple, NoReturn

import grpc

from swrec_prod.errors import (
    BusyError,
    CallerError,
    DataError,
    ExpiredError,
    NotFoundError,
    RequestError,
    UnavailableError,
)

# The first class that fits decides. Everything else is INTERNAL, and its text stays in the log.
CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (CallerError, grpc.StatusCode.UNAUTHENTICATED),  # or PERMISSION_DENIED, of a caller that is known
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (DataError, grpc.StatusCode.INVALID_ARGUMENT),
    (BusyError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (ExpiredError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
)
MAX_DETAILS = 1000  # characters of a message; it may quote what the client sent, and travels in a header
PUSHBACK = "grpc-retry-pushback-ms"

_log = logging.getLogger(__name__)


class Status(NamedTuple):
    """How a call ends that has no answer. pushback_ms: when to ask again, -1: not at all, None: that is not said."""

    code: grpc.StatusCode
    details: str
    pushback_ms: int | None = None

    def end(self, context: grpc.aio.ServicerContext) -> bytes:
        """End a unary call with it, by what is returned; a tenth cheaper than `abort`, which raises."""
        context.set_code(self.code)
        context.set_details(self.details)
        if self.pushback_ms is not None:
            context.set_trailing_metadata(((PUSHBACK, str(self.pushback_ms)),))
        return b""

    async def abort(self, context: grpc.aio.ServicerContext) -> NoReturn:
        """End the call with it."""
        trailing = () if self.pushback_ms is None else ((PUSHBACK, str(self.pushback_ms)),)
        await context.abort(self.code, self.details, trailing)
        raise AssertionError("abort raises")


def status_of(failure: BaseException) -> Status:
    """What the client is told. Any other exception is logged under an id, and the client gets the id alone."""
    for kind, code in CODES:
        if isinstance(failure, kind):
            if isinstance(failure, CallerError) and failure.is_known:
                code = grpc.StatusCode.PERMISSION_DENIED
            return Status(code, str(failure)[:MAX_DETAILS], getattr(failure, "pushback_ms", None))
    error_id = secrets.token_hex(6)
    _log.error("internal error %s", error_id, exc_info=failure)
    return Status(grpc.StatusCode.INTERNAL, f"internal error {error_id}; the server's log says more")
