"""An analysed experiment in words and numbers: lines for the terminal, Markdown for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from swrec_prod.abtest.record import Always, Estimate, ExperimentRecord, Guardrail, Lift, Population, Trend
from swrec_prod.evaluate.terminal import terminal_table
from swrec_prod.evaluate.text import NONE, Grid, count, markdown_table, share
from swrec_prod.files import write_text

OVERALL = "overall"
SHORT = ("metric, scenario", "lift, %", "p", "Holm", "any look", "verdict")  # on the terminal
HEADER = ("metric", "treatment", "scenario", "units", "control", "lift", "p", "p (Holm)", "lift, any look", "verdict")


def write_experiment(record: ExperimentRecord, out: Path) -> None:
    """Write experiment.json and experiment.md into the folder `out`."""
    record.write(out / "experiment.json")
    write_text(out / "experiment.md", experiment_markdown(record))


def print_experiment(record: ExperimentRecord) -> None:
    """The experiment on the terminal."""
    console = Console()
    several = len(record.treatments) > 1
    for line in _head(record):
        console.print(line, soft_wrap=True, markup=False)
    for population in record.populations:
        console.print(f"\n{_population_line(population)}", soft_wrap=True, markup=False)
        if population.lifts:
            console.print(terminal_table(_short_grid(population.lifts, several)))


def experiment_markdown(record: ExperimentRecord) -> str:
    """experiment.md."""
    parts = [f"# {record.name}", *_head(record), _metrics(record)]
    for population in record.populations:
        parts.append(f"## {population.name.capitalize()} units\n\n{_population_line(population)}")
        parts += list(_sections(population))
    return "\n\n".join(filter(None, parts)) + "\n"


def lifts_grid(lifts: Sequence[Lift]) -> Grid:
    """One line a lift, those overall first."""
    return Grid(HEADER, [_lift_row(lift) for lift in lifts], strong=sum(lift.scenario is None for lift in lifts))


def _short_grid(lifts: Sequence[Lift], several: bool) -> Grid:
    """The same for the terminal; several: there are several treatments, so that lines name theirs."""
    rows = [
        [
            f"{lift.metric}, {f'{lift.treatment}, ' if several else ''}{_where(lift)}",
            _short_lift(lift.relative),
            *map(_p, (lift.p, lift.p_holm, lift.always.p if lift.always else None)),
            lift.verdict if lift.guardrail is None else f"guardrail {lift.guardrail.verdict}",
        ]
        for lift in lifts
    ]
    return Grid(SHORT, rows, strong=sum(lift.scenario is None for lift in lifts))


def _head(record: ExperimentRecord) -> Iterator[str]:
    if record.stop:
        yield f"STOP: {record.stop}. Lifts are not to be believed: find out which units are missing, and why."
    days = f", {record.days[0]} to {record.days[1]}" if record.days else ""
    compared = f"{', '.join(record.treatments)} against {record.control}"
    yield f"{record.name}: {compared}, randomised by {record.unit}{days}; level {share(record.level)}."
    for finding in record.findings:
        if finding.kind != "stop":
            yield f"{finding.kind}: {count(finding.count)} of {count(finding.of)} {finding.name}: {finding.text}."


def _metrics(record: ExperimentRecord) -> str:
    rows = [
        [
            metric.name,
            metric.formula,
            metric.better,
            share(metric.margin) if metric.margin is not None else NONE,
            metric.cuped or NONE,
        ]
        for metric in record.metrics
    ]
    return markdown_table(("metric", "formula", "better", "guardrail's margin", "CUPED covariate"), rows)


def _population_line(population: Population) -> str:
    ratio = population.sample_ratio
    units = ", ".join(
        f"{count(n)} in {variant} (planned {share(ratio.planned[variant])})" for variant, n in ratio.units.items()
    )
    verdict = "as planned" if ratio.ok else "MISMATCH"
    withheld = "" if ratio.ok or population.lifts else "; lifts are withheld"
    return f"Of {population.name} units {units}; sample ratio {verdict} (p {_p(ratio.p)}){withheld}."


def _sections(population: Population) -> Iterator[str]:
    if population.lifts:
        yield markdown_table(*lifts_grid(population.lifts)[:2])
    reasons = {f"{_name(lift)}: {lift.reason}" for lift in population.lifts if lift.reason}
    yield "\n".join(f"- {reason}" for reason in sorted(reasons))
    if population.trends:
        yield "### Over days\n\n" + markdown_table(
            ("metric", "treatment", "change of the difference a day", "p (Holm)", "verdict"),
            [_trend_row(trend) for trend in population.trends],
        )


def _lift_row(lift: Lift) -> list[str]:
    return [
        lift.metric,
        lift.treatment,
        _where(lift),
        f"{count(lift.control_units)} / {count(lift.treatment_units)}",
        NONE if lift.control is None else f"{lift.control:.4g}",
        _relative(lift.relative, lift.difference),
        _p(lift.p),
        _p(lift.p_holm),
        _always(lift.always),
        _verdict(lift),
    ]


def _trend_row(trend: Trend) -> list[str]:
    return [trend.metric, trend.treatment, _absolute(trend.slope), _p(trend.p_holm), trend.verdict]


def _verdict(lift: Lift) -> str:
    return lift.verdict if lift.guardrail is None else _guardrail(lift.guardrail)


def _guardrail(guardrail: Guardrail) -> str:
    return f"guardrail {guardrail.verdict} ({_percent(guardrail.bound)}, margin {share(guardrail.margin)})"


def _always(always: Always | None) -> str:
    if always is None:
        return NONE
    return f"{_relative(always.relative, always.difference)}, p {_p(always.p)}"


def _relative(relative: Estimate | None, difference: Estimate | None) -> str:
    """A lift as a percentage, or in the metric's unit where control's value is 0."""
    if relative is None:
        return NONE if difference is None else _absolute(difference)
    return f"{_percent(relative.value)} [{_percent(relative.low)}, {_percent(relative.high)}]"


def _short_lift(relative: Estimate | None) -> str:
    if relative is None:
        return NONE
    value, *ends = (NONE if v is None else f"{100 * v:+.1f}" for v in (relative.value, relative.low, relative.high))
    return f"{value} [{', '.join(ends)}]".replace("-", "−")


def _absolute(estimate: Estimate) -> str:
    ends = ", ".join(NONE if end is None else f"{end:+.3g}" for end in (estimate.low, estimate.high))
    return f"{estimate.value:+.3g} [{ends}]".replace("-", "−")


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:+.1f}\u202f%".replace("-", "−")


def _p(p: float | None) -> str:
    return NONE if p is None else f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _name(lift: Lift) -> str:
    return f"{lift.metric}, {lift.treatment}, {_where(lift)}"


def _where(lift: Lift) -> str:
    return OVERALL if lift.scenario is None else lift.scenario
