"""Judge scored rows of a prepared folder: predictions.parquet and the metrics, overall and per scenario."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from swrec_prod.checkpoint import config_of, load_run
from swrec_prod.config import DataConfig, DayRanges, RunConfig, SplitName, day_range
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.reader import Reader
from swrec_prod.errors import DataError
from swrec_prod.evaluate.predict import score_rows
from swrec_prod.evaluate.predictions import bookkeeping, metrics_of, predictions_table
from swrec_prod.evaluate.scenario_models import models_of


def evaluate(
    run_dir: Path, *, part: SplitName = "test", days: str | None = None, data: Path | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """Score a part of the run's data (or a range of days) with its best weights, in this process.

    A run with a model for every scenario scores each row with its own scenario's. Returns the predictions and the
    metrics, with scored_rows, scored_seconds and scored_rows_per_second beside them (rows and seconds without `scored_`
    are those of training, in the run's metrics.json). data: where the prepared
    data are, if they were moved. Raises CheckpointError when `run_dir` holds no trained run.
    """
    rows = config_of(run_dir, data).data
    rows = rows if days is None else _of_days(rows, days)
    part = part if days is None else "train"  # days of one's own choice may be days that encoders and model have seen
    scored = [_score(folder, part, own) for folder, own in models_of(run_dir, rows, part).items()]
    if not scored:
        raise DataError(f"{rows.path}: {days or part} has no rows")
    table = pa.concat_tables(predictions for predictions, _ in scored).sort_by("row")
    seconds = sum(seconds for _, seconds in scored)
    speed = {"scored_rows": len(table), "scored_seconds": seconds, "scored_rows_per_second": len(table) / seconds}
    return table, {**metrics_of(table), **speed}


def _score(run_dir: Path, part: SplitName, rows: DataConfig) -> tuple[pa.Table, float]:
    """The predictions of one model, and the seconds that it took to score."""
    ranker, config, catalog = load_run(run_dir, Path(rows.path))
    reader = Reader(catalog, ranker.sparse.layout, part, rows, config.train.batch_size, shuffle=False)
    started = time.perf_counter()
    scored = score_rows(ranker, reader.epoch(0))
    seconds = time.perf_counter() - started
    return predictions_of(catalog, config, part, scored, rows), seconds


def predictions_of(
    catalog: Catalog, config: RunConfig, part: SplitName, scored: dict[str, np.ndarray], data: DataConfig | None = None
) -> pa.Table:
    """The predictions of rows that `score_rows` has scored, ordered by row id."""
    order = np.argsort(scored["row"])
    scored = {name: values[order] for name, values in scored.items()}
    tasks = catalog.schema.tasks
    files = [file.path.relative_to(catalog.root) for file in catalog.files_of(data or config.data, part)]
    known = bookkeeping(catalog.root, files, scored["row"], tasks)
    return predictions_table(
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
        c=config.debias.strengths(catalog.schema.scenario.names) if config.debias else 0.0,
    )


def _of_days(data: DataConfig, days: str) -> DataConfig:
    """The same data, restricted to a range of days instead of a part. Raises ConfigError when `days` is no range."""
    day_range(days)
    return data.model_copy(update={"split": "days", "days": DayRanges(train=days, valid=days, test=days)})
