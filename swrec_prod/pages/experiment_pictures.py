"""Pictures of an experiment: lifts overall and in every scenario, and how they moved from day to day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from swrec_prod.abtest.record import Estimate, ExperimentRecord, Lift, Population
from swrec_prod.drawing.by_day import DayFigure, Series, by_day_figure, least_width
from swrec_prod.drawing.style import Picture
from swrec_prod.drawing.whiskers import Unit, Whisker, seesaw, whiskers_picture
from swrec_prod.evaluate.text import several, share

RELATIVE = Unit("lift relative to control", percent=True)
ANY_LOOK, ONE_LOOK = "for a look every day", "for one look"


def overall_lifts(record: ExperimentRecord, population: Population) -> Iterator[Picture]:
    """The relative lift of every metric over all scenarios."""
    lifts = [lift for lift in population.lifts if lift.scenario is None and lift.relative]
    if lifts:
        whiskers = [_whisker(record, lift, lift_name(record, lift)) for lift in lifts]
        how = f"{whiskers_note(record)} over these lifts."
        title = f"Lift over {record.control}{of_population(population)}"
        yield whiskers_picture(title, whiskers, RELATIVE, _overall_finding(whiskers), how)


def scenario_lifts(record: ExperimentRecord, population: Population) -> Iterator[Picture]:
    """For each metric and treatment, what every scenario gained or lost, highest first."""
    for metric, treatment in _pairs(record):
        lifts = [
            lift
            for lift in population.lifts
            if (lift.metric, lift.treatment) == (metric, treatment) and lift.scenario is not None
        ]
        whiskers = [_whisker(record, lift, str(lift.scenario)) for lift in lifts if lift.relative]
        if whiskers:
            how = f"{whiskers_note(record)} over all scenarios."
            missing = len(lifts) - len(whiskers)
            how += f" {several(missing, 'scenario')} had too little for an interval." if missing else ""
            title = f"What scenarios gain and lose in {metric} with {treatment}{of_population(population)}"
            yield seesaw(title, whiskers, RELATIVE, how)


def lifts_by_day(record: ExperimentRecord, population: Population) -> Iterator[Picture]:
    """The lift of each day alone: what fades was novelty."""
    days = sorted({lift.day for lift in population.days})
    if len(days) < 2:
        return
    for treatment in record.treatments:
        series = {m.name: _daily(population, m.name, treatment, days) for m in record.metrics}
        series = {name: values for name, values in series.items() if any(values)}
        if series:
            figure = by_day_figure(days, series, "lift of the day, relative to control", "+.1%", level=0.0)
            finding = _trend_finding(population, treatment)
            how = f"Units seen on the day. Intervals ({confidence(record)}) are of each day alone and not corrected."
            title = f"Lift of {treatment} day by day{of_population(population)}"
            yield Picture(title, finding, how, figure, least_width(days))


def looks(record: ExperimentRecord, population: Population) -> Iterator[Picture]:
    """What was known at the end of each day, for one look and for a look every day."""
    for metric, treatment in _pairs(record):
        known = [look for look in population.looks if (look.metric, look.treatment) == (metric, treatment)]
        days = [look.day for look in known]
        if len(days) > 1:
            series: dict[str, Series] = {
                ANY_LOOK: [_figure(look.always) for look in known],
                ONE_LOOK: [_figure(look.difference) for look in known],
            }
            figure = by_day_figure(days, series, f"{metric}, {treatment} less {record.control}", "+.3~g", level=0.0)
            how = "Over all days so far. Who stops as soon as a band leaves 0 must take the wider one."
            title = f"What was known of {metric} day by day: {treatment}{of_population(population)}"
            yield Picture(title, _look_finding(population, metric, treatment), how, figure, least_width(days))


def arrivals(population: Population) -> Iterator[Picture]:
    """Units first seen on each day, by variant."""
    days = sorted(population.arrivals)
    if len(days) > 1:
        variants = list(population.sample_ratio.units)
        series: dict[str, Series] = {
            name: [DayFigure(population.arrivals[day].get(name, 0)) for day in days] for name in variants
        }
        figure = by_day_figure(days, series, "units first seen", ",")
        figure.update_yaxes(rangemode="tozero")
        how = "Lines that part on some day show when a variant lost units."
        yield Picture(f"Units by day{of_population(population)}", "", how, figure, least_width(days))


def of_population(population: Population) -> str:
    """What a title ends in: "" for all units."""
    return "" if population.name == "all" else f", {population.name} units"


def confidence(record: ExperimentRecord) -> str:
    """The level of intervals: 95 %."""
    return share(1 - record.level)


def whiskers_note(record: ExperimentRecord) -> str:
    """How to read dots and whiskers; what the correction is over follows."""
    return f"Whiskers are {confidence(record)} intervals. Filled: significant after Holm's correction"


def lift_name(record: ExperimentRecord, lift: Lift) -> str:
    """The metric, and the treatment where there are several."""
    return lift.metric if len(record.treatments) == 1 else f"{lift.metric}, {lift.treatment}"


def _pairs(record: ExperimentRecord) -> list[tuple[str, str]]:
    return [(metric.name, treatment) for metric in record.metrics for treatment in record.treatments]


def _whisker(record: ExperimentRecord, lift: Lift, name: str) -> Whisker:
    assert lift.relative is not None
    marks: dict[str, Literal["gain", "loss", ""]] = {"gain": "gain", "loss": "loss"}
    units = f"{lift.control_units:,} in {record.control}, {lift.treatment_units:,} in {lift.treatment}"
    return Whisker(name, *_ends(lift.relative), marks.get(lift.verdict, ""), f"{lift.verdict}; units: {units}")


def _ends(estimate: Estimate) -> tuple[float, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def _figure(estimate: Estimate) -> DayFigure:
    return DayFigure(*_ends(estimate))


def _daily(population: Population, metric: str, treatment: str, days: Sequence[str]) -> Series:
    known = {d.day: d.relative for d in population.days if (d.metric, d.treatment) == (metric, treatment)}
    return [_figure(relative) if (relative := known.get(day)) else None for day in days]


def _overall_finding(whiskers: Sequence[Whisker]) -> str:
    told = [f"{w.name} {RELATIVE.text(w.value)}{'' if w.mark else ' (chance may explain it)'}" for w in whiskers]
    return f"{'; '.join(told)}."


def _trend_finding(population: Population, treatment: str) -> str:
    told = [f"{t.metric} {t.verdict}" for t in population.trends if t.treatment == treatment]
    return f"Over the days: {', '.join(told)}." if told else ""


def _look_finding(population: Population, metric: str, treatment: str) -> str:
    """Since when the wider band leaves 0 out."""
    of = ((lift.metric, lift.treatment, lift.scenario, lift.always) for lift in population.lifts)
    always = next((a for *names, a in of if names == [metric, treatment, None]), None)
    if always is None:
        return ""
    told = f"have told it from 0 since {always.since}" if always.since else "have not told it from 0 yet"
    return f"Daily looks {told} (p {always.p:.2g})."
