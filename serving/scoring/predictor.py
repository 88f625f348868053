"""One package, ready to score: loaded, replayed on its golden rows and warm before it takes its first request."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from swrec_prod.encoding.pack import PackedRequest
from swrec_prod.errors import NotFoundError, PackageError, RequestError, nearest, shown
from swrec_prod.export.loaded import Logits, Package, unusable
from swrec_prod.export.package import verify_package
from swrec_prod.serving.protocol.call import Limits, ScoreCall
from swrec_prod.serving.scoring.features import RequestEncoder
from swrec_prod.serving.scoring.inputs import inputs_of
from swrec_prod.serving.scoring.unknown import UnknownIds

WARM_ROWS = (1, 2, 10, 100)  # batch sizes whose graphs are specialised before the first request
WARM_CALLS = 3  # the first two calls of a TorchScript program compile
MAX_FLOAT = float(np.finfo(np.float32).max)


Say = Callable[[str, Path], None]


def nobody(stage: str, package: Path) -> None:
    """Hears of stages and keeps it to himself."""


class Scored(NamedTuple):
    """float32 [N, T] each; the logits are [N, 0] for a model without causal split. strength: the c that was used."""

    probability: np.ndarray
    score: np.ndarray
    interest_logit: np.ndarray
    scenario_logit: np.ndarray
    strength: float


class Predictor:
    """A package behind one call. It does not change once it is loaded, so threads may share it.

    inputs: the columns that a request must have.
    """

    def __init__(self, package: Package, limits: Limits | None = None) -> None:
        self.name, self.version = package.path.parent.name, package.path.name
        self.manifest = package.manifest
        self.tasks = package.manifest.tasks
        unknown = UnknownIds(f"{self.name}/{self.version}", package.manifest.row_0)
        self.encoder = RequestEncoder(package.layout, package.encoders, limits, unknown)
        self.inputs = inputs_of(package.golden.schema, self.encoder)
        self._programs = package.programs
        self._after, self._is_causal = package.layout.after, package.manifest.causal
        self._ms_call, self._ms_row = 0.3, 0.002
        self._scenario = package.encoders.schema.scenario
        self._index = {value: i for i, value in enumerate(self._scenario.values)}
        self._strength_S = _strengths(package)

    @classmethod
    def load(cls, path: Path, limits: Limits | None = None, say: Say = nobody) -> Predictor:
        """Load, check against the golden rows and warm up. Raises PackageError saying what is wrong.

        say: hears of every stage when it begins, and of which package: validate, load, golden, warm.
        """
        say("validate", path)
        with unusable(path):
            manifest = verify_package(path)
            say("load", path)
            package = Package.load(path, manifest)
            predictor = cls(package, limits)
            say("golden", path)
            package.replay()
            say("warm", path)
            predictor._warm_up(package, predictor.encoder.limits.candidates)
        return predictor

    def score(self, call: ScoreCall, scenario: int, strength: float) -> Scored:
        """The scores of a call's candidates as this scenario, with this c.

        Raises RequestError or DataError for what is wrong with it.
        """
        return self.scored(self.forward(self.encoder.encode(call, scenario), scenario), strength)

    def scored(self, logits: Logits, strength: float) -> Scored:
        """What a request is answered whose candidates have these logits, with this c."""
        with torch.inference_mode():
            probability, score = logits.logit_BT.sigmoid().numpy(), logits.ranking_score(strength, self._after).numpy()
        scenario_logit = logits.scenario_BT.numpy()
        interest = logits.interest_BT.numpy() if self._is_causal else scenario_logit  # [N, 0]: there is neither
        return Scored(probability, score, interest, scenario_logit, strength)

    def forward(self, packed: PackedRequest, scenario: int) -> Logits:
        """What the package's program says of an encoded request, as this scenario."""
        return self._programs.request(packed, scenario)

    def milliseconds(self, rows: int) -> float:
        """What scoring so many candidates is expected to take."""
        return self._ms_call + self._ms_row * rows

    def scenario(self, value: str) -> tuple[int, bool]:
        """The index of a scenario, and whether it is the fallback's. Raises NotFoundError naming the nearest one."""
        index = self._index.get(value)
        if index is not None:
            return index, False
        index = self._scenario.index(value)  # the fallback's, where there is one
        if index is None:
            raise NotFoundError(
                f"scenario {shown(value)} is unknown to {self.name}/{self.version}; {nearest(value, self._index)}"
            )
        return index, True

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Names of the scenarios that it scores, in the order of their indices."""
        return tuple(self._scenario.names)

    @property
    def fallback(self) -> str:
        """The name of the scenario that scores those that it does not know; empty where it refuses them."""
        return self._scenario.names[-1] if self._scenario.unseen == "fallback" else ""

    def scenario_name(self, index: int) -> str:
        """As schema.Scenario.names has it."""
        return self._scenario.names[index]

    def strength(self, call: ScoreCall, scenario: int) -> float:
        """c: the call's, else the package's for the scenario. Without a causal split there is none.

        Raises RequestError for a c outside of the package's range.
        """
        if not self._is_causal:
            return 0.0
        if call.debias_strength is None:
            return self._strength_S[scenario]
        low, high = self.manifest.strength_range or (-MAX_FLOAT, MAX_FLOAT)
        if not low <= call.debias_strength <= high:
            allowed = f"expected {low:.4g} to {high:.4g}, the range of {self.name}/{self.version}"
            raise RequestError(f"debias_strength is {call.debias_strength:.4g}; {allowed}")
        return call.debias_strength

    def _warm_up(self, package: Package, max_candidates: int) -> None:
        """Score golden rows in several batch sizes, so that no request waits for a compiler; time the largest."""
        for rows in (*WARM_ROWS, max_candidates):
            packed = package.sample(rows)
            seconds = [self._seconds(packed) for _ in range(WARM_CALLS)]
        self._ms_row = 1e3 * min(seconds) / max_candidates

    def _seconds(self, packed: PackedRequest) -> float:
        start = time.perf_counter()
        self.forward(packed, 0)
        return time.perf_counter() - start


def _strengths(package: Package) -> list[float]:
    """The package's c by scenario index; none for a model without causal split."""
    names, given = package.encoders.schema.scenario.names, package.manifest.debias_strength
    if not package.manifest.causal:
        return []
    for name in names:
        if name not in given:
            raise PackageError(
                f"{package.path / 'manifest.json'}: debias_strength lacks scenario {name!r}; export the package again"
            )
    return [given[name] for name in names]
