"""A backfill in words and tables: Markdown for people and pipelines, and the same tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from swrec_prod.evaluate.text import NONE, Grid, change, count, markdown_table, number, several, share
from swrec_prod.judge.record import BackfillRecord, Contrast, Figures, GaucDifference, JudgedModel, Verdict

MODES = {
    "frozen": "each model's weights stay as they are",
    "incremental": "each model is trained through the day before",
    "rolling": "each model is trained anew on the days before",
}
MARK = "*"  # of a significant difference
WIDEST = 12  # scenarios in a table


def backfill_markdown(record: BackfillRecord) -> str:
    """backfill.md: the pooled figures, the differences, and of every model the days by scenario."""
    parts = ["# Backfill", lead(record), _table(pooled_grid(record))]
    if record.differences:
        parts += ["## Differences", differences_note(record), _table(differences_grid(record))]
    if record.verdict is not None:
        parts += ["## Gate", *verdict_lines(record.verdict)]
    for model in record.models:
        parts += [f"## {model.name}", f"AUC by day and scenario{cut_note(record)}.", _table(days_grid(record, model))]
    return "\n\n".join(parts) + "\n"


def lead(record: BackfillRecord) -> str:
    """What was judged, in one or two sentences."""
    first, last = record.days[0], record.days[-1]
    what = f"{several(len(record.models), 'model')} on {several(len(record.days), 'day')}, {first} to {last}"
    window = f" ({several(record.window, 'day')})" if record.window else ""
    skipped = f" Without rows, and left out: {', '.join(map(str, record.skipped))}." if record.skipped else ""
    return f"{what}; mode {record.mode}: {MODES[record.mode]}{window}.{skipped}"


def pooled_grid(record: BackfillRecord) -> Grid:
    """One line a model and task: the figures of all days together."""
    header = ("model", "rows", "rate", "AUC", "95 %", "macro AUC", "GAUC", "log loss", "NE", "calibration", "unknown")
    rows = [_pooled_row(record, model, task) for model in record.models for task in record.tasks]
    return Grid(header, rows)


def days_grid(record: BackfillRecord, model: JudgedModel) -> Grid:
    """AUC of the first task: a line a day; all rows, the mean of scenarios, and the busiest scenarios."""
    shown = record.scenarios[:WIDEST]
    rows = []
    for day in model.days:
        parts = {(of.part, of.scenario): of for of in day.figures if of.task == record.tasks[0]}
        overall = parts["overall", None]
        cells = [parts.get(("macro", None)), *(parts.get(("scenario", name)) for name in shown)]
        aucs = (number(of.metrics["auc"]) if of else NONE for of in cells)
        rows.append([str(day.day), count(overall.rows), number(overall.metrics["auc"]), *aucs])
    return Grid(("day", "rows", "all rows", "mean", *shown), rows)


def differences_grid(record: BackfillRecord) -> Grid:
    """Every challenger less the champion: all rows, then the busiest scenarios."""
    order = {None: -1} | {name: at for at, name in enumerate(record.scenarios)}
    shown = sorted(record.differences, key=lambda of: (of.challenger, of.task, order.get(of.scenario, len(order))))
    header = ("model", "scenario", "rows", "days", "difference of AUC", "95 %", "p", "of GAUC", "95 %", "p")
    width = len(header) if any(of.gauc for of in shown) else header.index("of GAUC")
    return Grid(header[:width], [_difference_row(record, contrast)[:width] for contrast in shown])


def differences_note(record: BackfillRecord) -> str:
    """What the table of differences says."""
    return (
        f"AUC less that of {record.champion}, the mean over days within which rows are paired, weighted by rows, and "
        f"GAUC less that of {record.champion}, of all days together; "
        f"intervals are of other users. {MARK} marks what stays significant when 5 % of the marks may be false."
    )


def verdict_lines(verdict: Verdict) -> list[str]:
    """What the gate said, and why; a paragraph each."""
    decided = "may take the place of" if verdict.verdict == "promote" else "does not take the place of"
    lines = [f"{verdict.verdict}: {verdict.challenger} {decided} {verdict.champion} ({verdict.checks} checks)"]
    lines += [f"- {reason.text}" for reason in verdict.reasons]
    for word, contrasts in (("gains", verdict.gains), ("losses", verdict.losses)):
        named = ", ".join(f"{of.scenario} {change(of.value)}" for of in contrasts)
        lines += [f"significant {word}: {named}"] if named else []
    return lines


def cut_note(record: BackfillRecord) -> str:
    """Which scenarios a table leaves out; "" when none."""
    return "" if len(record.scenarios) <= WIDEST else f", the {WIDEST} busiest of {len(record.scenarios)} scenarios"


def _pooled_row(record: BackfillRecord, model: JudgedModel, task: str) -> Sequence[str]:
    parts = {of.part: of for of in model.pooled if of.task == task and of.part != "scenario"}
    overall, macro = parts["overall"], parts["macro"]
    of = overall.metrics
    name = model.name if len(record.tasks) == 1 else f"{model.name}, {task}"
    figures = (number(of[key], digits) for key, digits in (("gauc", 4), ("logloss", 4), ("ne", 3), ("calibration", 3)))
    rate = share(overall.positives / overall.rows) if overall.rows else NONE
    unknown = NONE if overall.unknown is None else share(overall.unknown)
    aucs = (number(of["auc"]), _interval(overall), number(macro.metrics["auc"]))
    return [name, count(overall.rows), rate, *aucs, *figures, unknown]


def _interval(figures: Figures) -> str:
    low, high = figures.intervals.get("auc", (None, None))
    return NONE if low is None else f"{number(low)} to {number(high)}"


def _difference_row(record: BackfillRecord, contrast: Contrast) -> Sequence[str]:
    name = contrast.challenger if len(record.tasks) == 1 else f"{contrast.challenger}, {contrast.task}"
    where = contrast.scenario or "all rows"
    figures = (*_difference_cells(contrast), *_difference_cells(contrast.gauc))
    return [name, where, count(contrast.rows), count(len(contrast.days)), *figures]


def _difference_cells(of: Contrast | GaucDifference | None) -> tuple[str, str, str]:
    if of is None:
        return NONE, NONE, NONE
    value = change(of.value) + (f" {MARK}" if of.significant else "")
    return value, f"{change(of.low)} to {change(of.high)}", f"{of.adjusted_p:.2g}"


def _table(grid: Grid) -> str:
    return markdown_table(grid.header, grid.rows)
