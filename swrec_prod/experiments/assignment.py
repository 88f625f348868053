"""What a request got of one experiment."""

from __future__ import annotations

from typing import NamedTuple


class Assignment(NamedTuple):
    """One experiment's variant for one request.

    domain, layer, experiment, variant: names of the experiments file. bucket: 0 to 9,999, of the unit in the
    experiment. forced: the request asked for the variant, so that analyses leave it out. triggered: whether the
    experiment's variants differ for this request: not where it names itself what they set.
    """

    domain: str
    layer: str
    experiment: str
    variant: str
    bucket: int
    forced: bool = False
    triggered: bool = True
