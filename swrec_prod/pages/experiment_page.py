"""An analysed experiment as a page: drawn from its record (experiment.json) alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from swrec_prod.abtest.record import ExperimentRecord, Finding, Lift, MetricNote, Population
from swrec_prod.abtest_text.analysis import lifts_grid
from swrec_prod.drawing.html import as_html
from swrec_prod.drawing.page import Card, Decision, Facts, Page, Point, Section, Table, Tone
from swrec_prod.evaluate.text import NONE, Grid, count, number, several, share
from swrec_prod.files import write_text
from swrec_prod.pages import experiment_pictures as pictures

PAGE = "experiment.html"
TONES: dict[str, Tone] = {"gain": "good", "loss": "bad", "holds": "good", "broken": "bad"}
CARDS = 5


def write_experiment_page(record: ExperimentRecord, out: Path) -> None:
    """Write experiment.html into the folder `out`, beside experiment.json and experiment.md, whole or not at all."""
    write_text(out / PAGE, as_html(experiment_page(record)))


def experiment_page(record: ExperimentRecord) -> Page:
    """What is to be done first, then why, then what it rests on."""
    sections: list[Section] = list(_decisions(record))
    for population in record.populations:
        sections += pictures.overall_lifts(record, population)
        sections += pictures.scenario_lifts(record, population)
        sections += pictures.lifts_by_day(record, population)
        sections += pictures.looks(record, population)
        sections += _tables(record, population)
        sections += pictures.arrivals(population)
    if record.findings:
        sections.append(Table("What was found in the input", findings_grid(record)))
    sections.append(Facts("What was measured", [(m.name, _metric(m)) for m in record.metrics]))
    return Page(f"Experiment: {record.name}", _lead(record), list(_cards(record)), sections)


def findings_grid(record: ExperimentRecord) -> Grid:
    """What was counted in the input, that which stops the analysis first."""
    order = ("stop", "warning", "note")
    found = sorted(record.findings, key=lambda finding: order.index(finding.kind))
    return Grid(("what", "kind", "count", "of", ""), [_finding_row(finding) for finding in found])


def ratio_grid(population: Population) -> Grid:
    """Units of every variant against what was planned."""
    ratio, total = population.sample_ratio, sum(population.sample_ratio.units.values())
    rows = [
        [name, count(units), share(units / total) if total else NONE, share(ratio.planned[name])]
        for name, units in ratio.units.items()
    ]
    return Grid(("variant", "units", "share", "planned"), rows)


def cuped_grid(record: ExperimentRecord, population: Population) -> Grid | None:
    """What CUPED changed; None where it was not used."""
    lifts = [lift for lift in population.lifts if lift.variance_left is not None]
    rows = [
        [_place(record, lift), _relative(lift), _unadjusted(lift), share(lift.variance_left or 0)] for lift in lifts
    ]
    return Grid(("metric", "lift", "without CUPED", "variance left"), rows) if rows else None


def _decisions(record: ExperimentRecord) -> Iterator[Decision]:
    if record.stop:
        found = [Point("bad", _sentence(finding)) for finding in record.findings if finding.kind == "stop"]
        text = f"{record.stop}. Find out which units are missing first."
        yield Decision("Can it be acted on?", "stop", "bad", text, found)
    overall = [lift for lift in record.populations[0].lifts if lift.scenario is None] if record.populations else []
    for treatment in record.treatments:
        if lifts := [lift for lift in overall if lift.treatment == treatment]:
            yield _decision(record, treatment, lifts)


def _decision(record: ExperimentRecord, treatment: str, lifts: list[Lift]) -> Decision:
    """One treatment: its metrics that decide, and its guardrails."""
    points = [Point(_tone(lift), _told(lift)) for lift in lifts]
    broken = any(lift.guardrail and lift.guardrail.verdict == "broken" for lift in lifts)
    verdicts = [lift.verdict for lift in lifts if lift.guardrail is None]
    if broken:
        word, tone, text = "guardrail broken", "bad", "loses more than is tolerated in a metric that guards."
    elif "loss" in verdicts:
        word, tone, text = "loss", "bad", f"is worse than {record.control} in a metric that decides."
    elif "gain" in verdicts:
        word, tone, text = "gain", "good", f"is better than {record.control}, and no metric that decides is worse."
    else:
        word, tone, text = "no difference seen", "unclear", f"cannot be told from {record.control}."
    return Decision(f"{treatment} against {record.control}", word, tone, f"{treatment} {text}", points)  # type: ignore[arg-type]


def _tone(lift: Lift) -> Tone:
    return TONES.get(lift.guardrail.verdict if lift.guardrail else lift.verdict, "unclear")


def _told(lift: Lift) -> str:
    """A lift in a sentence."""
    corrected = f", p (Holm) {_p(lift.p_holm)}" if lift.p_holm is not None else ""
    text = f"{lift.metric}: {_relative(lift)}{corrected}"
    if lift.guardrail:
        bound = pictures.RELATIVE.text(lift.guardrail.bound)
        allowed = share(lift.guardrail.margin)
        return f"{text}; guardrail {lift.guardrail.verdict}: {bound} is not excluded, a loss of {allowed} is tolerated."
    return f"{text}; {lift.verdict}{f': {lift.reason}' if lift.reason else ''}."


def _tables(record: ExperimentRecord, population: Population) -> Iterator[Section]:
    ending = pictures.of_population(population)
    if population.lifts:
        note = f"lift: relative to {record.control}, with its {pictures.confidence(record)} interval; any look: "
        yield Table(
            f"Lifts{ending}", _shown(record, lifts_grid(population.lifts)), f"{note}valid however often one looks."
        )
    if grid := cuped_grid(record, population):
        note = "variance left: of the metric, once the covariate has explained its part."
        yield Table(f"What CUPED changed{ending}", grid, note)
    ratio = population.sample_ratio
    verdict = "as planned" if ratio.ok else "a mismatch: some units are missing, and not at random"
    yield Table(f"Units of each variant{ending}", ratio_grid(population), f"Sample ratio: {verdict} (p {_p(ratio.p)}).")


def _shown(record: ExperimentRecord, grid: Grid) -> Grid:
    """What matters most in front; the treatment is named where there are several."""
    order = ["metric", "treatment", "scenario", "verdict", "lift", "p (Holm)", "lift, any look", "units"]
    at = [grid.header.index(name) for name in order if name != "treatment" or len(record.treatments) > 1]
    return Grid([grid.header[i] for i in at], [[row[i] for i in at] for row in grid.rows], grid.strong)


def _cards(record: ExperimentRecord) -> Iterator[Card]:
    for population in record.populations[:1]:
        for lift in [lift for lift in population.lifts if lift.scenario is None and lift.relative][:CARDS]:
            assert lift.relative is not None
            value, note = pictures.RELATIVE.text(lift.relative.value), f"{_interval(lift)}; {lift.verdict}"
            yield Card(f"Lift, {pictures.lift_name(record, lift)}", value, note)
        ratio = population.sample_ratio
        yield Card("Sample ratio", "as planned" if ratio.ok else "mismatch", f"p {_p(ratio.p)}")


def _lead(record: ExperimentRecord) -> str:
    compared = f"{', '.join(record.treatments)} against {record.control}, randomised by {record.unit}"
    days = f", {record.days[0]} to {record.days[1]}" if record.days else ""
    units = sum(record.populations[0].sample_ratio.units.values()) if record.populations else 0
    return f"{compared}{days}: {several(units, 'unit')} in {several(len(record.scenarios), 'scenario')}."


def _finding_row(finding: Finding) -> list[str]:
    return [finding.name, finding.kind, count(finding.count), count(finding.of), finding.text]


def _sentence(finding: Finding) -> str:
    return f"{count(finding.count)} of {count(finding.of)} {finding.name}: {finding.text}."


def _metric(metric: MetricNote) -> str:
    guard = "" if metric.margin is None else f"; guardrail, a loss of {share(metric.margin)} is tolerated"
    return f"{metric.formula}; {metric.better} is better{guard}{f'; CUPED by {metric.cuped}' if metric.cuped else ''}"


def _place(record: ExperimentRecord, lift: Lift) -> str:
    name = pictures.lift_name(record, lift)
    return name if lift.scenario is None else f"{name}, {lift.scenario}"


def _relative(lift: Lift) -> str:
    return f"{pictures.RELATIVE.text(lift.relative.value)} ({_interval(lift)})" if lift.relative else NONE


def _unadjusted(lift: Lift) -> str:
    return pictures.RELATIVE.text(lift.unadjusted.value) if lift.unadjusted else NONE


def _interval(lift: Lift) -> str:
    ends = (lift.relative.low, lift.relative.high) if lift.relative else (None, None)
    return " to ".join(NONE if end is None else pictures.RELATIVE.text(end) for end in ends)


def _p(p: float | None) -> str:
    return number(p, 3) if p is None or p >= 0.001 else f"{p:.0e}"
