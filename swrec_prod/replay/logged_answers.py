"""The answers of an exposure log whose requests are kept, each as the call that it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.errors import DataError, nearest
from swrec_prod.exposures.schema import FeatureColumn, feature_columns
from swrec_prod.serving.client.request import make_call
from swrec_prod.serving.protocol.call import ScoreCall

ROWS = 256  # answers that are read at once; each has all features of its candidates


class LoggedAnswer(NamedTuple):
    """model: what scored, NAME/VERSION; strength: with which c; probability, score: [N, T] for the names of `tasks`."""

    call: ScoreCall
    model: str
    tasks: tuple[str, ...]
    strength: float
    probability: np.ndarray
    score: np.ndarray


def logged_answers(folder: Path, model: str = "") -> Iterator[LoggedAnswer]:
    """Each answer of a log once, files in the order of their names. model: only of this one.

    Raises DataError where there is no log, or none of the model, or no answer has its request.
    """
    found = 0
    for file in _files(folder, model):
        for answer in _of_file(file):
            found += 1
            yield answer
    if not found:
        raise DataError(f"{folder}: no answer has its request; serve with --exposures-features above 0")


def _files(folder: Path, model: str) -> list[Path]:
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise DataError(f"{folder}: no exposure log; expected the DIR of swrec serve --exposures DIR, with dt=*/hour=*")
    if not model:
        return files
    by_model = {file: _model(file) for file in files}
    if model not in by_model.values():
        raise DataError(f"{folder}: has no answers of {model!r}; {nearest(model, sorted(set(by_model.values())))}")
    return [file for file in files if by_model[file] == model]


def _model(file: Path) -> str:
    """Whose answers a file holds: its name is <when>-<who>-<model>-<version>."""
    return file.stem.split("-", 2)[-1].rpartition("-")[0]


def _of_file(file: Path) -> Iterator[LoggedAnswer]:
    with pq.ParquetFile(file) as opened:
        columns = feature_columns(opened.schema_arrow)
        for batch in opened.iter_batches(ROWS):
            is_answer = pc.equal(batch["event_id"], batch["answer_id"])
            table = pa.Table.from_batches([batch]).filter(pc.and_(is_answer, pc.is_valid(batch["sample_rate"])))
            yield from (_answer(row, columns) for row in table.to_pylist())


def _answer(row: Mapping[str, Any], columns: list[FeatureColumn]) -> LoggedAnswer:
    parts: dict[str, dict[str, Any]] = {"user": {}, "items": {}}
    for column in columns:
        value = row[column.field.name]
        if value is not None or not (column.several or column.part == "items"):
            parts[column.part][column.name] = value
    call = make_call(row["scenario"], parts["user"], parts["items"])
    call.request_id, call.unit = row["request_id"] or "", row["unit"] or ""
    shape = (-1, len(row["tasks"]))
    probability, score = (np.array(row[name], np.float32).reshape(shape) for name in ("probability", "score"))
    package = f"{row['model']}/{row['model_version']}"
    return LoggedAnswer(call, package, tuple(row["tasks"]), row["debias_strength"], probability, score)
