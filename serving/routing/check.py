"""Whether a routes file fits the packages that are served: what no request could get is refused before any comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from swrec_prod.errors import ConfigError, NotFoundError, nearest
from swrec_prod.serving.routing.labels import LATEST, Labels, resolved
from swrec_prod.serving.routing.routes import REFUSE, Route, Routes
from swrec_prod.serving.scoring.predictor import Predictor

Predictors = Mapping[str, Mapping[int, Predictor]]  # by name, then by version


def check_routes(routes: Routes, predictors: Predictors, source: str, labels: Mapping[str, Labels]) -> None:
    """Raises ConfigError naming source, key, value and what would be right."""
    if routes.default.model is not None or len(predictors) == 1:
        _check(f"{source}: default", routes.default, predictors, labels)
    for name in routes.scenarios:
        place, route = f"{source}: scenarios.{name}", routes.route(name)
        _check_knows(place, name, route, _check(place, route, predictors, labels))


def _check(place: str, route: Route, predictors: Predictors, labels: Mapping[str, Labels]) -> Predictor:
    """The package of a route that is right."""
    name = _one_of(f"{place}.model", route.model, predictors) if route.model else _only(place, predictors)
    version = resolved(str(route.version or ""), predictors[name], labels[name])
    if version is None:
        given = labels[name].model_dump(exclude_none=True)
        _one_of(f"{place}.version", str(route.version), (*map(str, sorted(predictors[name])), *given, LATEST))
    predictor = predictors[name][version or 0]
    if route.fallback is not None:
        _one_of(f"{place}.fallback", route.fallback, (*predictor.scenarios, REFUSE))
    if route.strength is not None:
        _check_strength(f"{place}.strength", route.strength, predictor)
    return predictor


def _one_of(place: str, value: str, served: Iterable[str]) -> str:
    known = list(served)
    if value not in known:
        raise ConfigError(f"{place}: {value!r} is not served; {nearest(value, known)}")
    return value


def _only(place: str, predictors: Predictors) -> str:
    if len(predictors) != 1:
        raise ConfigError(f"{place}.model: required where several are served; {nearest('', predictors)}")
    return next(iter(predictors))


def _check_strength(place: str, strength: float, predictor: Predictor) -> None:
    package, manifest = f"{predictor.name}/{predictor.version}", predictor.manifest
    if not manifest.causal:
        raise ConfigError(f"{place}: {package} has no causal split, hence no c; leave it out")
    low, high = manifest.strength_range or (strength, strength)
    if not low <= strength <= high:
        raise ConfigError(f"{place}: {strength:.4g}; expected {low:.4g} to {high:.4g}, the range of {package}")


def _check_knows(place: str, name: str, route: Route, predictor: Predictor) -> None:
    """A scenario that is listed is known to its model, or says what it gets instead."""
    if route.fallback is not None:
        return
    try:
        predictor.scenario(name)
    except NotFoundError:
        raise ConfigError(
            f"{place}: {predictor.name!r} does not know this scenario; give it a fallback, or {REFUSE}; "
            f"{nearest(name, predictor.scenarios)}"
        ) from None
