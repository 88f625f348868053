"""metrics.json's records: every metric overall, of each scenario and their means, with null and a reason for no value.

Shapes: N rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from swrec_prod.errors import MetricError
from swrec_prod.metrics.pieces import Piece, TaskTally
from swrec_prod.metrics.probabilities import calibration, ece, logloss, ne
from swrec_prod.metrics.ranks import auc
from swrec_prod.metrics.rows import NDCG_K
from swrec_prod.metrics.scenario_means import macro, traffic
from swrec_prod.metrics.tally import Tally
from swrec_prod.metrics.top_items import coverage, novelty
from swrec_prod.metrics.within_groups import gauc, ndcg
from swrec_prod.metrics.within_requests import A_POSITIVE, hit_rate, mrr, recall, sgauc


class Metric(NamedTuple):
    """formula: the metric of rows, which says what it is; of_tally: the same of what rows add up to."""

    formula: Callable[..., Any]
    of_tally: Callable[[Tally], float]


METRICS: dict[str, Metric] = {
    "auc": Metric(auc, lambda tally: tally.sums.auc()),
    "gauc": Metric(gauc, lambda tally: tally.inside.mean("gauc")),
    "ndcg": Metric(ndcg, lambda tally: tally.inside.mean("ndcg")),
    "logloss": Metric(logloss, lambda tally: tally.sums.logloss()),
    "ne": Metric(ne, lambda tally: tally.sums.ne()),
    "calibration": Metric(calibration, lambda tally: tally.sums.calibration()),
    "ece": Metric(ece, lambda tally: tally.sums.ece()),
}
REQUEST_METRICS: dict[str, Metric] = {  # in a record where rows have what they are made of
    "sgauc": Metric(sgauc, lambda tally: tally.inside.mean("sgauc")),
    "recall": Metric(recall, lambda tally: tally.inside.mean("recall", A_POSITIVE)),
    "hit_rate": Metric(hit_rate, lambda tally: tally.inside.mean("hit_rate", A_POSITIVE)),
    "mrr": Metric(mrr, lambda tally: tally.inside.mean("mrr", A_POSITIVE)),
    "coverage": Metric(coverage, lambda tally: tally.inside.coverage()),
    "novelty": Metric(novelty, lambda tally: tally.inside.mean("novelty", "a row")),
}


class Support(NamedTuple):
    """What figures need: so many rows of weight above 0, and so many of them positive; with fewer they are null."""

    rows: int = 0
    positives: int = 0

    def check(self, tally: Tally) -> None:
        """Raises MetricError where a tally has fewer, or scores that are no finite numbers."""
        if tally.broken:
            raise MetricError(f"{tally.broken} of {tally.rows} scores are not finite numbers")
        for found, wanted, what in zip(tally.counted, self, ("rows", "positive rows"), strict=True):
            if found < wanted:
                raise MetricError(f"{found} {what}, fewer than {wanted}")


NO_MINIMUM = Support()


def measure(tally: Tally, support: Support = NO_MINIMUM) -> dict[str, Any]:
    """Every metric of METRICS as one JSON-ready record M, with `rows` and `positives`, and in `grouped_rows` how many
    rows are in groups with both classes: GAUC and NDCG are of those. Where rows have requests also those of
    REQUEST_METRICS that rows have what they need for, with `request_rows`: S-GAUC is of those.

    A metric without a value is None, and `reasons` says why; `reasons` is there only when it is needed.
    """
    record: dict[str, Any] = {"rows": tally.rows, "positives": tally.positives, **tally.inside.rows_with_both()}
    reasons: dict[str, str] = {}
    for name, metric in (METRICS | {n: m for n, m in REQUEST_METRICS.items() if tally.inside.has(n)}).items():
        try:
            support.check(tally)
            record[name] = metric.of_tally(tally)
        except MetricError as failure:
            record[name] = None
            reasons[name] = str(failure)
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
    """`record_of` of rows that are all here; arguments and errors as of `Piece.of`."""
    return record_of(Piece.of(labels, logits, groups, scenarios, scenario_values, tasks, weights=weights, k=k))


def record_of(piece: Piece, support: Support = NO_MINIMUM) -> dict[str, Any]:
    """`{"overall": M, "scenarios": {value: M}, "macro": M, "traffic": M, "reliability": ...}`: the metrics of
    metrics.json.

    macro is the plain mean over the scenarios that have a value, traffic their mean weighted by rows. reliability:
    `curve` of `overall` and of each of `scenarios`. With several tasks the first is at the top level, and `tasks` holds
    every task's record by its name; that of a task that follows another has one more, `given_<first>`.
    """
    by_task = {name: _task_record(task, support) for name, task in piece.tasks.items()}
    first = next(iter(by_task.values()))
    return first if len(by_task) == 1 else {**first, "tasks": by_task}


def curve(tally: Tally) -> dict[str, list[float]] | None:
    """The reliability curve: of bins of equal mass by prediction, the share of all `mass`, and mean `predicted` and
    `observed`; six digits. None without rows, or with scores that are no finite numbers.
    """
    mass, predicted, positives = tally.sums.bins[tally.sums.bins[:, 0] > 0].T
    if tally.broken or not len(mass):
        return None
    columns = {"mass": mass / mass.sum(), "predicted": predicted / mass, "observed": positives / mass}
    return {name: [float(f"{value:.6g}") for value in column] for name, column in columns.items()}


def _task_record(task: TaskTally, support: Support) -> dict[str, Any]:
    overall = task.overall()
    records = {name: measure(tally, support) for name, tally in task.scenarios.items()}
    record = {
        "overall": measure(overall, support),
        "scenarios": records,
        "macro": macro(list(records.values())),
        "traffic": traffic(list(records.values())),
        "reliability": {"overall": curve(overall), "scenarios": _curves(task.scenarios)},
    }
    return record | {f"given_{first}": _task_record(own, support) for first, own in task.given.items()}


def _curves(tallies: Mapping[str, Tally]) -> dict[str, Any]:
    found = {name: curve(tally) for name, tally in tallies.items()}
    return {name: of for name, of in found.items() if of is not None}
