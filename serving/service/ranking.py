"""The Ranking service: bytes in, bytes out, and the one place that turns our errors into gRPC codes."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from swrec_prod.errors import DataError, NotFoundError, RequestError
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.protocol.call import ScoreCall, call_of
from swrec_prod.serving.routing.router import Routed, Router
from swrec_prod.serving.scoring.predictor import Scored
from swrec_prod.serving.service.counts import Counts

# The first class that fits decides. Everything else is INTERNAL, and its text stays in the log.
CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (DataError, grpc.StatusCode.INVALID_ARGUMENT),
)
MAX_DETAILS = 1000  # characters of a message; it may quote what the client sent, and travels in a header

_log = logging.getLogger(__name__)


class RankingService:
    """swrec.v1.Ranking over a router.

    Quick predictors (predictor.QUICK) answer inside the event loop, the fastest way to serve a small model: handing a
    forward to a thread costs 3 to 30 % of the throughput with one client, 38 % with sixteen. Slower ones answer in a
    thread, since health checks and all other calls wait while the loop is busy: beside requests of 1,000 candidates to
    M-scan, health checks take 0.6 ms instead of 8 ms, at the same throughput. One thread is enough, because requests
    queue for the cores anyway.
    """

    def __init__(self, router: Router, counts: Counts) -> None:
        self.router, self.counts = router, counts
        self._thread = ThreadPoolExecutor(1, "forward")

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service's methods. They take raw bytes, since what grpc says of undecodable ones is not for clients."""
        return grpc.method_handlers_generic_handler(
            wire.SERVICE, {"Score": grpc.unary_unary_rpc_method_handler(self.score)}
        )

    async def score(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answer one serialised ScoreRequest, and count it."""
        begin, routed, rows, code = time.perf_counter(), None, 0, grpc.StatusCode.CANCELLED
        self.counts.begun()
        try:
            call = parse(data)
            routed = self.router.route(call)
            if routed.predictor.quick:
                reply = answer(call, routed)
            else:
                reply = await asyncio.get_running_loop().run_in_executor(self._thread, answer, call, routed)
            rows, code = call.rows, grpc.StatusCode.OK
            return reply
        except Exception as failure:
            code, details = status_of(failure)
        finally:
            self.counts.request(routed, code.name, time.perf_counter() - begin, rows)
        return await context.abort(code, details)


def parse(data: bytes) -> ScoreCall:
    """The call of a serialised ScoreRequest. Raises RequestError."""
    try:
        return call_of(wire.ScoreRequest.FromString(data))
    except DecodeError:
        raise RequestError(f"the {len(data)} bytes are no swrec.v1.ScoreRequest") from None


def answer(call: ScoreCall, routed: Routed) -> bytes:
    """A serialised ScoreResponse. Raises our errors, FloatingPointError when a score is not finite."""
    predictor = routed.predictor
    scored = predictor.score(call, routed.scenario, routed.strength)
    if not (np.isfinite(scored.score).all() and np.isfinite(scored.probability).all()):
        raise FloatingPointError(
            f"{predictor.name}/{predictor.version}: a score of request {call.request_id!r} is not finite"
        )
    return _response(call, routed, scored)


def status_of(failure: Exception) -> tuple[grpc.StatusCode, str]:
    """Code and text for the client. Any other exception is logged under an id, and the client gets the id alone."""
    for kind, code in CODES:
        if isinstance(failure, kind):
            return code, str(failure)[:MAX_DETAILS]
    error_id = secrets.token_hex(6)
    _log.error("internal error %s", error_id, exc_info=failure)
    return grpc.StatusCode.INTERNAL, f"internal error {error_id}; the server's log says more"


def _response(call: ScoreCall, routed: Routed, scored: Scored) -> bytes:
    predictor = routed.predictor
    return wire.ScoreResponse(
        request_id=call.request_id,
        model=predictor.name,
        version=predictor.version,
        debias_strength=scored.strength,
        tasks=predictor.tasks,
        scored_scenario=routed.scored_as,
        fallback=routed.fallback,
        probability=_bytes(scored.probability),
        score=_bytes(scored.score),
        interest_logit=_bytes(scored.interest_logit),
        scenario_logit=_bytes(scored.scenario_logit),
    ).SerializeToString()


def _bytes(array: np.ndarray) -> bytes:
    return array.astype(wire.SCORES, copy=False).tobytes()
