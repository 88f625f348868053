"""How much a server can do: loads that rise until a goal is missed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from swrec_prod.errors import ConfigError
from swrec_prod.serving.callers.load import LoadResult

RISE = 1.5  # one rate over the one before, while the goal is met
CLOSE = 1.06  # the lowest rate that missed the goal over the highest one that met it, at which a ramp ends
LOWEST = 1.0  # requests a second
MOST_STEPS = 40


class Goal(NamedTuple):
    """What a server must hold. quantile of the answers within `milliseconds`; goodput: share of all calls that end as

    OK inside the deadline.
    """

    quantile: float
    milliseconds: float
    goodput: float

    def is_met(self, result: LoadResult) -> bool:
        """Whether a load was answered well enough."""
        fast = 1e3 * result.answered.quantile(self.quantile) <= self.milliseconds
        return fast and result.calls > 0 and result.within >= self.goodput * result.calls


def goal_of(slo: str, goodput: float) -> Goal:
    """A goal as the command line has it. Raises ConfigError.

    >>> goal_of("p99=25ms", 0.99)
    Goal(quantile=0.99, milliseconds=25.0, goodput=0.99)
    """
    found = re.fullmatch(r"p(\d+(?:\.\d+)?)=(\d+(?:\.\d+)?)(ms|s)", slo)
    if found is None or not 0 < float(found[1]) < 100:
        raise ConfigError(f"--slo {slo}: not a quantile and its bound, as p99=25ms or p99.9=1s")
    return Goal(round(float(found[1]) / 100, 9), float(found[2]) * (1 if found[3] == "ms" else 1e3), goodput)


class Step(NamedTuple):
    """One load of a ramp. met: whether the goal was."""

    rate: float
    met: bool
    result: LoadResult


def ramp(measure: Callable[[float], LoadResult], goal: Goal, first: float, said: Callable[[Step], None]) -> list[Step]:
    """Loads of rising rates until the goal is missed, then rates between, until the capacity is known to 6 percent.

    measure: a load at a rate, requests a second. said: gets each step when it is done. Where the first rate is too much
    already, the next ones fall.
    """
    steps: list[Step] = []
    for rate in _rates(first, steps):
        result = measure(rate)
        steps.append(Step(rate, goal.is_met(result), result))
        said(steps[-1])
    return steps


def _rates(first: float, steps: list[Step]) -> Iterator[float]:
    """The rates to try. steps: grows meanwhile."""
    yield first
    while len(steps) < MOST_STEPS:
        met, missed = capacity(steps), min((step.rate for step in steps if not step.met), default=None)
        if missed is None:
            yield met * RISE
        elif not met and missed / RISE >= LOWEST:
            yield missed / RISE
        elif met and missed / met > CLOSE:
            yield (met * missed) ** 0.5
        else:
            return


def capacity(steps: list[Step]) -> float:
    """The highest rate below all that missed the goal; 0 where none met it."""
    missed = min((step.rate for step in steps if not step.met), default=float("inf"))
    return max((step.rate for step in steps if step.met and step.rate < missed), default=0.0)
