"""A run's AUC in every scenario on every day of its predictions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from swrec_prod.drawing.heat_map import Cells, Scale, heat_maps
from swrec_prod.drawing.style import Picture, absent
from swrec_prod.errors import MetricError
from swrec_prod.evaluate.judged import Judged
from swrec_prod.evaluate.predictions import codes_of
from swrec_prod.evaluate.text import several
from swrec_prod.metrics.ranks import auc

MOST_DAYS = 120  # more are no longer told apart


def day_maps(judged: Judged, predictions: pa.Table) -> list[Picture]:
    """Scenarios by days; [] for a single day. predictions: those that are judged."""
    day_N, days = codes_of(predictions, "day")
    title = "AUC of every scenario on every day"
    if len(days) < 2:
        return []
    if len(days) > MOST_DAYS:
        many = f"Left out: {several(len(days), 'day')}, more than the {MOST_DAYS} that can be told apart."
        return [absent(title, f"{many} `swrec evaluate --days A..B` judges some of them.")]
    cells = [[_cell(judged, part[day_N[part] == day]) for day in range(len(days))] for part in judged.parts]
    values_SD, rows_SD = np.array(cells, np.float64).transpose(2, 0, 1)
    layers = {"": Cells(values_SD, rows_SD.astype(np.int64))}
    how = "Cells of few rows are noisy."
    return heat_maps(title, judged.names, days, layers, Scale("AUC", ".3f"), "", how)


def _cell(judged: Judged, rows: np.ndarray) -> tuple[float, int]:
    """AUC, NaN where it has none, and the number of rows."""
    try:
        return auc(judged.labels[rows], judged.logits[rows], judged.weights_in(rows)), len(rows)
    except MetricError:
        return float("nan"), len(rows)
