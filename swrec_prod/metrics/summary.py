"""metrics.json's records: every metric overall, of each scenario and their mean, with null and a reason for no value.

Shapes: N rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from swrec_prod.errors import MetricError
from swrec_prod.metrics.probabilities import calibration, ece, logloss, ne
from swrec_prod.metrics.ranks import auc
from swrec_prod.metrics.within_groups import Grouped, gauc, group_codes, ndcg

NDCG_K = 10


class Rows(NamedTuple):
    """What a metric may look at; each is [N], weights None where every row counts once. groups: the rows that GAUC and
    NDCG compare with each other; k: the places that NDCG looks at.
    """

    labels: np.ndarray
    logits: np.ndarray
    groups: np.ndarray
    weights: np.ndarray | None = None
    k: int = NDCG_K

    def take(self, rows: np.ndarray) -> Rows:
        """Some of the rows; rows: int or bool index."""
        weights = None if self.weights is None else self.weights[rows]
        return Rows(self.labels[rows], self.logits[rows], self.groups[rows], weights, self.k)


METRICS: dict[str, Callable[[Rows], float | Grouped]] = {
    "auc": lambda rows: auc(rows.labels, rows.logits, rows.weights),
    "gauc": lambda rows: gauc(rows.labels, rows.logits, rows.groups, rows.weights),
    "ndcg": lambda rows: ndcg(rows.labels, rows.logits, rows.groups, rows.k, rows.weights),
    "logloss": lambda rows: logloss(rows.labels, rows.logits, rows.weights),
    "ne": lambda rows: ne(rows.labels, rows.logits, rows.weights),
    "calibration": lambda rows: calibration(rows.labels, rows.logits, weights=rows.weights),
    "ece": lambda rows: ece(rows.labels, rows.logits, weights=rows.weights),
}


def measure(rows: Rows) -> dict[str, Any]:
    """Every metric of METRICS as one JSON-ready record M, with `rows` and `positives`, and in `grouped_rows` how many
    rows are in groups with both classes: GAUC and NDCG are of those.

    A metric without a value is None, and `reasons` says why; `reasons` is there only when it is needed.
    """
    record: dict[str, Any] = {"rows": len(rows.labels), "positives": int(np.sum(rows.labels)), "grouped_rows": 0}
    reasons: dict[str, str] = {}
    for name, metric in METRICS.items():
        try:
            value = metric(rows)
        except MetricError as failure:
            record[name] = None
            reasons[name] = str(failure)
            continue
        if isinstance(value, Grouped):
            record["grouped_rows"] = value.rows
        record[name] = value.value if isinstance(value, Grouped) else value
    return {**record, "reasons": reasons} if reasons else record


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
    """`{"overall": M, "scenarios": {value: M}, "macro": M}`: the metrics of metrics.json.

    labels, logits: [N] or [N, T]; groups, weights, k: as in `Rows`; scenarios: int [N], indices into scenario_values.
    macro is the plain mean over the scenarios that have a value. With several tasks the first is at the top level, and
    `tasks` holds every task's record by its name. Raises MetricError for an index without a name or tasks that do not
    fit the logits.
    """
    labels_NT, logits_NT = (a[:, None] if a.ndim == 1 else a for a in map(np.asarray, (labels, logits)))
    num_tasks = logits_NT.shape[1]
    if len(tasks or "1") != num_tasks or labels_NT.shape != logits_NT.shape:
        raise MetricError(f"labels {labels_NT.shape} and logits {logits_NT.shape} do not fit tasks {list(tasks)}")
    groups, scenarios = group_codes(groups, len(labels_NT)), np.asarray(scenarios)
    rows_T = [Rows(labels_NT[:, t], logits_NT[:, t], groups, weights, k) for t in range(num_tasks)]
    by_task = [_summarise_task(rows, scenarios, scenario_values) for rows in rows_T]
    return by_task[0] if num_tasks == 1 else {**by_task[0], "tasks": dict(zip(tasks, by_task, strict=True))}


def macro(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each metric over the records that have it; rows, positives and grouped_rows are totals."""
    totals = ("rows", "positives", "grouped_rows")
    mean: dict[str, Any] = {key: sum(record[key] for record in records) for key in totals}
    reasons: dict[str, str] = {}
    for name in METRICS:
        values = [record[name] for record in records if record[name] is not None]
        mean[name] = float(np.mean(values)) if values else None
        if not values:
            reasons[name] = f"none of {len(records)} scenarios has a value"
    return {**mean, "reasons": reasons} if reasons else mean


def _summarise_task(rows: Rows, scenarios: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    if len(scenarios) and not 0 <= scenarios.min() <= scenarios.max() < len(names):
        raise MetricError(
            f"scenario indices run from {scenarios.min()} to {scenarios.max()}, but {len(names)} scenarios are named"
        )
    order = np.argsort(scenarios, kind="stable")
    parts = np.split(order, np.searchsorted(scenarios[order], np.arange(1, len(names))))
    records = {name: measure(rows.take(part)) for name, part in zip(names, parts, strict=True)}
    return {"overall": measure(rows), "scenarios": records, "macro": macro(list(records.values()))}
