"""Which package scores a request. A router is one immutable set of packages; to serve others, make another router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from swrec_prod.errors import NotFoundError, PackageError, nearest
from swrec_prod.export.package import is_version, ready_versions
from swrec_prod.serving.protocol.call import Limits, ScoreCall
from swrec_prod.serving.scoring.predictor import Predictor


class Routed(NamedTuple):
    """Who scores a call, and how.

    scenario: the predictor's index of the scenario that scores; scored_as: its name; fallback: whether that is not the
    scenario of the call; strength: c of the ranking score; reasons: the rules that decided, in plain English.
    """

    predictor: Predictor
    scenario: int
    scored_as: str
    fallback: bool
    strength: float
    reasons: tuple[str, ...] = ()


class Router:
    """predictors: by name, then by version. The latest version of a name is its default."""

    def __init__(self, predictors: Mapping[str, Mapping[int, Predictor]]) -> None:
        self.predictors = predictors

    @classmethod
    def load(cls, repo: Path, chosen: Sequence[str] = (), max_candidates: int = 1000) -> Router:
        """Load the packages that `find_packages` names. Raises PackageError when one is damaged."""
        predictors: dict[str, dict[int, Predictor]] = {}
        for path in find_packages(repo, chosen):
            predictors.setdefault(path.parent.name, {})[int(path.name)] = Predictor.load(path, Limits(max_candidates))
        return cls(predictors)

    def route(self, call: ScoreCall) -> Routed:
        """Who scores a call. Raises NotFoundError naming what is served, RequestError for its c."""
        predictor = self.predictor(call.model, call.version)
        scenario, fallback = predictor.scenario(call.scenario)
        strength = predictor.strength(call, scenario)
        return Routed(predictor, scenario, predictor.scenario_name(scenario), fallback, strength)

    def predictor(self, model: str, version: str) -> Predictor:
        """The package of that name and version; an empty name means the only one, an empty version the latest.

        Raises NotFoundError naming what is served.
        """
        name = model or self._only_name()
        if name not in self.predictors:
            raise NotFoundError(f"model {name!r} is not served; {nearest(name, self.predictors)}")
        served = self.predictors[name]
        if version and (not is_version(version) or int(version) not in served):
            raise NotFoundError(
                f"version {version!r} of model {name!r} is not served; {nearest(version, map(str, sorted(served)))}"
            )
        return served[int(version) if version else max(served)]

    def _only_name(self) -> str:
        if len(self.predictors) != 1:
            raise NotFoundError(
                f"model is empty and {len(self.predictors)} models are served; {nearest('', self.predictors)}"
            )
        return next(iter(self.predictors))


def find_packages(repo: Path, chosen: Sequence[str] = ()) -> list[Path]:
    """The folders REPO/NAME/VERSION to serve: of every NAME, or of those in `chosen`, the latest complete version.

    chosen: NAME, or NAME/VERSION for another than the latest. Raises PackageError when there is nothing to serve.
    """
    if not repo.is_dir():
        raise PackageError(f"{repo}: no such folder; expected REPO with packages REPO/NAME/VERSION")
    ready = {folder.name: versions for folder in sorted(repo.iterdir()) if (versions := ready_versions(folder))}
    if not ready:
        raise PackageError(f"{repo}: holds no complete package REPO/NAME/VERSION; write one with swrec export")
    return [_package(repo, ready, choice) for choice in chosen or ready]


def _package(repo: Path, ready: Mapping[str, list[int]], choice: str) -> Path:
    name, _, version = choice.partition("/")
    if name not in ready:
        raise PackageError(f"{repo}: no complete package {name!r}; {nearest(name, ready)}")
    if version and (not is_version(version) or int(version) not in ready[name]):
        raise PackageError(f"{repo / name}: no complete version {version!r}; {nearest(version, map(str, ready[name]))}")
    return repo / name / (version or str(ready[name][-1]))
