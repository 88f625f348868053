"""What a file of experiments must hold, by itself and against the one that it follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from swrec_prod.errors import nearest
from swrec_prod.experiments.experiments_file import Experiment, ExperimentsFile, Range, Variant

ANEW = "give the experiment another version, which deals its units out anew"


class Wrong(Exception):
    """What is wrong at a place of the file: the keys that lead there, and a message with the remedy."""

    def __init__(self, place: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.place, self.message = place, message


def check(file: ExperimentsFile) -> None:
    """Raises Wrong for names that are not there, ranges that overlap, and a parameter that two layers set."""
    _check_apart(("domains",), {name: domain.buckets for name, domain in file.domains.items()}, "buckets")
    for name, layer in file.layers.items():
        _one_of(("layers", name, "domain"), layer.domain, file.domains)
    for key, experiment in file.experiments.items():
        _check_experiment(("experiments", key), experiment, file)
    for name in file.layers:
        own = {key: experiment.traffic for key, experiment in file.experiments.items() if experiment.layer == name}
        _check_apart(("experiments",), own, "traffic")
    _check_parameters(file)


def _check_experiment(place: Sequence[str], experiment: Experiment, file: ExperimentsFile) -> None:
    _one_of((*place, "layer"), experiment.layer, file.layers)
    _one_of((*place, "control"), experiment.control, experiment.variants)
    variants = (*place, "variants")
    _check_apart(variants, {name: variant.buckets for name, variant in experiment.variants.items()}, "buckets")
    for name, variant in experiment.variants.items():
        if variant.version is not None and variant.model is None:
            raise Wrong((*variants, name, "version"), "a version of which model? say `model` too")


def _check_parameters(file: ExperimentsFile) -> None:
    """A parameter belongs to one layer of a domain, or what a unit gets would depend on the order of layers."""
    owner: dict[tuple[str, str], tuple[str, str]] = {}
    for key, experiment in file.experiments.items():
        domain = file.layers[experiment.layer].domain
        for parameter in sorted(experiment.sets):
            layer, other = owner.setdefault((domain, parameter), (experiment.layer, key))
            if layer != experiment.layer:
                raise Wrong(
                    ("experiments", key, "layer"),
                    f"layer {experiment.layer!r} sets {parameter}, as {other!r} does in layer {layer!r}; "
                    "put both experiments into one layer",
                )


def _check_apart(place: Sequence[str], ranges: Mapping[str, Sequence[Range]], key: str) -> None:
    owned = sorted((one, name) for name, own in ranges.items() for one in own)
    for (one, first), (other, second) in pairwise(owned):
        if other[0] < one[1]:
            raise Wrong(
                (*place, second, key),
                f"{list(other)} overlaps with {list(one)} of {first!r}; a bucket belongs to one of them",
            )


def check_follows(before: ExperimentsFile, after: ExperimentsFile) -> None:
    """Raises Wrong where `after` gives units of a running experiment to another of its variants, or drops them.

    Ramping may only add buckets. An experiment of another version, or in no file of both, is another experiment.
    """
    for key, old in before.experiments.items():
        new = after.experiments.get(key)
        if new is not None and new.version == old.version:
            place = ("experiments", key)
            _check_salts(place, old, new, before, after)
            _check_kept((*place, "traffic"), old.traffic, new.traffic)
            for name, variant in old.variants.items():
                _check_ramped((*place, "variants"), name, variant, new.variants)


def _check_salts(
    place: Sequence[str], old: Experiment, new: Experiment, before: ExperimentsFile, after: ExperimentsFile
) -> None:
    if old.layer != new.layer:
        raise Wrong((*place, "layer"), f"was {old.layer!r}, which had other units; {ANEW}")
    was, is_now = before.layers[old.layer], after.layers[new.layer]
    if (was, before.domains_epoch) != (is_now, after.domains_epoch):
        raise Wrong(("layers", new.layer), f"has other units than before, and {place[-1]!r} runs in it; {ANEW}")
    _check_kept(
        ("domains", is_now.domain, "buckets"), before.domains[was.domain].buckets, after.domains[was.domain].buckets
    )


def _check_ramped(place: Sequence[str], name: str, old: Variant, variants: Mapping[str, Variant]) -> None:
    for other, variant in variants.items():
        for one, taken in (pair for pair in _pairs(old.buckets, variant.buckets) if other != name):
            start, stop = max(one[0], taken[0]), min(one[1], taken[1])
            raise Wrong((*place, other, "buckets"), f"[{start}, {stop}] were of {name!r}; ranges may only grow; {ANEW}")
    _check_kept((*place, name, "buckets"), old.buckets, variants[name].buckets if name in variants else ())


def _check_kept(place: Sequence[str], old: Sequence[Range], new: Sequence[Range]) -> None:
    lost = sorted(_buckets(old) - _buckets(new))
    if lost:
        raise Wrong(place, f"{len(lost)} buckets from {lost[0]} on were in it; ranges may only grow; {ANEW}")


def _pairs(ranges: Sequence[Range], others: Sequence[Range]) -> Iterator[tuple[Range, Range]]:
    return ((one, other) for one in ranges for other in others if one[0] < other[1] and other[0] < one[1])


def _buckets(ranges: Sequence[Range]) -> set[int]:
    return {number for start, stop in ranges for number in range(start, stop)}


def _one_of(place: Sequence[str], value: str, known: Mapping[str, object]) -> None:
    if value not in known:
        raise Wrong(place, f"{value!r} is not there; {nearest(value, known)}")
