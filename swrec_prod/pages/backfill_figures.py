"""What a page looks up in a backfill's record: one model's figures by day, scenario and part.

Shapes: S scenarios, D days.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from swrec_prod.drawing.heat_map import Cells
from swrec_prod.judge.record import BackfillRecord, Contrast, Figures, JudgedModel, PartName

T = TypeVar("T")


def days_of(record: BackfillRecord) -> list[str]:
    """The judged days, ISO."""
    return [day.isoformat() for day in record.days]


def part_of(figures: Sequence[Figures], task: str, part: PartName, scenario: str | None = None) -> Figures | None:
    """The figures of one part, None where there are none."""
    return next((f for f in figures if (f.task, f.part, f.scenario) == (task, part, scenario)), None)


def by_day(record: BackfillRecord, model: JudgedModel, task: str) -> list[Figures | None]:
    """The figures over all rows of each day of the record; None where the model was not judged."""
    judged = {day.day: part_of(day.figures, task, "overall") for day in model.days}
    return [judged.get(day) for day in record.days]


def cells_of(record: BackfillRecord, model: JudgedModel, task: str, metric: str) -> Cells:
    """A metric [S, D] of every scenario on every day."""
    values_SD, rows_SD = _empty(record)
    row_of, column_of = _places(record.scenarios), _places(record.days)
    for day in model.days:
        for figures in day.figures:
            if figures.task == task and figures.scenario in row_of:
                at = row_of[figures.scenario], column_of[day.day]
                value = figures.metrics.get(metric)
                values_SD[at], rows_SD[at] = np.nan if value is None else value, figures.rows
    return Cells(values_SD, rows_SD)


def difference_cells(record: BackfillRecord, contrasts: Sequence[Contrast]) -> Cells:
    """The differences [S, D] of one challenger in every scenario on every day. rows_SD: of the scenario on all days."""
    values_SD, rows_SD = _empty(record)
    row_of, column_of = _places(record.scenarios), _places(record.days)
    for contrast in contrasts:
        if contrast.scenario in row_of:
            row = row_of[contrast.scenario]
            values_SD[row, [column_of[day.day] for day in contrast.days]] = [day.value for day in contrast.days]
            rows_SD[row] = contrast.rows
    return Cells(values_SD, rows_SD)


def contrasts_of(record: BackfillRecord, challenger: str, task: str, part: PartName) -> list[Contrast]:
    """The differences of one challenger: of all rows, or of every scenario."""
    return [c for c in record.differences if (c.challenger, c.task, c.part) == (challenger, task, part)]


def _places(names: Sequence[T]) -> dict[T, int]:
    return {name: i for i, name in enumerate(names)}


def _empty(record: BackfillRecord) -> tuple[np.ndarray, np.ndarray]:
    shape = len(record.scenarios), len(record.days)
    return np.full(shape, np.nan), np.zeros(shape, np.int64)
