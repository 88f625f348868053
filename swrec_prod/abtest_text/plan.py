"""A planned experiment in words and numbers: lines for the terminal, Markdown for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from swrec_prod.abtest.plan import Plan, PlannedDay, PlannedMetric
from swrec_prod.evaluate.terminal import terminal_table
from swrec_prod.evaluate.text import NONE, Grid, count, markdown_table, share
from swrec_prod.files import write_json, write_text

SCENARIOS = ("metric and scenario", "past value", "smallest effect", "days needed")


def write_plan(plan: Plan, out: Path) -> None:
    """Write plan.json and plan.md into the folder `out`."""
    write_json(out / "plan.json", plan.to_json())
    write_text(out / "plan.md", plan_markdown(plan))


def print_plan(plan: Plan) -> None:
    """The plan on the terminal."""
    console = Console()
    for line in _head(plan):
        console.print(line, soft_wrap=True, markup=False)
    for metric in _overall(plan):
        console.print(f"\n{_title(metric)}", soft_wrap=True, markup=False)
        if metric.days:
            console.print(terminal_table(days_grid(metric)))
    console.print(terminal_table(scenarios_grid(plan)))


def plan_markdown(plan: Plan) -> str:
    """plan.md."""
    parts = [f"# Plan of {plan.name}", *_head(plan)]
    for metric in _overall(plan):
        parts.append(f"## {_title(metric)}")
        parts += [markdown_table(*days_grid(metric)[:2])] if metric.days else []
    parts += ["## By scenario", markdown_table(*scenarios_grid(plan)[:2])]
    return "\n\n".join(parts) + "\n"


def days_grid(metric: PlannedMetric) -> Grid:
    """One line a day: units, the smallest effect that is found, and the power to find the wanted one."""
    header = ["until the end of day", "units", "smallest effect"]
    wanted = [] if metric.effect is None else [f"power for {share(metric.effect)}"]
    return Grid([*header, *wanted], [_day_row(day, bool(wanted)) for day in metric.days])


def scenarios_grid(plan: Plan) -> Grid:
    """One line a metric and scenario, as of the last day."""
    rows = [
        [
            f"{metric.metric}, {'overall' if metric.scenario is None else metric.scenario}",
            NONE if metric.value is None else f"{metric.value:.4g}",
            _share(metric.days[-1].smallest) if metric.days else NONE,
            _needed(metric),
        ]
        for metric in plan.metrics
    ]
    return Grid(SCENARIOS, rows, strong=len(_overall(plan)))


def _head(plan: Plan) -> Iterator[str]:
    control, treatment = map(share, plan.shares)
    yield (
        f"{plan.name}: units are {plan.unit}, {share(plan.traffic)} of the traffic, control {control}, treatment "
        f"{treatment}; level {share(plan.level)}, power {share(plan.power)}."
    )
    for finding in plan.findings:
        yield f"{finding.kind}: {count(finding.count)} of {count(finding.of)} {finding.name}: {finding.text}."
    if any(not day.observed for metric in plan.metrics for day in metric.days):
        yield "* marks days that are not in the log, and are reckoned from its last ones."


def _overall(plan: Plan) -> list[PlannedMetric]:
    return [metric for metric in plan.metrics if metric.scenario is None]


def _title(metric: PlannedMetric) -> str:
    if metric.reason or metric.value is None:
        return f"{metric.metric}: not planned, as {metric.reason}"
    needed = "" if metric.effect is None else f"; {share(metric.effect)} needs {_needed(metric)} days"
    return f"{metric.metric}: {metric.value:.4g} in the past{needed}"


def _needed(metric: PlannedMetric) -> str:
    if metric.effect is None or not metric.days:
        return NONE
    return count(metric.enough) if metric.enough else f"more than {metric.days[-1].day}"


def _day_row(day: PlannedDay, with_power: bool) -> list[str]:
    row = [f"{day.day}{'' if day.observed else ' *'}", count(day.units), _share(day.smallest)]
    return [*row, _share(day.power)] if with_power else row


def _share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f}\u202f%"
