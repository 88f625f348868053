"""Whether files of routes and of experiments fit the packages that are served: what no request could get is refused
before any comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from swrec_prod.errors import ConfigError, NotFoundError, nearest
from swrec_prod.experiments.assign import Experiments
from swrec_prod.experiments.experiments_file import Variant
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


def check_experiments(
    experiments: Experiments, predictors: Predictors, routes: Routes, labels: Mapping[str, Labels]
) -> None:
    """Raises ConfigError naming the file, its line, key, value and what would be right."""
    known = {*routes.scenarios, *(name for predictor in _all(predictors) for name in predictor.scenarios)}
    for key, experiment in experiments.file.experiments.items():
        for name in experiment.scenarios or ():
            if name not in known:
                place = ("experiments", key, "scenarios")
                raise experiments.error(place, f"no model knows scenario {name!r}; {nearest(name, known)}")
        for name, variant in experiment.variants.items():
            _check_variant(experiments, ("experiments", key, "variants", name), variant, predictors, labels)


def _check_variant(
    experiments: Experiments,
    place: Sequence[str],
    variant: Variant,
    predictors: Predictors,
    labels: Mapping[str, Labels],
) -> None:
    if variant.model is not None and variant.model not in predictors:
        raise experiments.error(
            (*place, "model"), f"{variant.model!r} is not served; {nearest(variant.model, predictors)}"
        )
    of_model = predictors[variant.model] if variant.model is not None else {}
    if variant.version is not None and variant.version not in of_model:
        known = nearest(str(variant.version), map(str, of_model))
        raise experiments.error((*place, "version"), f"version {variant.version} is not served; {known}")
    if variant.strength is not None:
        served = list(_all(predictors))
        if variant.model is not None:
            served = [of_model[resolved(str(variant.version or ""), of_model, labels[variant.model]) or 0]]
        _check_range(experiments, (*place, "strength"), variant.strength, served)


def _check_range(experiments: Experiments, place: Sequence[str], strength: float, served: Sequence[Predictor]) -> None:
    causal = [predictor for predictor in served if predictor.manifest.causal]
    if not causal:
        raise experiments.error(place, "none of the models has a causal split, hence a c; leave it out")
    for predictor in causal:
        try:
            _check_strength("", strength, predictor)
        except ConfigError as failure:
            raise experiments.error(place, str(failure).removeprefix(": ")) from None


def _all(predictors: Predictors) -> Iterator[Predictor]:
    return (predictor for versions in predictors.values() for predictor in versions.values())


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
