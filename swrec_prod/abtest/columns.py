"""The columns file: what the columns of exposures and outcomes mean, and what is to be judged by them.

name: feed_ranker
unit: user_id
variant: arm
control: old
shares: {old: 0.5, new: 0.5}
time: ts
scenario: tab
outcomes: {unit: user_id, time: ts, scenario: tab, pre_days: 14}
metrics:
  - {name: ctr, value: click, per: exposure}
  - {name: watch_time, value: seconds, margin: 0.01}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from swrec_prod.errors import ConfigError, nearest
from swrec_prod.shipped import find, names, stem
from swrec_prod.strict import Strict, load

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class MetricSpec(Strict):
    """One metric: the sum of a column by something.

    name: of the metric, in everything that is written.
    value: the column that is summed, of outcomes or of exposures.
    per: what the sum is divided by: `unit` (a mean over units), `exposure` (their number), or a column that is summed
    as well; the latter two are ratios of sums, whose intervals are of units as clusters.
    better: which way is a gain, higher or lower.
    margin: makes it a guardrail: the relative loss that is tolerated, 0.01 is 1 %; it must hold, not win.
    covariate: for CUPED, a column of exposures with a figure from before the experiment, one for each unit.
    covariate_per: of a ratio, the column that the covariate is divided by.
    """

    name: str
    value: str
    per: str = "unit"
    better: Literal["higher", "lower"] = "higher"
    margin: Positive | None = None
    covariate: str | None = None
    covariate_per: str | None = None


class OutcomesSpec(Strict):
    """What the columns of the outcomes mean. They are joined by `request` where it is given, else by `unit`.

    request: the request (or event) that an outcome belongs to, which `request` of the exposures names too.
    unit: the unit that had the outcome.
    time: when; an outcome joined by unit counts from the first exposure of its unit on.
    scenario: of an outcome that is joined by unit; left out, such outcomes are judged overall only.
    id: one name an outcome: repeated ones, as logs written at least once have them, count once.
    complete: there is an outcome, maybe of value 0, for every exposed request or unit, so that one that is missing is
    lost and not zero.
    pre_days: for CUPED, outcomes of so many days before the first exposure of all are each metric's covariate.
    """

    request: str | None = None
    unit: str | None = None
    time: str | None = None
    scenario: str | None = None
    id: str | None = None
    complete: bool = False
    pre_days: Annotated[int, Field(ge=1)] | None = None

    @pydantic.model_validator(mode="after")
    def _can_be_joined(self) -> OutcomesSpec:
        if self.request is None and self.unit is None:
            raise ValueError("needs request or unit, the column that exposures are joined by")
        if self.pre_days and not (self.unit and self.time):
            raise ValueError("pre_days needs unit and time of the outcomes")
        return self


class ExperimentFile(Strict):
    """A columns file.

    name: of the experiment, for people.
    rows: what a row of the exposures is: `exposures`, any number a unit, or `units`, one a unit.
    unit: the column of what was randomised (user, session, device); left out, every row is a unit.
    variant: the column that says which variant it got; null: there was no experiment, and one can only be planned.
    control: the variant that the others are compared with.
    shares: planned traffic of each variant, in any scale; left out, equal. Rows of other variants are left out.
    time: when, a timestamp or integer microseconds (UTC). day: a column of days instead of those of `time`.
    scenario: lifts are judged in each of its values too.
    request: one name an exposure; repeated ones count once.
    triggered: a column of truth values: whether the variants differed for this exposure. These units are judged apart.
    forced: a column of truth values: who was put into a variant by hand, and is left out.
    where: {column: value}: the rows of the exposures that are of this experiment.
    outcomes: left out, metrics are columns of the exposures themselves.
    metrics: what is judged, see MetricSpec.
    level: of all tests; intervals have 1 - level.
    min_units: fewer units in a variant are not judged.
    horizon_days: how long the experiment is meant to run; sequential intervals are narrowest then.
    """

    name: str = "experiment"
    rows: Literal["exposures", "units"] = "exposures"
    unit: str | None = None
    variant: str | None = "arm"
    control: str = "control"
    shares: dict[str, Positive] | None = None
    time: str | None = None
    day: str | None = None
    scenario: str | None = None
    request: str | None = None
    triggered: str | None = None
    forced: str | None = None
    where: dict[str, str] = Field(default_factory=dict)
    outcomes: OutcomesSpec | None = None
    metrics: Annotated[tuple[MetricSpec, ...], Field(min_length=1)]
    level: Share = 0.05
    min_units: Annotated[int, Field(ge=2)] = 100
    horizon_days: Annotated[int, Field(ge=1)] = 14

    @pydantic.field_validator("metrics")
    @classmethod
    def _different_names(cls, metrics: tuple[MetricSpec, ...]) -> tuple[MetricSpec, ...]:
        names = [metric.name for metric in metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"two metrics have one name: {', '.join(names)}")
        return metrics

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> ExperimentFile:
        if self.shares is not None and self.control not in self.shares:
            raise ValueError(f"control {self.control!r} has no planned share; {nearest(self.control, self.shares)}")
        outcomes = self.outcomes
        if outcomes and outcomes.scenario and not self.scenario:
            raise ValueError("outcomes.scenario needs `scenario` of the exposures: who could have had an outcome there")
        if outcomes and outcomes.request and not self.request:
            raise ValueError("outcomes are joined by request, so that exposures need `request` too")
        if outcomes and not outcomes.request and not self.unit:
            raise ValueError("outcomes are joined by unit, so that exposures need `unit` too")
        return self


def load_columns(name: str | Path) -> ExperimentFile:
    """The columns file `name`: a path, or the name of one in configs/abtest/.

    Raises ConfigError when it is missing, is not YAML or says what nothing can be made of.
    """
    path = find("abtest", name)
    if path is None:
        raise ConfigError(f"{name}: no such columns file; {nearest(stem(name), names('abtest'))}")
    return load(ExperimentFile, path)
