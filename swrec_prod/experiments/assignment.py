"""What a request got of one experiment."""

from __future__ import annotations

from typing import NamedTuple


class Assignment(NamedTuple):
    """One experiment's variant for one request.

    domain, layer, experiment, variant: names of the experiments file. bucket: 0 to 9,999, of the unit in the
    experiment. forced: the request asked for the variant, so that analyses leave it out. triggered: whether the variant
    had anything to change in this request.
    """

    domain: str
    layer: str
    experiment: str
    variant: str
    bucket: int
    forced: bool = False
    triggered: bool = True
