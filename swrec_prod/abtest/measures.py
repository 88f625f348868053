"""Which columns a metric needs, under which names they are summed, and the test that tea-tasting has for it.

m0, m1, ...   a column that is summed, of the outcomes or of the exposures
exposures     their number
c0, c1, ...   a covariate, a column of the exposures
b0, b1, ...   a covariate, the sum of m0, m1, ... over the outcomes from before the experiment
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import tea_tasting

from swrec_prod.abtest.columns import ExperimentFile, MetricSpec
from swrec_prod.abtest.tables import check_number
from swrec_prod.errors import ConfigError, nearest

Types = dict[str, str]
Alternative = Literal["two-sided", "greater", "less"]
EXPOSURES = "exposures"
OF_A_UNIT, OF_AN_EXPOSURE = "unit", "exposure"  # what a metric may be per, beside a column


@dataclass(frozen=True)
class Measure:
    """A column that is summed. source: the table that has it."""

    name: str
    column: str
    source: Literal["outcomes", "exposures"]


@dataclass(frozen=True)
class Metric:
    """A metric over sums of units: numer / denom, both by unit; denom None: the mean over units."""

    spec: MetricSpec
    numer: str
    denom: str | None = None
    covariate: str | None = None
    covariate_per: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The sums and covariates it needs."""
        return tuple(filter(None, (self.numer, self.denom, self.covariate, self.covariate_per)))

    @property
    def higher(self) -> bool:
        """Whether more of it is better."""
        return self.spec.better == "higher"

    def test(
        self, level: float, alternative: Alternative = "two-sided", *, cuped: bool = True, normal: bool = False
    ) -> tea_tasting.RatioOfMeans:
        """Welch's test of the ratio of sums, its variance by the delta method with units as clusters (Deng, Knoblich
        and Lu, KDD 2018), after CUPED (Deng et al., WSDM 2013) where it has a covariate.

        normal: of the normal distribution instead of Student's t.
        """
        covariates = (self.covariate, self.covariate_per) if cuped else (None, None)
        return tea_tasting.RatioOfMeans(
            self.numer,
            self.denom,
            *covariates,
            alternative=alternative,
            confidence_level=1 - level,
            alpha=level,
            use_t=not normal,
        )

    def power(
        self, alpha: float, power: float, ratio: float, effect: float | None = None, *, cuped: bool
    ) -> tea_tasting.RatioOfMeans:
        """The test as power analysis asks for it; of a guardrail one-sided, since it must only exclude its margin.

        ratio: treated units by those of control; effect: the relative one that is asked about, > 0.
        """
        covariates = (self.covariate, self.covariate_per) if cuped else (None, None)
        alternative: Alternative = "two-sided" if self.spec.margin is None else "greater"
        return tea_tasting.RatioOfMeans(
            self.numer,
            self.denom,
            *covariates,
            alternative=alternative,
            alpha=alpha,
            power=power,
            ratio=ratio,
            rel_effect_size=effect,
            use_t=False,
        )

    def formula(self) -> str:
        """For people."""
        if self.denom is None:
            return f"sum({self.spec.value}) / units"
        return f"sum({self.spec.value}) / {EXPOSURES if self.denom == EXPOSURES else f'sum({self.spec.per})'}"

    def cuped(self) -> str | None:
        """The covariate, for people."""
        if self.covariate is None or self.spec.covariate is None:
            return self.covariate and f"{self.spec.value} before the experiment"
        return " / ".join(filter(None, (self.spec.covariate, self.spec.covariate_per)))


@dataclass(frozen=True)
class Bound:
    """The metrics of a columns file, bound to the columns of two tables. covariates: {c0: column}."""

    metrics: tuple[Metric, ...]
    measures: tuple[Measure, ...]
    covariates: dict[str, str]

    def of(self, source: Literal["outcomes", "exposures"]) -> list[Measure]:
        """The measures that are columns of `source`."""
        return [measure for measure in self.measures if measure.source == source]


def bind(file: ExperimentFile, exposures: Types, outcomes: Types | None) -> Bound:
    """Find the columns of every metric; one that both tables have is the outcomes'.

    Raises ConfigError where neither has it, DataError where it is no number.
    """
    named = _in_order(column for spec in file.metrics for column in _summed(spec))
    measures = {column: _measure(f"m{i}", column, exposures, outcomes or {}) for i, column in enumerate(named)}
    columns = _in_order(column for spec in file.metrics for column in (spec.covariate, spec.covariate_per))
    covariates = {column: f"c{i}" for i, column in enumerate(columns)}
    for column in covariates:
        if column not in exposures:
            raise ConfigError(f"covariate: exposures have no column {column!r}; {nearest(column, exposures)}")
        check_number(column, "covariate", exposures)
    with_past = file.outcomes is not None and file.outcomes.pre_days is not None
    metrics = tuple(_metric(spec, measures, covariates, with_past) for spec in file.metrics)
    return Bound(metrics, tuple(measures.values()), {name: column for column, name in covariates.items()})


def before(measure: str) -> str:
    """The name of a measure's sum over the time before the experiment."""
    return f"b{measure[1:]}"


def _metric(spec: MetricSpec, measures: dict[str, Measure], covariates: dict[str, str], with_past: bool) -> Metric:
    numer = measures[spec.value]
    denom = None if spec.per in (OF_A_UNIT, OF_AN_EXPOSURE) else measures[spec.per]
    per = EXPOSURES if spec.per == OF_AN_EXPOSURE else None if denom is None else denom.name
    if spec.covariate:
        over = covariates[spec.covariate_per] if spec.covariate_per else None
        return Metric(spec, numer.name, per, covariates[spec.covariate], over)
    if with_past and numer.source == "outcomes":
        past = before(denom.name) if denom and denom.source == "outcomes" else None
        return Metric(spec, numer.name, per, before(numer.name), past)
    return Metric(spec, numer.name, per)


def _summed(spec: MetricSpec) -> tuple[str, ...]:
    return (spec.value,) if spec.per in (OF_A_UNIT, OF_AN_EXPOSURE) else (spec.value, spec.per)


def _measure(name: str, column: str, exposures: Types, outcomes: Types) -> Measure:
    for source, known in (("outcomes", outcomes), ("exposures", exposures)):
        if column in known:
            check_number(column, "metrics", known)
            return Measure(name, column, source)  # type: ignore[arg-type]
    tables = "outcomes and exposures have" if outcomes else "exposures have"
    raise ConfigError(f"metrics: {tables} no column {column!r}; {nearest(column, [*outcomes, *exposures])}")


def _in_order(columns: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(filter(None, columns)))
