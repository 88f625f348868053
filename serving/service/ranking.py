"""swrec.v1.Ranking: bytes in, bytes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError, Message

from swrec_prod.errors import RequestError
from swrec_prod.serving.protocol import ranking_pb2, wire
from swrec_prod.serving.protocol.call import ScoreCall, call_of
from swrec_prod.serving.routing.router import Routed
from swrec_prod.serving.scoring.predictor import Predictor, Scored
from swrec_prod.serving.service.answering import Answering, Form, Outcome
from swrec_prod.serving.service.status import status_of

MOST_IN_FLIGHT = 32  # requests of one stream; those behind them are read when one is answered


class RankingService:
    """The methods of the service."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service's methods. They take raw bytes, since what grpc says of undecodable ones is not for clients."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            wire.SERVICE,
            {
                "Score": unary(self.score),
                "ScoreStream": stream(self.score_stream),
                "ListModels": unary(self.list_models),
                "Explain": unary(self.explain),
            },
        )

    async def score(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answer one serialised ScoreRequest."""
        outcome = await self._answering.outcome(FORM, data, context)
        return outcome.reply if outcome.status is None else outcome.status.end(context)

    async def score_stream(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        """Answer serialised ScoreRequests, each when it is finished; what is wrong with one ends no stream."""
        incoming = aiter(requests)
        reading: asyncio.Future[bytes | None] | None = asyncio.ensure_future(anext(incoming, None))
        running: set[asyncio.Future[Any]] = set()
        try:
            while reading or running:
                waiting = {*running, reading} if reading and len(running) < MOST_IN_FLIGHT else running
                finished, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                running -= finished
                if reading in finished:
                    finished.remove(reading)
                    if (data := reading.result()) is None:
                        reading = None
                    else:
                        answering = self._answering.outcome(FORM, data, context)
                        running.add(asyncio.ensure_future(answering))
                        reading = asyncio.ensure_future(anext(incoming, None))
                for done in finished:
                    yield streamed(done.result())
        finally:
            for left in (*running, *([reading] if reading else ())):
                left.cancel()

    async def list_models(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """The packages that are served, by name and version."""
        try:
            self._answering.caller(context)
            return self._models().SerializeToString()
        except Exception as failure:
            status = status_of(failure)
        return await status.abort(context)

    def _models(self) -> Message:
        router = self._answering.router
        models = [
            described(predictor, is_default=router.is_default(predictor))
            for _, versions in sorted(router.predictors.items())
            for _, predictor in sorted(versions.items())
        ]
        return ranking_pb2.ListModelsResponse(models=models)

    async def explain(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Who would score requests of a scenario, and why."""
        try:
            asked = parsed(ranking_pb2.ExplainRequest, data)
            forced = {variant.experiment: variant.variant for variant in asked.forced}
            call = ScoreCall(asked.model, asked.version, asked.scenario, unit=asked.unit, forced=forced)
            if caller := self._answering.caller(context):
                caller.check(call)
            return explained(self._answering.router.route(call)).SerializeToString()
        except Exception as failure:
            status = status_of(failure)
        return await status.abort(context)


def parse(data: bytes) -> ScoreCall:
    """The call of a serialised ScoreRequest. Raises RequestError."""
    return call_of(parsed(wire.ScoreRequest, data))


def parsed(kind: Any, data: bytes) -> Any:
    """A message of this class. Raises RequestError."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise RequestError(f"the {len(data)} bytes are no {kind.DESCRIPTOR.full_name}") from None


def response(call: ScoreCall, routed: Routed, scored: Scored) -> bytes:
    """A serialised ScoreResponse."""
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
        variants=[wire.Variant(experiment=got.experiment, variant=got.variant) for got in routed.variants],
    ).SerializeToString()


FORM = Form(parse, lambda call, router: router.route(call), response, lambda call, data: data)


def streamed(outcome: Outcome) -> bytes:
    """A serialised StreamedScore."""
    status = outcome.status
    if status is None:
        return wire.StreamedScore(request_id=outcome.request_id, response=outcome.reply).SerializeToString()
    error = wire.StreamError(code=status.code.value[0], message=status.details, pushback_ms=status.pushback_ms or 0)
    return wire.StreamedScore(request_id=outcome.request_id, error=error).SerializeToString()


def described(predictor: Predictor, *, is_default: bool) -> Message:
    """A ranking_pb2.Model."""
    columns = [(i.part, ranking_pb2.Input(name=i.name, type=i.type, several=i.several)) for i in predictor.inputs]
    return ranking_pb2.Model(
        name=predictor.name,
        version=predictor.version,
        is_default=is_default,
        architecture=predictor.manifest.model,
        tasks=predictor.tasks,
        scenarios=[name for name in predictor.scenarios if name != predictor.fallback],
        fallback_scenario=predictor.fallback,
        causal=predictor.manifest.causal,
        user=[column for part, column in columns if part == "user"],
        items=[column for part, column in columns if part == "items"],
    )


def explained(routed: Routed) -> Message:
    """A ranking_pb2.ExplainResponse."""
    return ranking_pb2.ExplainResponse(
        model=routed.predictor.name,
        version=routed.predictor.version,
        scored_scenario=routed.scored_as,
        fallback=routed.fallback,
        debias_strength=routed.strength,
        reasons=routed.reasons,
        variants=[ranking_pb2.Variant(experiment=v.experiment, variant=v.variant) for v in routed.variants],
    )


def _bytes(array: np.ndarray) -> bytes:
    return array.astype(wire.SCORES, copy=False).tobytes()
