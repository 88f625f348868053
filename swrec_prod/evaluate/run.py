"""Judge scored rows of a prepared folder: predictions.parquet and the metrics, overall and per scenario."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from swrec_prod.checkpoint import load_run
from swrec_prod.config import DataConfig, DayRanges, RunConfig, SplitName, day_range
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.reader import Reader
from swrec_prod.evaluate.predict import score_rows
from swrec_prod.evaluate.predictions import bookkeeping, metrics_of, predictions_table
from swrec_prod.ranker import debias_of, layout_of


def evaluate(run_dir: Path, *, part: SplitName = "test", days: str | None = None) -> tuple[pa.Table, dict[str, Any]]:
    """Score a part of the run's data (or a range of days) with its best weights, in this process.

    Returns the predictions and the metrics, with scored_rows, scored_seconds and scored_rows_per_second beside them (rows and
    seconds without `scored_` are those of training, in the run's metrics.json).
    Raises CheckpointError when `run_dir` holds no trained run.
    """
    ranker, config, catalog = load_run(run_dir)
    part = part if days is None else "train"  # days of one's own choice may be days that encoders and model have seen
    data = config.data if days is None else _of_days(config.data, days)
    reader = Reader(catalog, layout_of(catalog.schema, config), part, data, config.train.batch_size, shuffle=False)
    started = time.perf_counter()
    scored = score_rows(ranker, reader.epoch(0))
    seconds = time.perf_counter() - started
    table, metrics = judge_rows(catalog, config, part, scored, data)
    rows = len(scored["row"])
    return table, {**metrics, "scored_rows": rows, "scored_seconds": seconds, "scored_rows_per_second": rows / seconds}


def judge_rows(
    catalog: Catalog, config: RunConfig, part: SplitName, scored: dict[str, np.ndarray], data: DataConfig | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """Predictions and metrics of rows that `score_rows` has scored, ordered by row id."""
    order = np.argsort(scored["row"])
    scored = {name: values[order] for name, values in scored.items()}
    tasks = catalog.schema.tasks
    files = [file.path.relative_to(catalog.root) for file in catalog.files_of(data or config.data, part)]
    known = bookkeeping(catalog.root, files, scored["row"], tasks)
    debias = debias_of(config)
    table = predictions_table(
        row=scored["row"],
        day=known["day"],
        user=known["user"],
        scenario=known["scenario"],
        labels_NT=scored["labels"],
        logit_NT=scored["logit"],
        tasks=tasks,
        after=catalog.schema.after,
        interest_NT=scored["interest"],
        scenario_NT=scored["scenario_logit"],
        c=debias.strengths(catalog.schema.scenario.names) if debias else 0.0,
    )
    return table, metrics_of(table)


def _of_days(data: DataConfig, days: str) -> DataConfig:
    """The same data, restricted to a range of days instead of a part. Raises ConfigError when `days` is no range."""
    day_range(days)
    return data.model_copy(update={"split": "days", "days": DayRanges(train=days, valid=days, test=days)})
