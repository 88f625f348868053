"""metrics.json's records: every metric overall, of each scenario and their mean, with null and a reason for no value.

Shapes: N rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from swrec_prod.errors import MetricError
from swrec_prod.metrics import auc, calibration, ece, gauc, logloss, ne, user_codes


class Rows(NamedTuple):
    """What a metric may look at; each is [N]."""

    labels: np.ndarray
    logits: np.ndarray
    users: np.ndarray


METRICS: dict[str, Callable[[Rows], float]] = {
    "auc": lambda rows: auc(rows.labels, rows.logits),
    "gauc": lambda rows: gauc(rows.labels, rows.logits, rows.users).value,
    "logloss": lambda rows: logloss(rows.labels, rows.logits),
    "ne": lambda rows: ne(rows.labels, rows.logits),
    "calibration": lambda rows: calibration(rows.labels, rows.logits),
    "ece": lambda rows: ece(rows.labels, rows.logits),
}


def measure(labels: np.ndarray, logits: np.ndarray, users: np.ndarray) -> dict[str, Any]:
    """Every metric of METRICS as one JSON-ready record M, with `rows` and `positives`.

    labels: [N] of {0, 1}; logits: [N]; users: [N]. A metric without a value is None, and `reasons` says why;
    `reasons` is there only when it is needed.
    """
    rows = Rows(np.asarray(labels), np.asarray(logits), np.asarray(users))
    record: dict[str, Any] = {"rows": len(rows.labels), "positives": int(np.sum(rows.labels))}
    reasons: dict[str, str] = {}
    for name, metric in METRICS.items():
        try:
            record[name] = metric(rows)
        except MetricError as failure:
            record[name] = None
            reasons[name] = str(failure)
    return {**record, "reasons": reasons} if reasons else record


def summarise(
    labels: np.ndarray,
    logits: np.ndarray,
    users: np.ndarray,
    scenarios: np.ndarray,
    scenario_values: Sequence[str],
    tasks: Sequence[str] = (),
) -> dict[str, Any]:
    """`{"overall": M, "scenarios": {value: M}, "macro": M}`: the metrics of metrics.json.

    labels, logits: [N] or [N, T]; users: [N]; scenarios: int [N], indices into scenario_values. macro is the plain mean
    over the scenarios that have a value. With several tasks the first is at the top level, and `tasks` holds every
    task's record by its name. Raises MetricError for an index without a name or tasks that do not fit the logits.
    """
    labels_NT, logits_NT = (a[:, None] if a.ndim == 1 else a for a in map(np.asarray, (labels, logits)))
    num_tasks = logits_NT.shape[1]
    if len(tasks or "1") != num_tasks or labels_NT.shape != logits_NT.shape:
        raise MetricError(f"labels {labels_NT.shape} and logits {logits_NT.shape} do not fit tasks {list(tasks)}")
    users = user_codes(users, len(labels_NT))
    by_task = [
        _summarise_task(labels_NT[:, t], logits_NT[:, t], users, np.asarray(scenarios), scenario_values)
        for t in range(num_tasks)
    ]
    return by_task[0] if num_tasks == 1 else {**by_task[0], "tasks": dict(zip(tasks, by_task, strict=True))}


def macro(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each metric over the records that have it; rows and positives are totals."""
    mean: dict[str, Any] = {key: sum(record[key] for record in records) for key in ("rows", "positives")}
    reasons: dict[str, str] = {}
    for name in METRICS:
        values = [record[name] for record in records if record[name] is not None]
        mean[name] = float(np.mean(values)) if values else None
        if not values:
            reasons[name] = f"none of {len(records)} scenarios has a value"
    return {**mean, "reasons": reasons} if reasons else mean


def _summarise_task(
    labels: np.ndarray, logits: np.ndarray, users: np.ndarray, scenarios: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    if len(scenarios) and not 0 <= scenarios.min() <= scenarios.max() < len(names):
        raise MetricError(
            f"scenario indices run from {scenarios.min()} to {scenarios.max()}, but {len(names)} scenarios are named"
        )
    order = np.argsort(scenarios, kind="stable")
    parts = np.split(order, np.searchsorted(scenarios[order], np.arange(1, len(names))))
    records = {name: measure(labels[part], logits[part], users[part]) for name, part in zip(names, parts, strict=True)}
    return {"overall": measure(labels, logits, users), "scenarios": records, "macro": macro(list(records.values()))}
