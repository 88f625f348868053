"""One judged day of one model: predictions in, figures of every task and scenario out, and the day's folder.

    day=YYYY-MM-DD/day.json              JudgedDay, which backfill.json is made of
    day=YYYY-MM-DD/metrics.parquet       the same as a table:
        model, day, trained_through        who was judged, when, and the last day that it had seen
        task, part, scenario               of which rows: overall, macro (the mean of scenarios), or one scenario
        rows, positives, grouped_rows      how many; the last: in groups with both labels, which GAUC and NDCG are of
        auc, gauc, ...                     every metric; null where it has no value
        auc_low, auc_high                  the 95 % interval, of other users
        unknown                            share of the features' values that are unknown
    day=YYYY-MM-DD/scores.parquet        row, scenario, user and weight, and of every task label and logit:
                                         what pooled figures and differences are made of
    day=YYYY-MM-DD/predictions.parquet   on request: all that evaluate/predictions.py writes

The folder is committed by a rename: it is there whole, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.errors import DataError, MetricError
from swrec_prod.evaluate.predictions import codes_of, logit_of, metrics_of, tasks_of, weights_of, write_predictions
from swrec_prod.files import committed, read_json, write_json
from swrec_prod.judge.record import Figures, JudgedDay, PartName
from swrec_prod.judge.unknown_shares import Unknown
from swrec_prod.metrics.ranks import Interval
from swrec_prod.metrics.summary import METRICS
from swrec_prod.statistics.paired import ClusteredRows
from swrec_prod.strict import parse

DAY_FILE, METRICS_FILE = "day.json", "metrics.parquet"
SCORES_FILE, PREDICTIONS_FILE = "scores.parquet", "predictions.parquet"
COUNTS = ("rows", "positives", "grouped_rows")

Part = tuple[str, str | None]  # task, and scenario or None for all rows


def day_folder(out: Path, model: str, day: date) -> Path:
    """Where a day of a model lies."""
    return out / model / f"day={day}"


def is_judged(folder: Path) -> bool:
    """Whether the day is done."""
    return (folder / DAY_FILE).is_file()


def read_day(folder: Path) -> JudgedDay:
    """What `write_day` wrote. Raises DataError when it is damaged."""
    remedy = f"remove {folder} and run swrec backfill again"
    return parse(JudgedDay, read_json(folder / DAY_FILE, remedy=remedy), str(folder / DAY_FILE), DataError)


def read_scores(folder: Path) -> pa.Table:
    """The scores of a judged day, in the order of row ids."""
    return pq.read_table(folder / SCORES_FILE, partitioning=None)


def judged(table: pa.Table, day: date, seen: date | None, unknown: Unknown) -> JudgedDay:
    """The figures of one day's predictions. seen: the last day that the model knew."""
    figures = figures_of(metrics_of(table), tasks_of(table), intervals_of(table), unknown)
    return JudgedDay(day=day, trained_through=seen, figures=tuple(figures), unknown_values=unknown.by_feature)


def write_day(folder: Path, model: str, day: JudgedDay, table: pa.Table, *, predictions: bool) -> None:
    """Commit the folder of a judged day. table: its predictions, which are kept whole where `predictions` says so."""
    with committed(folder) as aside:
        pq.write_table(metrics_table(model, day), aside / METRICS_FILE)
        pq.write_table(scores_table(table), aside / SCORES_FILE, compression="zstd")
        if predictions:
            write_predictions(table, aside / PREDICTIONS_FILE)
        write_json(aside / DAY_FILE, day.model_dump(mode="json"))


def figures_of(
    metrics: Mapping[str, Any], tasks: Sequence[str], intervals: Mapping[Part, Interval], unknown: Unknown
) -> Iterator[Figures]:
    """metrics.json's records as a list: of each task all rows, the mean of the scenarios, and those with rows."""
    for task in tasks:
        record = metrics["tasks"][task] if len(tasks) > 1 else metrics
        yield _figures(task, "overall", None, record["overall"], intervals, unknown.overall)
        yield _figures(task, "macro", None, record["macro"], intervals, None)
        for name, own in record["scenarios"].items():
            if own["rows"]:
                yield _figures(task, "scenario", name, own, intervals, unknown.by_scenario.get(name))


def intervals_of(table: pa.Table) -> dict[Part, Interval]:
    """The AUC's interval of each task, over all rows (scenario None) and of each scenario, with users as clusters;
    those with fewer than two users of either label, and weighted rows, have none.
    """
    if weights_of(table) is not None:
        return {}
    users, (scenarios, names) = codes_of(table, "user")[0], codes_of(table, "scenario")
    order = np.argsort(scenarios, kind="stable")
    parts = np.split(order, np.searchsorted(scenarios[order], np.arange(1, len(names))))
    found: dict[Part, Interval] = {}
    for task in tasks_of(table):
        labels, logits = table[f"label_{task}"].to_numpy(), logit_of(table, task)
        for name, at in ((None, slice(None)), *zip(names, parts, strict=True)):
            interval = _interval(labels[at], logits[at], users[at])
            if interval is not None:
                found[task, name] = interval
    return found


def scores_table(table: pa.Table) -> pa.Table:
    """The columns of a predictions table that other days and models are compared by."""
    columns = {name: table[name] for name in ("row", "scenario", "user", "weight") if name in table.column_names}
    columns["scenario"] = columns["scenario"].dictionary_encode()
    for task in tasks_of(table):
        columns[f"label_{task}"] = table[f"label_{task}"].cast(pa.int8())
        columns[f"logit_{task}"] = pa.chunked_array([logit_of(table, task)])
    return pa.table(columns)


def metrics_table(model: str, day: JudgedDay) -> pa.Table:
    """metrics.parquet."""
    known = {"model": model, "day": day.day, "trained_through": day.trained_through}
    return pa.Table.from_pylist([known | _row(figures) for figures in day.figures], METRICS_SCHEMA)


METRICS_SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("day", pa.date32()),
        ("trained_through", pa.date32()),
        *((name, pa.string()) for name in ("task", "part", "scenario")),
        *((name, pa.int64()) for name in COUNTS),
        *((name, pa.float64()) for name in (*METRICS, "auc_low", "auc_high", "unknown")),
    ]
)


def _row(figures: Figures) -> dict[str, Any]:
    plain = figures.model_dump(include={"task", "part", "scenario", "unknown", *COUNTS})
    low, high = figures.intervals.get("auc", (None, None))
    return plain | figures.metrics | {"auc_low": low, "auc_high": high}


def _figures(
    task: str,
    part: PartName,
    scenario: str | None,
    record: Mapping[str, Any],
    intervals: Mapping[Part, Interval],
    unknown: float | None,
) -> Figures:
    interval = intervals.get((task, scenario)) if part != "macro" else None
    return Figures(
        task=task,
        part=part,
        scenario=scenario,
        **{name: record[name] for name in COUNTS},
        metrics={name: record[name] for name in METRICS},
        intervals={"auc": (interval.low, interval.high)} if interval else {},
        reasons=record.get("reasons", {}),
        unknown=unknown,
    )


def _interval(labels: np.ndarray, logits: np.ndarray, users: np.ndarray) -> Interval | None:
    try:
        rows = ClusteredRows.of(labels, users)
        return rows.mean(rows.seeds(logits))
    except MetricError:  # one label, too few users, or scores that are no numbers, which the metrics say already
        return None
