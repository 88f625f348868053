"""What `swrec abtest analyze` found: experiment.json is this record, and text and pages are made of it.

Differences are treatment minus control in the metric's own unit, relative ones are fractions of control's value (0.02
is 2 %). None stands for a figure that does not exist, and `reason` says why.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic

from swrec_prod.errors import DataError
from swrec_prod.files import write_json

FORMAT = 1

Verdict = Literal["gain", "loss", "no difference seen", "not judged"]
GuardrailVerdict = Literal["holds", "broken", "not proven"]
TrendVerdict = Literal["fades", "grows", "steady"]


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its interval; None for an end that does not exist."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class MetricNote:
    """A metric as the columns file defines it.

    formula: for people, `sum(click) / sum(impressions)`; better: which way is a gain; margin: of a guardrail, the
    relative loss that is tolerated; None for a metric that decides; cuped: the covariate, for people.
    """

    name: str
    formula: str
    better: Literal["higher", "lower"] = "higher"
    margin: float | None = None
    cuped: str | None = None


@dataclass(frozen=True)
class Finding:
    """Something counted in the input. kind: a stop withholds figures; `count` of `of` rows or units."""

    name: str
    kind: Literal["note", "warning", "stop"]
    count: int
    of: int
    text: str


@dataclass(frozen=True)
class SampleRatio:
    """Units of each variant against the planned shares (sum 1). p: of the chi-squared test; ok: p >= 0.001."""

    units: dict[str, int]
    planned: dict[str, float]
    p: float
    ok: bool


@dataclass(frozen=True)
class Always:
    """Valid however often one has looked: the confidence sequence at the last look, and the always-valid p-value.

    since: the first day at whose end the sequence left 0 out; None while it has not.
    """

    difference: Estimate
    relative: Estimate | None
    p: float
    p_holm: float | None
    since: str | None


@dataclass(frozen=True)
class Guardrail:
    """Non-inferiority. bound: the relative change that is not yet excluded on the bad side, one-sided at the level."""

    margin: float
    bound: float
    verdict: GuardrailVerdict


@dataclass(frozen=True)
class Lift:
    """One metric of one treatment against control, overall (scenario None) or in one scenario.

    control_units, treatment_units: units of randomisation that are compared; control, treatment_value: the metric's
    values, after CUPED where it is used; p_holm: p corrected by Holm over the family, the metrics x treatments
    overall, or metrics x treatments x scenarios; variance_left: the share of variance that CUPED left, None without it;
    unadjusted: the relative lift without CUPED; verdict: by p_holm.
    """

    metric: str
    treatment: str
    scenario: str | None
    control_units: int
    treatment_units: int
    control: float | None = None
    treatment_value: float | None = None
    difference: Estimate | None = None
    relative: Estimate | None = None
    p: float | None = None
    p_holm: float | None = None
    always: Always | None = None
    variance_left: float | None = None
    unadjusted: Estimate | None = None
    guardrail: Guardrail | None = None
    verdict: Verdict = "not judged"
    reason: str = ""


@dataclass(frozen=True)
class DayLift:
    """The lift of one day alone (ISO date), of the units seen on it; no interval here is corrected."""

    metric: str
    treatment: str
    day: str
    control_units: int
    treatment_units: int
    difference: Estimate
    relative: Estimate | None


@dataclass(frozen=True)
class Look:
    """What was known at the end of a day: the interval for one look, and the one that allows a look every day."""

    metric: str
    treatment: str
    day: str
    difference: Estimate
    always: Estimate
    p_always: float


@dataclass(frozen=True)
class Trend:
    """Novelty: the slope of the daily difference, a day, with units as clusters; p_holm over metrics x treatments."""

    metric: str
    treatment: str
    slope: Estimate
    p: float
    p_holm: float
    verdict: TrendVerdict


@dataclass(frozen=True)
class Population:
    """Whom an analysis is about: `all` units that were exposed, or the `triggered` ones.

    arrivals: units first seen, {day: {variant: units}}; lifts is empty where sample_ratio is not ok and the mismatch
    was not overruled; days, looks and trends are overall, and empty where there is one day or no time.
    """

    name: Literal["all", "triggered"]
    sample_ratio: SampleRatio
    arrivals: dict[str, dict[str, int]]
    lifts: tuple[Lift, ...] = ()
    days: tuple[DayLift, ...] = ()
    looks: tuple[Look, ...] = ()
    trends: tuple[Trend, ...] = ()


@dataclass(frozen=True)
class ExperimentRecord:
    """An analysed experiment.

    unit: what was randomised, for people; level: of all tests, intervals have 1 - level; days: first and last day
    (ISO), None without a time; stop: why figures are withheld or must not be acted on, "" if nothing forbids it.
    """

    name: str
    control: str
    treatments: tuple[str, ...]
    unit: str
    level: float
    days: tuple[str, str] | None
    metrics: tuple[MetricNote, ...]
    scenarios: tuple[str, ...]
    findings: tuple[Finding, ...]
    populations: tuple[Population, ...]
    stop: str = ""
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """What experiment.json holds."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write experiment.json."""
        write_json(path, self.to_json())


def experiment_of(content: Any, source: str = "experiment.json") -> ExperimentRecord:
    """The record that `to_json` gave; raises DataError, naming `source`, where it is not one."""
    try:
        return pydantic.TypeAdapter(ExperimentRecord).validate_python(content)
    except pydantic.ValidationError as failure:
        first = failure.errors()[0]
        place = ".".join(map(str, first["loc"])) or "(top level)"
        raise DataError(f"{source}: no experiment of format {FORMAT}: {place}: {first['msg']}") from None
