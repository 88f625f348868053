"""From the bytes of a request to those of its answer, whatever protocol it came by."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import numpy as np

from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.routing.router import Routed, Router
from swrec_prod.serving.scoring.predictor import Scored
from swrec_prod.serving.service.admission import Admission
from swrec_prod.serving.service.callers_file import Caller, Callers
from swrec_prod.serving.service.exposing import Exposing
from swrec_prod.serving.service.status import Status, status_of
from swrec_prod.serving.watching.access_log import AccessLog
from swrec_prod.serving.watching.counts import Counts


class Form(NamedTuple):
    """How a protocol writes requests and answers.

    read: a request's call, or one of a subclass, which the others get; route: who scores it; both raise RequestError
    and NotFoundError. write: the answer. kept: of a call and its bytes, what the exposure log keeps.
    """

    read: Callable[[bytes], ScoreCall]
    route: Callable[[Any, Router], Routed]
    write: Callable[[Any, Routed, Scored], bytes]
    kept: Callable[[ScoreCall, bytes], ScoreCall | bytes]


class Outcome(NamedTuple):
    """How a request ended. request_id: its own, as far as it could be read; reply: empty unless status is None."""

    request_id: str
    reply: bytes
    status: Status | None


class Answering:
    """Routes, admits and scores requests, and counts how each of them ends. callers: None where anyone may ask;
    exposing: None where answers are not logged; access: None where requests are not; counts: what has been done.

    router: may be replaced by another one over the same packages; a request has one from its beginning to its end.
    """

    def __init__(
        self,
        router: Router,
        counts: Counts,
        admission: Admission,
        callers: Callers | None = None,
        exposing: Exposing | None = None,
        access: AccessLog | None = None,
    ) -> None:
        self.router, self._exposing, self._access = router, exposing, access
        self.counts, self._admission, self._callers = counts, admission, callers

    def caller(self, context: grpc.aio.ServicerContext) -> Caller | None:
        """Who makes a call. Raises CallerError for one that is not known."""
        return None if self._callers is None else self._callers.caller(context.invocation_metadata() or ())

    async def outcome(self, form: Form, data: bytes, context: grpc.aio.ServicerContext) -> Outcome:
        """Answer one request, which came by the call of this context, as the only one or on a stream."""
        began = time.perf_counter()
        counts, call, routed, code, rows, error = self.counts, None, None, "CANCELLED", 0, ""
        counts.begun()
        try:
            caller = self.caller(context)
            call = form.read(data)
            router = self.router
            routed = form.route(call, router)
            if caller is not None:
                caller.check(call)
            remaining = _sooner(context.time_remaining(), call.timeout)
            scored = await self._admission.scored(call, routed, remaining, caller)
            reply = form.write(call, routed, _finite(call, routed, scored))
            code, rows = "OK", len(scored.score)
            if self._exposing is not None:
                seconds, version = time.perf_counter() - began, router.experiments.version
                self._exposing.answered(form.kept(call, data), call, routed, scored, seconds, version)
            return Outcome(call.request_id, reply, None)
        except Exception as failure:
            status = status_of(failure)
            code, error = status.code.name, status.details
            return Outcome(call.request_id if call else "", b"", status)
        finally:
            seconds = time.perf_counter() - began
            counts.request(routed, code, seconds, rows)
            if self._access is not None:
                self._access.ended(call, routed, code, seconds, rows, error)


def _sooner(remaining: float | None, timeout: float | None) -> float | None:
    if remaining is None or timeout is None:
        return timeout if remaining is None else remaining
    return min(remaining, timeout)


def _finite(call: ScoreCall, routed: Routed, scored: Scored) -> Scored:
    """`scored`. Raises FloatingPointError when a score is not finite."""
    if not (np.isfinite(scored.score).all() and np.isfinite(scored.probability).all()):
        package = f"{routed.predictor.name}/{routed.predictor.version}"
        raise FloatingPointError(f"{package}: a score of request {call.request_id!r} is not finite")
    return scored
