"""The experiments file: who takes part in what, and what each variant changes.

    layers:
      debias: {}
    experiments:
      c_sweep:
        layer: debias
        traffic: [[0, 2000]]          # buckets of the layer: a fifth of all units
        control: as_today
        variants:
          as_today: {buckets: [[0, 5000]]}
          stronger: {buckets: [[5000, 10000]], strength: 0.6}

Experiments of one layer are exclusive, a unit is in one of them at most; those of different layers are independent, and
so must not set the same parameter (overlapping experiment infrastructure: Tang et al., KDD 2010). Domains divide the
units before layers do: one that holds a part of the buckets leaves the others in no experiment at all.
Ranges are half open: [0, 5000] holds the buckets 0 to 4,999 of 10,000.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, Field

from swrec_prod.experiments.buckets import BUCKETS
from swrec_prod.strict import Strict

Range = tuple[int, int]
PARAMETERS = ("model", "version", "strength")


def _checked(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    for start, stop in ranges:
        if not 0 <= start < stop <= BUCKETS:
            raise ValueError(f"[{start}, {stop}] is no range of buckets; expected 0 <= start < stop <= {BUCKETS}")
    for one, other in overlaps(ranges):
        raise ValueError(f"{list(one)} and {list(other)} overlap")
    return ranges


def overlaps(ranges: Iterable[Range]) -> list[tuple[Range, Range]]:
    """Neighbours that share buckets."""
    return [(one, other) for one, other in pairwise(sorted(ranges)) if other[0] < one[1]]


Ranges = Annotated[tuple[Range, ...], AfterValidator(_checked)]
WHOLE: tuple[Range, ...] = ((0, BUCKETS),)


class Variant(Strict):
    """What some of an experiment's units get. What it leaves out is as routes and packages say.

    buckets: of the experiment. Units in no variant's buckets are not in the experiment.
    model: name of a package.
    version: of that package; default: the latest that is served.
    strength: c of the ranking score.
    """

    buckets: Ranges
    model: str | None = None
    version: Annotated[int, Field(ge=1)] | None = None
    strength: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @property
    def sets(self) -> set[str]:
        """The parameters that it sets; model and version are one."""
        return {name for name in ("model", "strength") if getattr(self, name) is not None}


class Experiment(Strict):
    """One question.

    layer: name of the layer that it shares with others.
    variants: by name.
    control: the variant that others are compared with.
    traffic: buckets of the layer whose units take part; default: all.
    scenarios: whose requests take part; default: of all.
    version: raise it to deal the units out anew.
    """

    layer: str
    variants: Annotated[dict[str, Variant], Field(min_length=2)]
    control: str
    traffic: Ranges = WHOLE
    scenarios: tuple[str, ...] | None = None
    version: Annotated[int, Field(ge=1)] = 1

    @property
    def sets(self) -> set[str]:
        """The parameters that any of its variants sets."""
        return set().union(*(variant.sets for variant in self.variants.values()))


class Layer(Strict):
    """Experiments that exclude each other.

    domain: whose units it divides.
    epoch: change it to deal the units out anew.
    """

    domain: str = "all"
    epoch: str = "1"


class Domain(Strict):
    """A part of the units.

    buckets: of all domains, which share their salt and must not overlap.
    """

    buckets: Ranges = WHOLE


class ExperimentsFile(Strict):
    """The file.

    layers: by name.
    experiments: by name, as answers and exposures call them.
    domains: by name; default: one called `all` that holds all units.
    domains_epoch: change it to deal the units out anew among domains.
    """

    layers: dict[str, Layer] = Field(default_factory=dict)
    experiments: dict[str, Experiment] = Field(default_factory=dict)
    domains: dict[str, Domain] = Field(default_factory=lambda: {"all": Domain()})
    domains_epoch: str = "1"
