"""Which package scores a request, and how. A router is one immutable value; to route otherwise, make another router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from swrec_prod.errors import NotFoundError, PackageError, nearest, shown
from swrec_prod.experiments.assign import NO_EXPERIMENTS, Assigned, Experiments, Parameters
from swrec_prod.experiments.assignment import Assignment
from swrec_prod.export.package import is_version, ready_versions
from swrec_prod.serving.protocol.call import Limits, ScoreCall
from swrec_prod.serving.routing.check import check_experiments, check_routes
from swrec_prod.serving.routing.labels import Labels, check_complete, resolved
from swrec_prod.serving.routing.routes import REFUSE, Route, Routes, Share
from swrec_prod.serving.routing.rules import Rules
from swrec_prod.serving.scoring.predictor import Predictor, Say, nobody


class Routed(NamedTuple):
    """Who scores a call, and how.

    scenario: the predictor's index of the scenario that scores; scored_as: its name; fallback: whether that is not the
    scenario of the call; strength: c of the ranking score; reasons: the rules that decided, in plain English; share:
    what admission counts it with; variants: of the experiments that it is in; lacks_unit: it is in none because it
    names no unit.
    """

    predictor: Predictor
    scenario: int
    scored_as: str
    fallback: bool
    strength: float
    reasons: tuple[str, ...] = ()
    share: Share = Share()
    variants: tuple[Assignment, ...] = ()
    lacks_unit: bool = False


class Router:
    """predictors: by name, then by version. The default of a name is its stable version, or the latest.

    routes: of the routes file `source`; experiments: what runs; labels: by name. Raises ConfigError for files that do
    not fit the predictors.
    """

    def __init__(
        self,
        predictors: Mapping[str, Mapping[int, Predictor]],
        routes: Routes | None = None,
        source: str | Path = "routes",
        experiments: Experiments = NO_EXPERIMENTS,
        labels: Mapping[str, Labels] | None = None,
    ) -> None:
        self.predictors = predictors
        given = routes or Routes()
        all_labels = {name: (labels or {}).get(name, Labels()) for name in predictors}
        self.labels = {name: all_labels[name].served(versions) for name, versions in predictors.items()}
        check_routes(given, predictors, str(source), self.labels)
        check_experiments(experiments, predictors, given, self.labels)
        self.experiments = experiments
        self._default, self._listed = given.default, {name: given.route(name) for name in given.scenarios}

    @classmethod
    def load(
        cls,
        repo: Path,
        chosen: Sequence[str] = (),
        limits: Limits | None = None,
        routes: Path | None = None,
        experiments: Path | None = None,
        say: Say = nobody,
    ) -> Router:
        """Load the packages that `find_packages` names, and the files of routes and of experiments.

        say: hears which package comes to which stage. Raises PackageError when a package is damaged, ConfigError for
        a file.
        """
        paths = find_packages(repo, chosen)
        rules = Rules.read(paths, routes, experiments)  # before what takes minutes
        return cls.of(paths, rules, limits, say)

    @classmethod
    def of(cls, packages: Sequence[Path], rules: Rules, limits: Limits | None = None, say: Say = nobody) -> Router:
        """Load these packages. Raises PackageError, ConfigError."""
        predictors: dict[str, dict[int, Predictor]] = {}
        for path in packages:
            predictors.setdefault(path.parent.name, {})[int(path.name)] = Predictor.load(path, limits, say)
        return cls(predictors, *rules)

    def ruled(self, rules: Rules) -> Router:
        """A router over the same predictors by other rules. Raises ConfigError for those that do not fit."""
        return Router(self.predictors, *rules)

    def route(self, call: ScoreCall) -> Routed:
        """Who scores a call. Raises NotFoundError naming what is served, RequestError for its c or forced variants."""
        got = self.experiments.assign(call.unit, call.scenario, call.forced)
        is_listed = call.scenario in self._listed
        route, where = (self._listed[call.scenario], "its route") if is_listed else (self._default, "the default route")
        predictor, package = self._package(call, route, where, got.parameters)
        scenario, fallback, reason = _scenario(predictor, call.scenario, route.fallback)
        strength, whence = _strength(predictor, call, scenario, route, where, got.parameters)
        share = Share(call.scenario if is_listed or not fallback else "", route.max_concurrent, route.queue_ms)
        reasons = (*package, reason, whence)
        variants = got.variants and self._triggered(got, call, predictor)
        name = predictor.scenario_name(scenario)
        return Routed(predictor, scenario, name, fallback, strength, reasons, share, variants, got.is_missing)

    def _triggered(self, got: Assigned, call: ScoreCall, predictor: Predictor) -> tuple[Assignment, ...]:
        """The variants, each with whether its experiment could change anything for this call."""
        fixed = set()
        if call.model or call.version:
            fixed.add("model")
        if call.debias_strength is not None or not predictor.manifest.causal:
            fixed.add("strength")
        if not fixed:
            return got.variants
        sets = self.experiments.sets
        return tuple(one._replace(triggered=bool(sets(one.experiment) - fixed)) for one in got.variants)

    def predictor(self, model: str, version: str) -> Predictor:
        """The package of that name and version; an empty name means the only one, an empty version the default.

        version: a number, a label, or `latest`. Raises NotFoundError naming what is served.
        """
        name = model or self._only_name()
        if name not in self.predictors:
            raise NotFoundError(f"model {shown(name)} is not served; {nearest(name, self.predictors)}")
        served, labels = self.predictors[name], self.labels[name]
        number = resolved(version, served, labels)
        if number is None:
            known = (*map(str, sorted(served)), *labels.model_dump(exclude_none=True))
            raise NotFoundError(f"version {shown(version)} of model {name!r} is not served; {nearest(version, known)}")
        return served[number]

    def is_default(self, predictor: Predictor) -> bool:
        """Whether it scores where nobody names a version."""
        return self.predictor(predictor.name, "") is predictor

    def _only_name(self) -> str:
        if len(self.predictors) != 1:
            raise NotFoundError(
                f"model is empty and {len(self.predictors)} models are served; {nearest('', self.predictors)}"
            )
        return next(iter(self.predictors))

    def _package(
        self, call: ScoreCall, route: Route, where: str, variants: Parameters
    ) -> tuple[Predictor, tuple[str, str]]:
        """The package, and why it. What a request names comes first, then what its variants set, then its route."""
        if variants.model is not None and not (call.model or call.version):
            predictor = self.predictor(variants.model, str(variants.version or ""))
            version_by = variants.model_by if variants.version else self._default_by(predictor)
            return predictor, (
                f"model {predictor.name}: {variants.model_by}",
                f"version {predictor.version}: {version_by}",
            )
        return self._of_route(call, route, where)

    def _of_route(self, call: ScoreCall, route: Route, where: str) -> tuple[Predictor, tuple[str, str]]:
        """The package of a call that no variant gives one. The route's version is of its model."""
        follows = not call.version and call.model in ("", route.model)
        version = call.version or (str(route.version) if follows and route.version else "")
        predictor = self.predictor(call.model or route.model or "", version)
        model_by = (
            "the request names it" if call.model else f"{where} names it" if route.model else "it is the only one"
        )
        version_by = (
            "the request names it" if call.version else f"{where} names it" if version else self._default_by(predictor)
        )
        return predictor, (f"model {predictor.name}: {model_by}", f"version {predictor.version}: {version_by}")

    def _default_by(self, predictor: Predictor) -> str:
        is_stable = self.labels[predictor.name].stable == int(predictor.version)
        return "it is labelled stable" if is_stable else "it is the latest served"


