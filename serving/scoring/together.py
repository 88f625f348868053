"""Several requests of one package and one scenario, scored by one call of its program.

Each candidate then has a row of its user, where a request alone has one row that stands beside all. The scores are
those that each request has alone, up to the rounding of float32, and a request that is wrong fails alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from swrec_prod.export.loaded import Logits
from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.scoring.features import MAX_VALUES, EncodedRequest
from swrec_prod.serving.scoring.predictor import Predictor, Scored

T = TypeVar("T")


class Asked(NamedTuple):
    """One of the requests. strength: its c."""

    call: ScoreCall
    strength: float


def score_together(predictor: Predictor, asked: Sequence[Asked], scenario: int) -> list[Scored | Exception]:
    """What each request is answered, or what is wrong with it, in their order."""
    encoded = [_tried(partial(predictor.encoder.encoded, one.call)) for one in asked]
    sound = [request for request in encoded if not isinstance(request, Exception)]
    scored = iter(_logits(predictor, sound, scenario))
    outcomes = [request if isinstance(request, Exception) else next(scored) for request in encoded]
    return [
        outcome if isinstance(outcome, Exception) else _tried(partial(predictor.scored, outcome, one.strength))
        for one, outcome in zip(asked, outcomes, strict=True)
    ]


def _logits(predictor: Predictor, requests: Sequence[EncodedRequest], scenario: int) -> list[Logits | Exception]:
    """Of each request: of one forward, or where that fails, or would be too large, of one each."""
    fits = sum(map(predictor.encoder.user_values, requests)) <= MAX_VALUES
    if len(requests) > 1 and fits:
        together = _tried(partial(_at_once, predictor, requests, scenario))
        if not isinstance(together, Exception):
            return list(_parts(together, [request.rows for request in requests]))
    return [_tried(partial(_alone, predictor, request, scenario)) for request in requests]


def _alone(predictor: Predictor, request: EncodedRequest, scenario: int) -> Logits:
    return predictor.forward(predictor.encoder.packed(request, scenario), scenario)


def _at_once(predictor: Predictor, requests: Sequence[EncodedRequest], scenario: int) -> Logits:
    return predictor.forward(predictor.encoder.packed_together(requests, scenario), scenario)


def _parts(logits: Logits, rows: Sequence[int]) -> list[Logits]:
    """The logits of each of several requests that have so many rows."""
    return [Logits(*part) for part in zip(*(table.split(list(rows)) for table in logits), strict=True)]


def _tried(make: Callable[[], T]) -> T | Exception:
    try:
        return make()
    except Exception as failure:
        return failure
