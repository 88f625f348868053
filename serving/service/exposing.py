"""Answers as the exposure log takes them."""

from __future__ import annotations

import random
import time

from swrec_prod.exposures.answer import Answer
from swrec_prod.exposures.log import Described, Log
from swrec_prod.exposures.schema import FeatureColumn
from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.routing.router import Routed, Router
from swrec_prod.serving.scoring.predictor import Predictor, Scored

MICRO = 1e6


class Exposing:
    """Logs answers. share: of those whose requests, with all features of all candidates, are kept."""

    def __init__(self, log: Log, share: float = 1.0) -> None:
        self.log, self._share = log, share

    def answered(
        self,
        request: bytes | ScoreCall,
        call: ScoreCall,
        routed: Routed,
        scored: Scored,
        seconds: float,
        config_version: bytes,
    ) -> None:
        """A call has been answered. request: its bytes, or itself where they are of another protocol than swrec.v1;
        config_version: of the experiments file.
        """
        share = self._share
        is_kept = share > 0 and (share >= 1 or random.random() < share)
        self.log.add(
            Answer(
                int(time.time() * MICRO),
                int(seconds * MICRO),
                request if is_kept else None,
                call.request_id,
                call.unit,
                call.scenario,
                routed.scored_as,
                routed.fallback,
                routed.variants,
                config_version,
                routed.predictor.name,
                routed.predictor.version,
                scored.strength,
                share if is_kept else None,
                scored.probability,
                scored.score,
                scored.interest_logit,
                scored.scenario_logit,
            )
        )


def described(router: Router) -> dict[str, Described]:
    """The packages of a router, by NAME/VERSION, as the log needs them."""
    predictors = [predictor for versions in router.predictors.values() for predictor in versions.values()]
    return {f"{p.name}/{p.version}": Described(p.tasks, _columns(p)) for p in predictors}


def _columns(predictor: Predictor) -> list[FeatureColumn]:
    """All that a request may have. What the package does not read is of no type that it knows; most of it is ints."""
    types = {given.name: given.type for given in predictor.inputs}
    found = []
    for name, slot in predictor.encoder.slots.items():
        other = "string" if name.endswith(".scenario") else "int64"
        type_ = "float64" if slot.number and not name.endswith(".length") else types.get(name, other)
        found.append(FeatureColumn(slot.part, name, type_, slot.shape != "one"))
    return found
