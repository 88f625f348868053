"""Which variants a request gets: salted, deterministic, the same in every worker and on every day."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from swrec_prod.errors import ConfigError, RequestError, nearest, shown
from swrec_prod.experiments.assignment import Assignment
from swrec_prod.experiments.buckets import bucket
from swrec_prod.experiments.check import Wrong, check, check_follows
from swrec_prod.experiments.experiments_file import Experiment, ExperimentsFile, Range
from swrec_prod.strict import Lines, parse, read_yaml


class Parameters(NamedTuple):
    """What the variants of a request set; None for what none of them does. by: the experiment and variant that did."""

    model: str | None = None
    version: int | None = None
    strength: float | None = None
    model_by: str = ""
    strength_by: str = ""


class Assigned(NamedTuple):
    """variants: of the experiments that a request is in; parameters: what they set; is_missing: it names no unit, so
    that it is in none, though there are some.
    """

    variants: tuple[Assignment, ...] = ()
    parameters: Parameters = Parameters()
    is_missing: bool = False


NOTHING = Assigned()


class Owners:
    """Whose a bucket is. ranges: by owner, without overlaps."""

    def __init__(self, ranges: Mapping[str, Sequence[Range]]) -> None:
        ordered = sorted((start, stop, name) for name, own in ranges.items() for start, stop in own)
        self._starts = [start for start, _, _ in ordered]
        self._stops = [stop for _, stop, _ in ordered]
        self._names = [name for _, _, name in ordered]

    def of(self, number: int) -> str | None:
        """None for nobody's."""
        at = bisect_right(self._starts, number) - 1
        return self._names[at] if at >= 0 and number < self._stops[at] else None


class Experiments:
    """An experiments file, ready for requests. version: 8 bytes that name its content.

    Raises ConfigError naming source, line, key and what would be right.
    """

    def __init__(self, file: ExperimentsFile, source: str = "experiments", lines: Lines | None = None) -> None:
        try:
            check(file)
        except Wrong as wrong:
            raise _error(source, lines, wrong) from None
        self.file, self.source, self._lines = file, source, lines
        plain = json.dumps(file.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self.version = sha256(plain.encode()).digest()[:8]
        self._domains = Owners({name: domain.buckets for name, domain in file.domains.items()})
        self._domain_salt = f"domain:{file.domains_epoch}"
        self._layers = [
            (layer.domain, name, f"layer:{name}:{layer.epoch}", Owners(_traffic(file, name)))
            for name, layer in file.layers.items()
            if _traffic(file, name)
        ]
        self._sets = {key: experiment.sets for key, experiment in file.experiments.items()}
        self._variants = {
            key: Owners({name: variant.buckets for name, variant in experiment.variants.items()})
            for key, experiment in file.experiments.items()
        }

    @classmethod
    def load(cls, path: Path, previous: Experiments | None = None) -> Experiments:
        """The file at `path`. previous: what runs now, which it must not deal out anew in silence."""
        lines = Lines.of(path)
        given = cls(parse(ExperimentsFile, read_yaml(path) or {}, str(path), lines=lines), str(path), lines)
        if previous is not None:
            given.check_follows(previous)
        return given

    def check_follows(self, previous: Experiments) -> None:
        """Raises ConfigError where a unit of a running experiment would get another of its variants, or none."""
        try:
            check_follows(previous.file, self.file)
        except Wrong as wrong:
            raise self.error(wrong.place, wrong.message) from None

    def error(self, place: Sequence[str], message: str) -> ConfigError:
        """Of something that is wrong at a place of the file."""
        return _error(self.source, self._lines, Wrong(place, message))

    def assign(self, unit: str, scenario: str, forced: Mapping[str, str] | None = None) -> Assigned:
        """What a request of this unit and scenario gets. forced: variants by experiment, whatever its unit.

        Raises RequestError for forced ones that are not there, or that exclude each other.
        """
        if not (self._layers or forced):
            return NOTHING
        chosen = self._forced(forced, unit) if forced else {}
        found = []
        domain = self._domains.of(bucket(self._domain_salt, unit)) if unit else None
        for owner, layer, salt, traffic in self._layers:
            if layer in chosen:
                found.append(chosen[layer])
            elif owner == domain and (key := traffic.of(bucket(salt, unit))) is not None:
                found += self._in(key, unit, scenario, owner)
        parameters = self._parameters(found) if found else NOTHING.parameters
        return Assigned(tuple(found), parameters, is_missing=not unit)

    def sets(self, experiment: str) -> set[str]:
        """Which of `model` and `strength` the variants of an experiment set."""
        return self._sets[experiment]

    def _in(self, key: str, unit: str, scenario: str, domain: str) -> list[Assignment]:
        """Of an experiment whose traffic the unit is in; empty where it is in no variant."""
        experiment = self.file.experiments[key]
        if experiment.scenarios is not None and scenario not in experiment.scenarios:
            return []
        number = bucket(_salt(key, experiment), unit)
        variant = self._variants[key].of(number)
        return [] if variant is None else [Assignment(domain, experiment.layer, key, variant, number)]

    def _forced(self, forced: Mapping[str, str], unit: str) -> dict[str, Assignment]:
        """By layer."""
        chosen: dict[str, Assignment] = {}
        for key, variant in forced.items():
            experiment = self.file.experiments.get(key)
            if experiment is None:
                raise RequestError(f"forced: no experiment {shown(key)}; {nearest(key, self.file.experiments)}")
            if variant not in experiment.variants:
                known = nearest(variant, experiment.variants)
                raise RequestError(f"forced: experiment {key!r} has no variant {shown(variant)}; {known}")
            layer = experiment.layer
            if layer in chosen:
                raise RequestError(f"forced: {chosen[layer].experiment!r} and {key!r} exclude each other; force one")
            number = bucket(_salt(key, experiment), unit)
            chosen[layer] = Assignment(self.file.layers[layer].domain, layer, key, variant, number, forced=True)
        return chosen

    def _parameters(self, found: Sequence[Assignment]) -> Parameters:
        parameters = Parameters()
        for got in found:
            variant = self.file.experiments[got.experiment].variants[got.variant]
            by = f"variant {got.variant} of experiment {got.experiment}"
            if variant.model is not None:
                parameters = parameters._replace(model=variant.model, version=variant.version, model_by=by)
            if variant.strength is not None:
                parameters = parameters._replace(strength=variant.strength, strength_by=by)
        return parameters


NO_EXPERIMENTS = Experiments(ExperimentsFile())


def _traffic(file: ExperimentsFile, layer: str) -> dict[str, Sequence[Range]]:
    return {key: experiment.traffic for key, experiment in file.experiments.items() if experiment.layer == layer}


def _salt(key: str, experiment: Experiment) -> str:
    return f"exp:{key}:{experiment.version}"


def _error(source: str, lines: Lines | None, wrong: Wrong) -> ConfigError:
    where = f"{source}:{lines.at(wrong.place)}" if lines else source
    return ConfigError(f"{where}: {'.'.join(wrong.place)}: {wrong.message}")
