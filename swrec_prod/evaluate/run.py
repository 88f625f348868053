"""Judge scored rows of a prepared folder: predictions.parquet and the metrics, overall and per scenario."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from swrec_prod.checkpoint import config_of, load_run
from swrec_prod.config import DataConfig, DayRanges, RunConfig, SplitName, day_range
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.reader import Reader
from swrec_prod.errors import DataError
from swrec_prod.evaluate.bookkeeping import bookkeeping, known_columns
from swrec_prod.evaluate.judging import AS_TRAINING_DOES, Judging, check_group, metrics_of
from swrec_prod.evaluate.package_scores import data_of_package, is_package, score_package
from swrec_prod.evaluate.predict import score_rows
from swrec_prod.evaluate.predictions import KEYS, predictions_table
from swrec_prod.evaluate.scenario_models import models_of
from swrec_prod.evaluate.unknown import unknown_figures
from swrec_prod.export.loaded import Package


def evaluate(
    path: Path,
    *,
    part: SplitName = "test",
    days: str | None = None,
    data: Path | None = None,
    judging: Judging = AS_TRAINING_DOES,
) -> tuple[pa.Table, dict[str, Any]]:
    """Score a part of prepared rows (or a range of days) with a run's best weights, or a package's programs, here.

    path: RUN_DIR, or a package REPO/NAME/VERSION. data: where the prepared data are: of a package, and of a run whose
    data were moved. A run with a model for every scenario scores each row with its own scenario's. Returns the
    predictions and the metrics, with scored_rows, scored_seconds and scored_rows_per_second beside them (rows and
    seconds without `scored_` are those of training, in the run's metrics.json). Raises CheckpointError when `path`
    holds no trained run, PackageError for a damaged package, ConfigError where it is not said which rows to score.
    """
    rows = (
        data_of_package(path, data, part if days is None else None) if is_package(path) else config_of(path, data).data
    )
    rows = rows if days is None else _of_days(rows, days)
    part = part if days is None else "train"  # days of one's own choice may be days that encoders and model have seen
    catalog = Catalog.open(rows.path)
    check_group(judging.group_by, known_columns(catalog.root, _files(catalog, rows, part)))
    scored = _scored(path, part, rows)
    if not scored:
        raise DataError(f"{rows.path}: {days or part} has no rows")
    table = pa.concat_tables(predictions for predictions, _ in scored).sort_by("row")
    seconds = sum(seconds for _, seconds in scored)
    speed = {"scored_rows": len(table), "scored_seconds": seconds, "scored_rows_per_second": len(table) / seconds}
    unknown = unknown_figures(table, catalog, rows, part, partial(metrics_of, judging=judging))
    return table, {**metrics_of(table, judging), **unknown, **speed}


def _scored(path: Path, part: SplitName, rows: DataConfig) -> list[tuple[pa.Table, float]]:
    """The predictions of each of the models that are for some of the rows, and the seconds that it took to score."""
    if is_package(path):
        return [_score_package(path, part, rows)]
    return [_score(folder, part, own) for folder, own in models_of(path, rows, part).items()]


def _score(run_dir: Path, part: SplitName, rows: DataConfig) -> tuple[pa.Table, float]:
    """The predictions of one model, and the seconds that it took to score."""
    ranker, config, catalog = load_run(run_dir, Path(rows.path))
    reader = Reader(catalog, ranker.sparse.layout, part, rows, config.train.batch_size, shuffle=False)
    started = time.perf_counter()
    scored = score_rows(ranker, reader.epoch(0))
    seconds = time.perf_counter() - started
    return predictions_of(catalog, rows, part, scored, strengths_of(catalog, config)), seconds


def _score_package(path: Path, part: SplitName, rows: DataConfig) -> tuple[pa.Table, float]:
    """The predictions of a package, and the seconds that it took to score."""
    package, catalog = Package.load(path), Catalog.open(rows.path)
    started = time.perf_counter()
    scored = score_package(package, catalog, rows, part)
    seconds = time.perf_counter() - started
    c = package.manifest.debias_strength if package.manifest.causal else 0.0
    return predictions_of(catalog, rows, part, scored, c), seconds


def strengths_of(catalog: Catalog, config: RunConfig) -> float | dict[str, float]:
    """c of every scenario, 0 for a run without the causal split."""
    return config.debias.strengths(catalog.schema.scenario.names) if config.debias else 0.0


def predictions_of(
    catalog: Catalog, data: DataConfig, part: SplitName, scored: dict[str, np.ndarray], c: float | Mapping[str, float]
) -> pa.Table:
    """The predictions of rows of a part that `score_rows` has scored, ordered by row id. c: of the ranking score."""
    order = np.argsort(scored["row"])
    scored = {name: values[order] for name, values in scored.items()}
    tasks = catalog.schema.tasks
    known = bookkeeping(catalog.root, _files(catalog, data, part), scored["row"], tasks)
    labels = [f"label_{task}" for task in tasks]
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
        c=c,
        more={name: known[name] for name in known.column_names if name not in (*KEYS, *labels)},
    )


def _files(catalog: Catalog, data: DataConfig, part: SplitName) -> list[Path]:
    """The files with rows of a part, below the prepared folder."""
    return [file.path.relative_to(catalog.root) for file in catalog.files_of(data, part)]


def _of_days(data: DataConfig, days: str) -> DataConfig:
    """The same data, restricted to a range of days instead of a part. Raises ConfigError when `days` is no range."""
    day_range(days)
    return data.model_copy(update={"split": "days", "days": DayRanges(train=days, valid=days, test=days)})