def _scenario(predictor: Predictor, value: str, fallback: str | None) -> tuple[int, bool, str]:
    """The index of the scenario that scores, whether it is a fallback, and why. Raises NotFoundError."""
    if fallback is None:
        scenario, is_fallback = predictor.scenario(value)
        by = "the model's fallback" if is_fallback else "the model knows it"
    elif value in predictor.scenarios:
        (scenario, is_fallback), by = predictor.scenario(value), "the model knows it"
    elif fallback == REFUSE:
        raise NotFoundError(
            f"scenario {shown(value)} is unknown to {predictor.name}/{predictor.version}, and the routes refuse such; "
            f"{nearest(value, predictor.scenarios)}"
        )
    else:
        scenario, is_fallback, by = predictor.scenario(fallback)[0], True, "the fallback that the routes name"
    name = predictor.scenario_name(scenario)
    return scenario, is_fallback, f"scenario {name}: {by}" + (f" for {shown(value)}" if is_fallback else "")


def _strength(
    predictor: Predictor, call: ScoreCall, scenario: int, route: Route, where: str, variants: Parameters
) -> tuple[float, str]:
    """c, and whence: of the request, else of its variants, else of the route where its model scores, else of the
    package.
    """
    strength = predictor.strength(call, scenario)
    if call.debias_strength is not None:
        return strength, f"c {strength:.4g}: the request asks for {call.debias_strength:.4g}"
    if variants.strength is not None and predictor.manifest.causal:
        return variants.strength, f"c {variants.strength:.4g}: {variants.strength_by}"
    if route.strength is not None and not variants.model and call.model in ("", route.model):
        return route.strength, f"c {route.strength:.4g}: {where} says so"
    return strength, f"c {strength:.4g}: the package's for this scenario"


def find_packages(repo: Path, chosen: Sequence[str] = ()) -> list[Path]:
    """The folders REPO/NAME/VERSION to serve: of every NAME, or of those in `chosen`, the versions that have labels, or
    else the latest complete one.

    chosen: NAME, or NAME/VERSION for this version and no other. Raises PackageError when there is nothing to serve.
    """
    if not repo.is_dir():
        raise PackageError(f"{repo}: no such folder; expected REPO with packages REPO/NAME/VERSION")
    ready = {folder.name: versions for folder in sorted(repo.iterdir()) if (versions := ready_versions(folder))}
    if not ready:
        raise PackageError(f"{repo}: holds no complete package REPO/NAME/VERSION; write one with swrec export")
    return [path for choice in chosen or ready for path in _packages(repo, ready, choice)]


def _packages(repo: Path, ready: Mapping[str, list[int]], choice: str) -> list[Path]:
    name, _, version = choice.partition("/")
    if name not in ready:
        raise PackageError(f"{repo}: no complete package {name!r}; {nearest(name, ready)}")
    if version and (not is_version(version) or int(version) not in ready[name]):
        raise PackageError(f"{repo / name}: no complete version {version!r}; {nearest(version, map(str, ready[name]))}")
    labelled = [] if version else Labels.of(repo / name).versions
    check_complete(repo / name, labelled)
    return [repo / name / str(number) for number in labelled or [int(version) if version else ready[name][-1]]]
