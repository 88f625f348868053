"""`swrec abtest plan`: how long an experiment must run, from exposures of the past.

At the end of each past day the units seen so far are what an experiment begun on the first one would have had, with
the spread that their sums have by then: power analysis takes both as they were, units as clusters, after CUPED where
the columns file has it. Days that are not in the log are reckoned with the new units a day of the log's second half,
and the spread of its last day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from tea_tasting.aggr import Aggregates

from swrec_prod.abtest import cells
from swrec_prod.abtest.analyze import Say, load_tables
from swrec_prod.abtest.columns import ExperimentFile, Share
from swrec_prod.abtest.lifts import has_covariate
from swrec_prod.abtest.measures import Metric
from swrec_prod.abtest.read_exposures import EVERYONE
from swrec_prod.abtest.record import Finding
from swrec_prod.abtest.tables import database
from swrec_prod.errors import DataError
from swrec_prod.strict import Strict

SHOWN_DAYS = (1, 2, 3, 5, 7, *range(14, 367, 7))  # told of a metric overall, with the last of the log and of the plan
FEWEST_UNITS = 4  # that have a spread in both variants


class PlanRequest(Strict):
    """What is asked of a plan.

    effect: the relative change that is to be found; of a guardrail, its margin instead; None: only what could be found.
    power: the chance to find it. traffic: the share of the units that take part. days: up to which day is reckoned.
    """

    effect: Annotated[float, Field(gt=0)] | None = None
    power: Share = 0.8
    traffic: Annotated[float, Field(gt=0, le=1)] = 1.0
    days: Annotated[int, Field(ge=1, le=366)] = 28


@dataclass(frozen=True)
class PlannedDay:
    """The end of a day. day: 1 is the first; observed: it is in the log; units: of both variants together.

    smallest: the smallest relative effect that is found with the wanted power; power: to find the wanted effect.
    """

    day: int
    observed: bool
    units: int
    smallest: float | None
    power: float | None


@dataclass(frozen=True)
class PlannedMetric:
    """A metric overall (scenario None) or in a scenario.

    value: of the past; alpha: the level of one test, which is the experiment's by the number of tests of its family;
    effect: that is to be found; days: some of them, by scenario the last of the log and of the plan; enough: the first
    day with the wanted power; reason: why nothing is planned.
    """

    metric: str
    scenario: str | None
    value: float | None
    alpha: float
    effect: float | None
    days: tuple[PlannedDay, ...] = ()
    enough: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """A planned experiment. shares: of control and of the smallest treatment; metrics: overall first."""

    name: str
    unit: str
    level: float
    power: float
    traffic: float
    shares: tuple[float, float]
    findings: tuple[Finding, ...]
    metrics: tuple[PlannedMetric, ...]

    def to_json(self) -> dict[str, Any]:
        """What plan.json holds."""
        return asdict(self)


@dataclass(frozen=True)
class Past:
    """The end of a past day in one slice: units seen so far."""

    day: int
    units: Aggregates


@dataclass(frozen=True)
class Reckoned:
    """The end of a day of the experiment. figures: of the units of that past day, or the last; units: taking part."""

    day: int
    observed: bool
    figures: Aggregates
    units: int


def plan(exposures: Path, outcomes: Path | None, file: ExperimentFile, request: PlanRequest, say: Say = print) -> Plan:
    """Read the past, and reckon every day of every metric, overall and by scenario.

    Variants of the past are not looked at. Raises ConfigError and DataError as `analyze` does.
    """
    past_file = file.model_copy(update={"variant": None, "shares": None, "triggered": None, "forced": None})
    with database() as con:
        bound, findings = load_tables(con, exposures, outcomes, past_file, say)
        cells.build_cells(con, past_file, bound, "all")
        days = cells.days(con)
        if not days:
            raise DataError("a plan is over days, so that the columns file must name `time` or `day` of the exposures")
        past: dict[str | None, list[Past]] = {None: []}
        for i, day in enumerate(days, 1):
            for part in (cells.OVERALL, cells.BY_SCENARIO):
                for name, variants in cells.aggregate(con, cells.through(part, day), bound.metrics).items():
                    key = None if part is cells.OVERALL else name
                    past.setdefault(key, []).append(Past(i, variants[EVERYONE]))
            say(f"read until the end of {day} ({i} of {len(days)})")
        scenarios = cells.scenarios(con)
    deciding = max(sum(metric.spec.margin is None for metric in bound.metrics), 1)
    planned = [
        _planned(
            file, request, metric, scenario, past[scenario], deciding * (1 if scenario is None else len(scenarios))
        )
        for scenario in (None, *scenarios)
        for metric in bound.metrics
    ]
    return Plan(
        file.name,
        file.unit or "row",
        file.level,
        request.power,
        request.traffic,
        _shares(file),
        tuple(findings),
        tuple(planned),
    )


def _planned(
    file: ExperimentFile, request: PlanRequest, metric: Metric, scenario: str | None, past: Sequence[Past], tests: int
) -> PlannedMetric:
    guardrail = metric.spec.margin is not None
    alpha = file.level / (1 if guardrail else tests)
    effect = metric.spec.margin if guardrail else request.effect
    empty = PlannedMetric(metric.spec.name, scenario, None, alpha, effect, reason=f"{metric.spec.value} does not vary")
    last = past[-1].units
    if last.mean(metric.numer) == 0 or last.count() < 2 or last.ratio_var(metric.numer, metric.denom) <= 0:
        return empty
    sizing = Sizing(metric, alpha, request.power, _shares(file), effect)
    calendar = _calendar(past, request.days, request.traffic * sum(sizing.shares))
    enough = next((day.day for day in calendar if sizing.has_power(day)), None) if effect else None
    told = {len(past), request.days, enough, *(SHOWN_DAYS if scenario is None else ())}
    days = tuple(_planned_day(sizing, day) for day in calendar if day.day in told)
    value = last.mean(metric.numer) / last.mean(metric.denom)
    return PlannedMetric(metric.spec.name, scenario, float(value), alpha, effect, days, enough)


@dataclass(frozen=True)
class Sizing:
    """Power analysis of one metric."""

    metric: Metric
    alpha: float
    power: float
    shares: tuple[float, float]
    effect: float | None

    def smallest(self, day: Reckoned) -> float | None:
        """The smallest relative effect that is found with the wanted power; None where nothing varies yet."""
        return self._solve(day, "rel_effect_size", None)

    def power_on(self, day: Reckoned) -> float | None:
        """The power to find the wanted effect; None without one, or where nothing varies yet."""
        return self._solve(day, "power", self.effect) if self.effect else None

    def has_power(self, day: Reckoned) -> bool:
        """Whether the wanted effect is found with the wanted power."""
        power = self.power_on(day)
        return power is not None and power >= self.power

    def _solve(self, day: Reckoned, what: Literal["power", "rel_effect_size"], effect: float | None) -> float | None:
        varies = day.figures.count() > 1 and day.figures.ratio_var(self.metric.numer, self.metric.denom) > 0
        if day.units < FEWEST_UNITS or not varies:
            return None
        cuped = has_covariate(self.metric, day.figures)
        test = self.metric.power(self.alpha, self.power, self.shares[1] / self.shares[0], effect, cuped=cuped)
        test.n_obs = (day.units,)
        (found,) = test.solve_power_from_aggregates(day.figures, what)
        return float(getattr(found, what))


def _planned_day(sizing: Sizing, day: Reckoned) -> PlannedDay:
    return PlannedDay(day.day, day.observed, day.units, sizing.smallest(day), sizing.power_on(day))


def _calendar(past: Sequence[Past], until: int, share: float) -> list[Reckoned]:
    """Every day up to `until`, and as far as the log goes. share: of the units that take part."""
    seen = [Reckoned(one.day, True, one.units, int(one.units.count() * share)) for one in past if one.day <= until]
    half = past[max(len(past) // 2 - 1, 0) :]
    new = [b.units.count() - a.units.count() for a, b in pairwise(half)] or [0]
    last, grows = past[-1], sum(new) / len(new)
    for day in range(last.day + 1, until + 1):
        units = last.units.count() + grows * (day - last.day)
        seen.append(Reckoned(day, False, last.units, int(units * share)))
    return seen


def _shares(file: ExperimentFile) -> tuple[float, float]:
    """Traffic of control and of the smallest treatment; half each where nothing is planned."""
    if not file.shares or len(file.shares) < 2:
        return 0.5, 0.5
    total = sum(file.shares.values())
    smallest = min(share for variant, share in file.shares.items() if variant != file.control)
    return file.shares[file.control] / total, smallest / total
