"""docs/backfill_kuairand.md, written from the backfills that backfill_report.py makes. No figure is typed."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from swrec_prod.evaluate.text import Grid, change, count, markdown_table, number, several, share
from swrec_prod.judge.record import BackfillRecord, Contrast, Figures, JudgedModel
from swrec_prod.judge.text import MARK, differences_note, lead, pooled_grid

HEAD = """# Backfill over KuaiRand-Pure

{days} of the log, replayed day by day in {scenarios} of the app: how models decay that are not trained any more, and
what training on brings. Every figure is written by

    {command}

from what `swrec backfill` found; the command first trains and judges what is missing. Frozen models are trained up to
1 May (its rows choose the best weights), incremental ones through the day before each, rolling ones on a window of days
before it; vocabularies are those of the days up to 30 April. One seed; intervals are of other users.

{machine}
"""


def write_page(out: Path, modes: Sequence[str], page: Path, command: str) -> None:
    """Write the page from the finished backfills OUT/MODE. Raises DataError where one has not finished."""
    records = {mode: BackfillRecord.read(out / mode) for mode in modes}
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n\n".join(_parts(records, command)) + "\n")
    print(f"wrote {page}")


def _parts(records: Mapping[str, BackfillRecord], command: str) -> Iterator[str]:
    first = next(iter(records.values()))
    yield HEAD.format(
        days=several(len(first.days), "day"),
        scenarios=several(len(first.scenarios), "tab"),
        command=command,
        machine=_machine(),
    ).strip()
    yield "## Modes side by side"
    yield "AUC of all rows of all days, and beside it by how much the last day's is above the first day's."
    yield _table(modes_grid(records))
    for mode, record in records.items():
        yield f"## {mode.capitalize()}"
        yield lead(record)
        yield _table(pooled_grid(record))
        yield "AUC of each day:"
        yield _table(days_of_models(record))
        if record.differences:
            yield differences_note(record).replace(MARK, f"\\{MARK}")
            yield _table(differences_of_models(record))
    yield "## Tabs"
    yield f"AUC inside each tab over all days, {first.mode}; a dash where all labels are equal."
    yield _table(scenarios_grid(first))


def modes_grid(records: Mapping[str, BackfillRecord]) -> Grid:
    """One line a model, two columns a mode."""
    header = ["model", *(f"{mode}{what}" for mode in records for what in ("", ", last less first"))]
    names = [model.name for model in next(iter(records.values())).models]
    rows = []
    for at, name in enumerate(names):
        cells: list[str] = []
        for record in records.values():
            model = record.models[at]
            days = [_overall(day.figures).metrics["auc"] for day in model.days]
            moved = None if days[0] is None or days[-1] is None else days[-1] - days[0]
            cells += [_with_interval(_overall(model.pooled)), "" if moved is None else change(moved)]
        rows.append([name, *cells])
    return Grid(header, rows)


def days_of_models(record: BackfillRecord) -> Grid:
    """One line a day: its rows, its rate of clicks, and every model's AUC."""
    rows = []
    for at, day in enumerate(record.days):
        of_day = [_overall(model.days[at].figures) for model in record.models]
        rate = share(of_day[0].positives / max(of_day[0].rows, 1))
        rows.append([str(day), count(of_day[0].rows), rate, *(number(of.metrics["auc"]) for of in of_day)])
    return Grid(["day", "rows", "clicks", *(model.name for model in record.models)], rows)


def differences_of_models(record: BackfillRecord) -> Grid:
    """One line a part of the rows, one column a challenger."""
    challengers = [model.name for model in record.models if model.name != record.champion]
    found = {(of.scenario, of.challenger): of for of in record.differences}
    parts = [None, *(name for name in record.scenarios if any((name, c) in found for c in challengers))]
    rows = [
        [f"tab {part}" if part else "all rows", *(_difference(found.get((part, name))) for name in challengers)]
        for part in parts
    ]
    return Grid(["rows", *challengers], rows)


def scenarios_grid(record: BackfillRecord) -> Grid:
    """One line a tab: its rows, its rate of clicks, and every model's AUC."""
    rows = []
    for name in record.scenarios:
        of_models = [_of_scenario(model, name) for model in record.models]
        rate = share(of_models[0].positives / max(of_models[0].rows, 1))
        rows.append([name, count(of_models[0].rows), rate, *(number(of.metrics["auc"]) for of in of_models)])
    return Grid(["tab", "rows", "clicks", *(model.name for model in record.models)], rows)


def _overall(figures: Sequence[Figures]) -> Figures:
    return next(of for of in figures if of.part == "overall")


def _of_scenario(model: JudgedModel, name: str) -> Figures:
    return next(of for of in model.pooled if of.scenario == name)


def _with_interval(figures: Figures) -> str:
    low, high = figures.intervals.get("auc", (None, None))
    half = "" if low is None or high is None else f" ± {(high - low) / 2:.4f}"
    return f"{number(figures.metrics['auc'])}{half}"


def _difference(contrast: Contrast | None) -> str:
    if contrast is None:
        return ""
    half = (contrast.high - contrast.low) / 2
    return f"{change(contrast.value)} ± {half:.4f}{f' {MARK}' if contrast.significant else ''}"


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchrec", "numpy"))
    return f"Made on {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {packages}."


def _table(grid: Grid) -> str:
    return markdown_table(grid.header, grid.rows)
