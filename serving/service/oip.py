"""inference.GRPCInferenceService: the Open Inference Protocol, version 2, over the same router and admission.

Answers hold the tensors of oip_request.OUTPUTS, FP32 [N, T] for T tasks, as bytes in raw_output_contents, where
Triton's clients look for them. Parameters of an answer say as which scenario it was scored (scored_scenario),
whether that is a fallback (fallback), with which c (debias_strength), and the variants of experiments that the request
got, as `experiment=variant` with commas between them (variants).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from importlib import metadata
from typing import Any

import grpc
import numpy as np

from swrec_prod.errors import NotFoundError
from swrec_prod.serving.protocol import inference, wire
from swrec_prod.serving.routing.router import Routed
from swrec_prod.serving.scoring.predictor import Predictor, Scored
from swrec_prod.serving.service.answering import Answering, Form
from swrec_prod.serving.service.oip_request import InferCall, outputs_of, read, route
from swrec_prod.serving.service.ranking import parsed
from swrec_prod.serving.service.status import status_of
from swrec_prod.serving.watching.counts import FAILED_SECONDS, FORWARD_SECONDS, REQUEST_SECONDS, Counts

NAME, PLATFORM = "swrec", "swrec_torchscript"
EXTENSIONS = (
    "user_features_of_one_row",
    "ragged_lengths",
    "model_configuration",
    "model_repository_index",
    "statistics",
)
DATATYPES = {"int64": "INT64", "float64": "FP64", "string": "BYTES"}
CONFIG_TYPES = {"int64": "TYPE_INT64", "float64": "TYPE_FP64", "string": "TYPE_STRING"}

OPEN = ("ServerLiveRequest", "ServerReadyRequest", "ModelReadyRequest")  # need no token, as health checking does not

Ready = Callable[[str], Awaitable[bool]]


class InferenceService:
    """The methods of the service. is_ready: whether health checking says SERVING of `model/NAME`, or of "", all."""

    def __init__(self, answering: Answering, is_ready: Ready) -> None:
        self._answering, self._is_ready = answering, is_ready

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service's methods. They take raw bytes, as those of ranking.py do."""
        unary = grpc.unary_unary_rpc_method_handler
        told: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "RepositoryIndex": self._index,
            "ModelStatistics": self._statistics,
        }
        methods = {name: unary(partial(self._tell, inference.METHODS[name], tell)) for name, tell in told.items()}
        return grpc.method_handlers_generic_handler(inference.SERVICE, {"ModelInfer": unary(self.infer), **methods})

    async def infer(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answer one serialised ModelInferRequest."""
        outcome = await self._answering.outcome(FORM, data, context)
        return outcome.reply if outcome.status is None else outcome.status.end(context)

    async def _tell(
        self, request: str, tell: Callable[[Any], Awaitable[Any]], data: bytes, context: grpc.aio.ServicerContext
    ) -> bytes:
        """Answer a serialised message of the class `request`."""
        try:
            if request not in OPEN:
                self._answering.caller(context)
            return (await tell(parsed(inference.MESSAGES[request], data))).SerializeToString()
        except Exception as failure:
            status = status_of(failure)
        return await status.abort(context)

    async def _live(self, _: Any) -> Any:
        return inference.MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, _: Any) -> Any:
        return inference.MESSAGES["ServerReadyResponse"](ready=await self._is_ready(""))

    async def _model_ready(self, asked: Any) -> Any:
        try:
            predictor = self._answering.router.predictor(asked.name, asked.version)
            ready = await self._is_ready(f"model/{predictor.name}")
        except NotFoundError:
            ready = False
        return inference.MESSAGES["ModelReadyResponse"](ready=ready)

    async def _server_metadata(self, _: Any) -> Any:
        version = metadata.version("swrec-prod")
        return inference.MESSAGES["ServerMetadataResponse"](name=NAME, version=version, extensions=EXTENSIONS)

    async def _model_metadata(self, asked: Any) -> Any:
        predictor = self._answering.router.predictor(asked.name, asked.version)
        return model_metadata(predictor, [str(v) for v in sorted(self._answering.router.predictors[predictor.name])])

    async def _model_config(self, asked: Any) -> Any:
        return model_config(self._answering.router.predictor(asked.name, asked.version))

    async def _index(self, _: Any) -> Any:
        reply = inference.MESSAGES["RepositoryIndexResponse"]()
        for name, versions in sorted(self._answering.router.predictors.items()):
            state = "READY" if await self._is_ready(f"model/{name}") else "UNAVAILABLE"
            for version in sorted(versions):
                reply.models.add(name=name, version=str(version), state=state)
        return reply

    async def _statistics(self, asked: Any) -> Any:
        reply = inference.MESSAGES["ModelStatisticsResponse"]()
        for predictor in self._asked_for(asked):
            add_statistics(reply.model_stats, predictor, self._answering.counts)
        return reply

    def _asked_for(self, asked: Any) -> list[Predictor]:
        """All packages, those of a model, or one. Raises NotFoundError."""
        router = self._answering.router
        if asked.version:
            return [router.predictor(asked.name, asked.version)]
        names = [router.predictor(asked.name, "").name] if asked.name else sorted(router.predictors)
        return [predictor for name in names for _, predictor in sorted(router.predictors[name].items())]


def infer_response(call: InferCall, routed: Routed, scored: Scored) -> bytes:
    """A serialised ModelInferResponse."""
    predictor = routed.predictor
    reply = inference.ModelInferResponse(model_name=predictor.name, model_version=predictor.version, id=call.message.id)
    for name in call.outputs or outputs_of(predictor):
        values: np.ndarray = getattr(scored, name)
        reply.outputs.add(name=name, datatype="FP32", shape=values.shape)
        reply.raw_output_contents.append(values.astype(wire.SCORES, copy=False).tobytes())
    reply.parameters["scored_scenario"].string_param = routed.scored_as
    reply.parameters["fallback"].bool_param = routed.fallback
    reply.parameters["debias_strength"].double_param = scored.strength
    if routed.variants:
        got = ",".join(f"{variant.experiment}={variant.variant}" for variant in routed.variants)
        reply.parameters["variants"].string_param = got
    return reply.SerializeToString()


FORM = Form(read, route, infer_response, lambda call, data: call)


def model_metadata(predictor: Predictor, versions: list[str]) -> Any:
    """A ModelMetadataResponse. Sizes of inputs that are -1 are those of oip_request.py."""
    reply = inference.MESSAGES["ModelMetadataResponse"](name=predictor.name, versions=versions, platform=PLATFORM)
    for given in predictor.inputs:
        reply.inputs.add(name=given.name, datatype=DATATYPES[given.type], shape=shape_of(given.part, given.several))
    for name in outputs_of(predictor):
        reply.outputs.add(name=name, datatype="FP32", shape=(-1, len(predictor.tasks)))
    reply.properties.update(
        tasks=",".join(predictor.tasks), scenarios=",".join(predictor.scenarios), architecture=predictor.manifest.model
    )
    return reply


def model_config(predictor: Predictor) -> Any:
    """A ModelConfigResponse."""
    reply = inference.MESSAGES["ModelConfigResponse"]()
    reply.config.name, reply.config.platform = predictor.name, PLATFORM
    for given in predictor.inputs:
        dims = shape_of(given.part, given.several)
        reply.config.input.add(name=given.name, data_type=CONFIG_TYPES[given.type], dims=dims)
    for name in outputs_of(predictor):
        reply.config.output.add(name=name, data_type="TYPE_FP32", dims=(-1, len(predictor.tasks)))
    return reply


def add_statistics(to: Any, predictor: Predictor, counts: Counts) -> None:
    """Add a package's ModelStatistics. An inference is a request that was answered, by whichever protocol; an execution
    is a forward, of one request or of several, encoding included. All since the packages were loaded.
    """
    package = predictor.name, predictor.version
    ended, seconds = counts.observed(REQUEST_SECONDS, package)
    failed, failed_seconds = counts.observed(FAILED_SECONDS, package)
    forwards, forward_seconds = counts.observed(FORWARD_SECONDS, package)
    told = to.add(name=package[0], version=package[1], inference_count=ended - failed, execution_count=forwards)
    durations = {
        "success": (ended - failed, seconds - failed_seconds),
        "fail": (failed, failed_seconds),
        "compute_infer": (forwards, forward_seconds),
    }
    for name, (count, took) in durations.items():
        duration = getattr(told.inference_stats, name)
        duration.count, duration.ns = count, max(0, int(1e9 * took))


def shape_of(part: str, several: bool) -> tuple[int, ...]:
    """The shape of an input: the user is one row, candidates are any number."""
    rows = 1 if part == "user" else -1
    return (rows, -1) if several else (rows,)
