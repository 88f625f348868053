"""metrics.json's records: every metric overall, of each scenario and their mean, with null and a reason for no value.

Shapes: N rows, T tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from swrec_prod.errors import MetricError
from swrec_prod.metrics.pieces import Piece, TaskTally
from swrec_prod.metrics.probabilities import calibration, ece, logloss, ne
from swrec_prod.metrics.ranks import auc
from swrec_prod.metrics.tally import NDCG_K, Tally
from swrec_prod.metrics.within_groups import gauc, ndcg


class Metric(NamedTuple):
    """formula: the metric of rows, which says what it is; of_tally: the same of what rows add up to."""

    formula: Callable[..., Any]
    of_tally: Callable[[Tally], float]


METRICS: dict[str, Metric] = {
    "auc": Metric(auc, lambda tally: tally.scores.auc()),
    "gauc": Metric(gauc, lambda tally: tally.grouped["gauc"].mean().value),
    "ndcg": Metric(ndcg, lambda tally: tally.grouped["ndcg"].mean().value),
    "logloss": Metric(logloss, lambda tally: logloss(**tally.weighted_rows())),
    "ne": Metric(ne, lambda tally: ne(**tally.weighted_rows())),
    "calibration": Metric(calibration, lambda tally: calibration(**tally.weighted_rows())),
    "ece": Metric(ece, lambda tally: ece(**tally.weighted_rows())),
}


def measure(tally: Tally) -> dict[str, Any]:
    """Every metric of METRICS as one JSON-ready record M, with `rows` and `positives`, and in `grouped_rows` how many
    rows are in groups with both classes: GAUC and NDCG are of those.

    A metric without a value is None, and `reasons` says why; `reasons` is there only when it is needed.
    """
    record: dict[str, Any] = {
        "rows": tally.rows,
        "positives": tally.positives,
        "grouped_rows": tally.grouped["gauc"].rows,
    }
    reasons: dict[str, str] = {}
    for name, metric in METRICS.items():
        try:
            check_finite(tally)
            record[name] = metric.of_tally(tally)
        except MetricError as failure:
            record[name] = None
            reasons[name] = str(failure)
    return {**record, "reasons": reasons} if reasons else record


def check_finite(tally: Tally) -> None:
    """Raises MetricError where a score is no finite number."""
    if tally.broken:
        raise MetricError(f"{tally.broken} of {tally.rows} scores are not finite numbers")


def summarise(
    labels: np.ndarray,
    logits: np.ndarray,
    groups: np.ndarray,
    scenarios: np.ndarray,
    scenario_values: Sequence[str],
    tasks: Sequence[str] = (),
    *,
    weights: np.ndarray | None = None,
    k: int = NDCG_K,
) -> dict[str, Any]:
    """`record_of` of rows that are all here; arguments and errors as of `Piece.of`."""
    return record_of(Piece.of(labels, logits, groups, scenarios, scenario_values, tasks, weights=weights, k=k))


def record_of(piece: Piece) -> dict[str, Any]:
    """`{"overall": M, "scenarios": {value: M}, "macro": M}`: the metrics of metrics.json.

    macro is the plain mean over the scenarios that have a value. With several tasks the first is at the top level, and
    `tasks` holds every task's record by its name; that of a task that follows another has one more, `given_<first>`.
    """
    by_task = {name: _task_record(task) for name, task in piece.tasks.items()}
    first = next(iter(by_task.values()))
    return first if len(by_task) == 1 else {**first, "tasks": by_task}


def macro(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each metric over the records that have it; rows, positives and grouped_rows are totals."""
    totals = ("rows", "positives", "grouped_rows")
    mean: dict[str, Any] = {key: sum(record[key] for record in records) for key in totals}
    reasons: dict[str, str] = {}
    for name in METRICS:
        values = [record[name] for record in records if record[name] is not None]
        mean[name] = math.fsum(values) / len(values) if values else None
        if not values:
            reasons[name] = f"none of {len(records)} scenarios has a value"
    return {**mean, "reasons": reasons} if reasons else mean


def _task_record(task: TaskTally) -> dict[str, Any]:
    records = {name: measure(tally) for name, tally in task.scenarios.items()}
    record = {"overall": measure(task.overall()), "scenarios": records, "macro": macro(list(records.values()))}
    return record | {f"given_{first}": _task_record(own) for first, own in task.given.items()}
