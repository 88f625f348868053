"""Judge scored rows of a prepared folder: predictions and the metrics, overall and per scenario.

Nobody holds all rows with all that is known of them: they are scored a window at a time, each window's predictions are
written before the next is scored, and of them only what judging needs stays.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa

from swrec_prod.config import DataConfig, DayRanges, SplitName, day_range
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.familiar import TrainingRows
from swrec_prod.evaluate.judged_rows import JudgedRows
from swrec_prod.evaluate.judging import AS_TRAINING_DOES, Judging, check_group
from swrec_prod.evaluate.models import Models, Predicted, groups_of
from swrec_prod.evaluate.package_scores import data_of_package, is_package
from swrec_prod.evaluate.prediction_parts import written
from swrec_prod.evaluate.unknown import known_features, unknown_values
from swrec_prod.peers import ALONE, Peers

GB = 1e9


def evaluate(
    path: Path,
    *,
    part: SplitName = "test",
    days: str | None = None,
    data: Path | None = None,
    judging: Judging = AS_TRAINING_DOES,
    predictions: Path | None = None,
) -> dict[str, Any]:
    """Score a part of prepared rows (or a range of days) with a run's best weights, or a package's programs, here.

    path: RUN_DIR, or a package REPO/NAME/VERSION. data: where the prepared data are: of a package, and of a run whose
    data were moved. A run with a model for every scenario scores each row with its own scenario's. predictions: the
    file to write them to. Returns what `judge` returns, and peak_memory_gb. Raises CheckpointError when `path` holds no
    trained run, PackageError for a damaged package, ConfigError where it is not said which rows to score.
    """
    if days is None and is_package(path):
        data_of_package(path, data, part)  # it does not say which days are for which part
    models = Models(path, data)
    if days is not None:
        metrics = judge_days(models, days, judging=judging, predictions=predictions)
    else:
        metrics = judge(models, models.rows, part, judging=judging, predictions=predictions)
    return {**metrics, "peak_memory_gb": peak_memory_gb()}


def judge_days(
    models: Models, days: str, *, judging: Judging = AS_TRAINING_DOES, predictions: Path | None = None
) -> dict[str, Any]:
    """`judge` the rows of a day, or of a range A..B, whatever the model was trained on."""
    rows = _of_days(models.rows, days)
    return judge(models, rows, "train", judging=judging, predictions=predictions)  # train: it may be any days


def judge(
    models: Models,
    rows: DataConfig,
    part: SplitName,
    *,
    judging: Judging = AS_TRAINING_DOES,
    predictions: Path | None = None,
) -> dict[str, Any]:
    """Score the rows of a part and judge them; models stay loaded for the next rows.

    predictions: the file to write them to; left out, they are not kept. Returns the metrics, with scored_rows,
    scored_seconds and scored_rows_per_second beside them (rows and seconds without `scored_` are those of training, in
    the run's metrics.json). Raises DataError where there are no rows, or no such column to group by.
    """
    known = [name for name in models.columns(rows, part).names if not name.startswith("label_")]
    check_group(judging.group_by, known)
    if judging.request_by != AS_TRAINING_DOES.request_by:  # which a folder need not have
        check_group(judging.request_by, known)
    spent: list[tuple[int, float]] = []

    def scored() -> Iterator[Predicted]:
        for section in models.predictions(rows, part):
            spent.append((len(section.table), section.seconds))
            yield section

    metrics = judge_predicted(scored(), models.catalog, rows, part, judging=judging, predictions=predictions)
    count, seconds = (sum(values) for values in zip(*spent, strict=True))
    return {**metrics, "scored_rows": count, "scored_seconds": seconds, "scored_rows_per_second": count / seconds}


def judge_predicted(
    sections: Iterable[Predicted],
    catalog: Catalog,
    rows: DataConfig,
    part: SplitName,
    *,
    judging: Judging = AS_TRAINING_DOES,
    predictions: Path | None = None,
    peers: Peers = ALONE,
) -> dict[str, Any]:
    """The metrics of the rows of a part that are scored, a window after the other, by all ranks; the same on each.

    sections: of this rank. predictions: where to write them, `prediction_parts.written`. Raises DataError where there
    are no rows.
    """
    at_most = sum(file.rows for file in catalog.files_of(rows, part))
    training = TrainingRows(catalog, known_features(catalog, rows))
    with JudgedRows(judging, at_most, peers) as judged:
        with written(predictions, peers) if predictions else nullcontext(_nowhere) as write:
            for table, pieces, _ in sections:
                judged.add(table, training.knew(groups_of(catalog, pieces), table["row"].to_numpy()))
                write(table)
        return with_unknown(judged.metrics(), unknown_values(catalog, rows, part))


def with_unknown(metrics: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """What `JudgedRows.metrics` gives as metrics.json has it: with `unknown` and `cold`, where there are any.

    `unknown` has the `values` that are unknown, `unknown_values`, and the figures of `rows` with an unknown item or
    user; `cold` those of rows with one that few training rows have.
    """
    rows, cold = metrics.pop("unknown_rows"), metrics.pop("cold_rows")
    unknown = {"unknown": {"values": values, "rows": rows}} if values or rows else {}
    return {**metrics, **unknown, **({"cold": cold} if cold else {})}


def peak_memory_gb() -> float:
    """The most memory that this process has held, resident, since it began."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GB


def _of_days(data: DataConfig, days: str) -> DataConfig:
    """The same data, restricted to a range of days instead of a part. Raises ConfigError when `days` is no range."""
    day_range(days)
    return data.model_copy(update={"split": "days", "days": DayRanges(train=days, valid=days, test=days)})


def _nowhere(table: pa.Table) -> None:
    """Predictions that are not kept."""
