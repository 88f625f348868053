"""What a server answers, as arrays over the message's own memory and as plain tuples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from swrec_prod.errors import ServerError
from swrec_prod.serving.protocol import ranking_pb2, wire

TABLES = ("probability", "score", "interest_logit", "scenario_logit")


class ScoredItems(NamedTuple):
    """The scores of one request: [N, T], T as in `tasks`. The logits are None where the model has no causal split.

    probability: of a positive label; score: what to rank by; see ranking.proto. variants: by
    experiment, those that the request got. The arrays are read-only.
    """

    probability: np.ndarray
    score: np.ndarray
    interest_logit: np.ndarray | None
    scenario_logit: np.ndarray | None
    tasks: tuple[str, ...]
    model: str
    version: str
    debias_strength: float
    request_id: str
    scored_scenario: str
    fallback: bool
    variants: Mapping[str, str]


class Input(NamedTuple):
    """A column that a request needs. type: int64, string or float64; several: whether a row holds any number."""

    name: str
    type: str
    several: bool


class ServedModel(NamedTuple):
    """A package that is served; see Model in ranking.proto. user, items: the columns that a request needs."""

    name: str
    version: str
    is_default: bool
    architecture: str
    tasks: tuple[str, ...]
    scenarios: tuple[str, ...]
    fallback_scenario: str
    causal: bool
    user: tuple[Input, ...]
    items: tuple[Input, ...]


class Explained(NamedTuple):
    """Which package would score requests of a scenario; see ExplainResponse in ranking.proto."""

    model: str
    version: str
    scored_scenario: str
    fallback: bool
    debias_strength: float
    reasons: tuple[str, ...]
    variants: Mapping[str, str]


def scored(data: bytes) -> ScoredItems:
    """The scores of a serialised ScoreResponse. Raises ServerError where it is none."""
    try:
        reply = wire.ScoreResponse.FromString(data)
        tables = [_table(getattr(reply, name), len(reply.tasks)) for name in TABLES]
    except (DecodeError, ValueError):
        raise ServerError(f"the answer of {len(data)} bytes is no swrec.v1.ScoreResponse; is it a ranker?") from None
    probability, score, interest_logit, scenario_logit = tables
    return ScoredItems(
        probability,
        score,
        interest_logit if reply.interest_logit else None,
        scenario_logit if reply.scenario_logit else None,
        tuple(reply.tasks),
        reply.model,
        reply.version,
        reply.debias_strength,
        reply.request_id,
        reply.scored_scenario,
        reply.fallback,
        variants_of(reply),
    )


def variants_of(reply: Any) -> dict[str, str]:
    """By experiment."""
    return {got.experiment: got.variant for got in reply.variants}


def _table(field: bytes, tasks: int) -> np.ndarray:
    return np.frombuffer(field, wire.SCORES).reshape(-1, tasks)


def joined(parts: Sequence[ScoredItems]) -> ScoredItems:
    """The parts of a split request, candidates in their order."""
    if len(parts) == 1:
        return parts[0]
    return ScoredItems(*(_whole([getattr(part, name) for part in parts]) for name in TABLES), *parts[0][len(TABLES) :])


def _whole(tables: Sequence[Any]) -> Any:
    return None if tables[0] is None else np.concatenate(tables)


def others_than_latest(parts: Sequence[tuple[ScoredItems, float]]) -> list[int]:
    """Positions of the parts that another version scored than the one answered last. parts: with when it came."""
    latest, _ = max(parts, key=lambda part: part[1])
    return [i for i, (part, _) in enumerate(parts) if _scorer(part) != _scorer(latest)]


def _scorer(part: ScoredItems) -> tuple[Any, ...]:
    return part.model, part.version, part.scored_scenario, part.debias_strength, tuple(part.variants.items())


def served_models(data: bytes) -> list[ServedModel]:
    """The packages of a serialised ListModelsResponse."""
    return [_served_model(model) for model in ranking_pb2.ListModelsResponse.FromString(data).models]


def _served_model(model: Any) -> ServedModel:
    user, items = (tuple(Input(i.name, i.type, i.several) for i in columns) for columns in (model.user, model.items))
    return ServedModel(
        model.name,
        model.version,
        model.is_default,
        model.architecture,
        tuple(model.tasks),
        tuple(model.scenarios),
        model.fallback_scenario,
        model.causal,
        user,
        items,
    )


def explained(data: bytes) -> Explained:
    """The decision of a serialised ExplainResponse."""
    reply = ranking_pb2.ExplainResponse.FromString(data)
    return Explained(
        reply.model,
        reply.version,
        reply.scored_scenario,
        reply.fallback,
        reply.debias_strength,
        tuple(reply.reasons),
        variants_of(reply),
    )
