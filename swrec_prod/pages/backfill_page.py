"""A backfill as a page: drawn from its record (backfill.json) alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from swrec_prod.drawing.html import as_html
from swrec_prod.drawing.page import Card, Decision, Facts, Page, Point, Section, Table
from swrec_prod.evaluate.terminal import DIGITS
from swrec_prod.evaluate.text import NONE, Grid, count, number, several, share
from swrec_prod.files import write_text
from swrec_prod.judge.record import BackfillRecord, Figures, JudgedModel, Verdict
from swrec_prod.pages import backfill_pictures as pictures
from swrec_prod.pages.backfill_figures import by_day, part_of

PAGE = "backfill.html"
FIGURES = ("AUC", "GAUC", "NDCG", "log loss", "NE", "calibration", "ECE")  # of DIGITS


def write_backfill_page(record: BackfillRecord, out: Path) -> None:
    """Write backfill.html into the folder `out`, beside backfill.json and backfill.md, whole or not at all."""
    write_text(out / PAGE, as_html(backfill_page(record)))


def backfill_page(record: BackfillRecord) -> Page:
    """The page about the first task; the figures of others are in the table of models."""
    task = record.tasks[0]
    sections: list[Section] = []
    if record.verdict:
        sections.append(decision(record.verdict))
    if pictures.challengers(record):
        sections.append(pictures.overall_differences(record, task))
    sections.append(pictures.quality_by_day(record, task))
    if pictures.challengers(record):
        sections += [pictures.differences_by_day(record, task), *pictures.seesaws(record, task)]
    sections += [*pictures.quality_maps(record, task), *pictures.difference_maps(record, task)]
    sections += [pictures.calibration_by_day(record, task), *pictures.calibration_maps(record, task)]
    sections += _data_sections(record, task)
    sections += [
        Table("Figures by model", models_grid(record)),
        Table("Figures by scenario", scenarios_grid(record, task)),
    ]
    sections.append(Facts("What was judged", list(_facts(record))))
    return Page(f"Backfill: {' and '.join(_names(record))}", _lead(record), list(_cards(record, task)), sections)


def decision(verdict: Verdict) -> Decision:
    """What the gate said, with its reasons."""
    text = {
        "promote": f"{verdict.challenger} may take the place of {verdict.champion}.",
        "hold": f"{verdict.champion} stays; {verdict.challenger} does not take its place.",
    }[verdict.verdict]
    sides = f"scenarios that gain: {len(verdict.gains)}, that lose: {len(verdict.losses)}"
    text += f" {several(verdict.checks, 'check')}; {sides}."
    points = [Point("good" if reason.passed else "bad", reason.text) for reason in verdict.reasons]
    tone = "good" if verdict.verdict == "promote" else "bad"
    return Decision("Gate", verdict.verdict, tone, text, points)  # type: ignore[arg-type]


def models_grid(record: BackfillRecord) -> Grid:
    """The figures over all days, one line a model and task."""
    rows = [
        [name, count(figures.rows), *_figures(figures.metrics)]
        for model in record.models
        for task in record.tasks
        if (figures := part_of(model.pooled, task, "overall"))
        for name in [model.name if len(record.tasks) == 1 else f"{model.name}, {task}"]
    ]
    return Grid(("model", "rows", *FIGURES), rows)


def scenarios_grid(record: BackfillRecord, task: str) -> Grid:
    """AUC and calibration over all days, one line a scenario, busiest first."""
    header = ["scenario", "rows", "rate", "unknown"]
    header += [f"{name}, {model.name}" for model in record.models for name in ("AUC", "calib.")]
    each = [{f.scenario: f for f in m.pooled if f.task == task and f.part == "scenario"} for m in record.models]
    return Grid(header, [_scenario_row(name, [of.get(name) for of in each]) for name in record.scenarios])


def days_grid(record: BackfillRecord, model: JudgedModel, task: str) -> Grid:
    """The rows of every day."""
    through = {day.day: day.trained_through for day in model.days}
    rows = [
        [day.isoformat(), *_size(figures), _unknown(figures), str(through.get(day) or NONE)]
        for day, figures in zip(record.days, by_day(record, model, task), strict=True)
    ]
    return Grid(("day", "rows", "rate", "unknown", "trained through"), rows)


def _data_sections(record: BackfillRecord, task: str) -> list[Section]:
    """What the rows are, by the model that others are held to."""
    model = next((m for m in record.models if m.name == record.champion), record.models[0])
    unknown = pictures.unknown_by_day(record, model)
    note = f"rate: of {task}; unknown: share of the features' values that the vocabularies of {model.name} do not hold."
    return [*([unknown] if unknown else []), Table("The days", days_grid(record, model, task), note)]


def _scenario_row(name: str, each: list[Figures | None]) -> list[str]:
    first = next((figures for figures in each if figures), None)
    cells = [number(f.metrics.get(key) if f else None, DIGITS[key]) for f in each for key in ("auc", "calibration")]
    return [name, *_size(first), _unknown(first), *cells]


def _size(figures: Figures | None) -> tuple[str, str]:
    if figures is None or not figures.rows:
        return "0", NONE
    return count(figures.rows), share(figures.positives / figures.rows)


def _unknown(figures: Figures | None) -> str:
    return NONE if figures is None or figures.unknown is None else share(figures.unknown)


def _figures(metrics: Mapping[str, float | None]) -> list[str]:
    return [number(metrics.get(key), digits) for key, digits in DIGITS.items()]


def _cards(record: BackfillRecord, task: str) -> Iterator[Card]:
    if record.verdict:
        yield Card("Gate", record.verdict.verdict, f"{record.verdict.challenger} against {record.verdict.champion}")
    for model in record.models[:4]:
        figures = part_of(model.pooled, task, "overall")
        ends = figures.intervals.get("auc") if figures else None
        note = f"95\u202f% interval {ends[0]:.4f} to {ends[1]:.4f}" if ends else "all rows of all days"
        yield Card(f"AUC, {model.name}", number(figures.metrics.get("auc") if figures else None), note)


def _lead(record: BackfillRecord) -> str:
    first, last = record.days[0], record.days[-1]
    span = f"{several(len(record.days), 'day')}, {first} to {last}" if first != last else f"{first}"
    return (
        f"{several(len(record.models), 'model')} judged on {span}, in {several(len(record.scenarios), 'scenario')}; "
        f"mode: {record.mode}."
    )


def _names(record: BackfillRecord) -> list[str]:
    names = [model.name for model in record.models]
    return names if len(names) <= 3 else [f"{len(names)} models"]


def _facts(record: BackfillRecord) -> Iterator[tuple[str, str]]:
    yield "data", f"{record.data} ({record.data_fingerprint})"
    for model in record.models:
        yield model.name, f"{model.kind} {model.path}"
    if record.skipped:
        yield "days without rows", ", ".join(map(str, record.skipped))
    if record.verdict:
        yield "rule of the gate", _plain(record.verdict.rule)


def _plain(rule: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in rule.items())
