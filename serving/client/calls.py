"""What both clients ask, as bytes, and what they check of their own arguments."""

from __future__ import annotations

import numbers
from contextlib import suppress
from typing import Any

from swrec_prod.errors import RequestError, UnavailableError
from swrec_prod.serving.client.reply import ScoredItems
from swrec_prod.serving.client.request import checked_text, version_text
from swrec_prod.serving.client.values import shown
from swrec_prod.serving.protocol import ranking_pb2, wire

SCORE = f"/{wire.SERVICE}/Score"
SCORE_STREAM = f"/{wire.SERVICE}/ScoreStream"
LIST_MODELS = f"/{wire.SERVICE}/ListModels"
EXPLAIN = f"/{wire.SERVICE}/Explain"
HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse(status=SERVING)
LONGEST = 1e6  # seconds that a call may take
ROUNDS = 3  # of asking for the parts of a split request, until one version has scored all


def explain_request(model: str, version: str | int, scenario: str, unit: str) -> bytes:
    """A serialised ExplainRequest. Raises RequestError."""
    texts = {"model": model, "version": version_text(version), "scenario": scenario, "unit": unit}
    checked: dict[str, Any] = {name: checked_text(name, value) for name, value in texts.items()}
    return ranking_pb2.ExplainRequest(**checked).SerializeToString()


def health_request(model: str) -> bytes:
    """A serialised grpc.health.v1.HealthCheckRequest: its one field is a string, as the first one of an ExplainRequest.

    Its own package of messages would be one more that the client installs with.
    """
    service = f"model/{checked_text('model', model)}" if model else wire.SERVICE
    return ranking_pb2.ExplainRequest(model=service).SerializeToString()


def seconds(timeout: Any) -> float:
    """A call's timeout. Raises RequestError."""
    with suppress(OverflowError):
        if isinstance(timeout, numbers.Real) and not isinstance(timeout, bool) and 0 < float(timeout) <= LONGEST:
            return float(timeout)
    raise RequestError(f"timeout is {shown(timeout)}; give seconds, more than 0 and at most {LONGEST:g}")


def mixed_versions(target: str, parts: list[ScoredItems]) -> UnavailableError:
    """No one version has scored all parts of a split request."""
    seen = " and ".join(sorted({f"{part.model}/{part.version}" for part in parts}))
    return UnavailableError(f"{target}: {seen} each scored some of the candidates, {ROUNDS} times; ask again later")


def no_place(target: str, timeout: float) -> str:
    """What to say when a call's time was over before it could be sent."""
    return (
        f"no answer from {target} within {timeout:g} s: that long, all channels had as many calls in flight "
        "as they may; give the client more channels, or ask less at once"
    )
