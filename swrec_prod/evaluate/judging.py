"""The metrics of predictions, all rows at once or in pieces: of ranks, of days.

    metrics_of(table)  ==  record(sum of piece_of(table's pieces))

Shapes: N rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from swrec_prod.data.day_files import TASK_COLUMNS
from swrec_prod.errors import DataError, nearest
from swrec_prod.evaluate.predictions import (
    codes_of,
    first_of,
    given_logit_of,
    is_score,
    logit_of,
    tasks_of,
    weights_of,
)
from swrec_prod.metrics.pieces import Piece, TaskTally
from swrec_prod.metrics.rows import NDCG_K, Rows
from swrec_prod.metrics.summary import record_of


class Judging(NamedTuple):
    """How rows are judged. group_by: the column whose rows GAUC and NDCG compare with each other; those without a value
    are in no group. ndcg_k: the places that NDCG looks at. weighted: by the column `weight`, where there is one.
    """

    group_by: str = "user"
    ndcg_k: int = NDCG_K
    weighted: bool = True


AS_TRAINING_DOES = Judging()


def metrics_of(table: pa.Table, judging: Judging = AS_TRAINING_DOES) -> dict[str, Any]:
    """The metrics of metrics.json for a predictions table (see `summary.record_of`), and how they were judged:
    `weighted`, `group_by`, `ndcg_k`.

    A task that follows another is judged on all rows, and its record in `tasks` has one more, `given_<first>`: the same
    figures of P(task | first) on the rows where the first one happened. Raises DataError when there is no such column
    to group by.
    """
    return metrics_of_piece(piece_of(table, judging), judging, weighted=_weights(table, judging) is not None)


def metrics_of_piece(piece: Piece, judging: Judging, *, weighted: bool) -> dict[str, Any]:
    """`metrics_of` of all rows of a sum of pieces. weighted: whether rows were weighted."""
    return {**record_of(piece), "weighted": weighted, "group_by": judging.group_by, "ndcg_k": judging.ndcg_k}


def piece_of(table: pa.Table, judging: Judging = AS_TRAINING_DOES) -> Piece:
    """What the rows of a predictions table add up to. Raises DataError when there is no such column to group by."""
    tasks = tasks_of(table)
    labels_NT = np.stack([table[f"label_{task}"].to_numpy() for task in tasks], axis=1)
    logits_NT = np.stack([logit_of(table, task) for task in tasks], axis=1)
    groups, (scenarios, values) = _groups(table, judging.group_by), codes_of(table, "scenario")
    weights, k = _weights(table, judging), judging.ndcg_k
    piece = Piece.of(labels_NT, logits_NT, groups, scenarios, values, tasks, weights=weights, k=k)
    for t, task in enumerate(tasks):
        if (first := first_of(table, task)) is not None:
            rows = Rows(labels_NT[:, t], given_logit_of(table, task, first), groups, weights, k)
            happened = labels_NT[:, tasks.index(first)] == 1
            given = TaskTally.of(rows.take(happened), scenarios[happened], values)
            piece.tasks[task] = replace(piece.tasks[task], given={first: given})
    return piece


def judged_columns(names: Sequence[str], judging: Judging) -> list[str]:
    """Of a predictions table's columns those that `piece_of` looks at."""
    others = ("scenario", "weight", judging.group_by)
    return [name for name in names if name in others or (is_score(name) and name != "row")]


def check_group(column: str, known: Sequence[str]) -> None:
    """Raises DataError when `column` is none of those that rows can be grouped by."""
    if column not in known:
        raise DataError(f"predictions: no column {column!r} to group rows by; {nearest(column, known)}")


def _weights(table: pa.Table, judging: Judging) -> np.ndarray | None:
    return weights_of(table) if judging.weighted else None


def _groups(table: pa.Table, column: str) -> np.ndarray:
    """int64 [N]: one code for the rows of a value; a row without a value is a group of its own."""
    check_group(column, [name for name in table.column_names if not name.startswith(TASK_COLUMNS)])
    codes = codes_of(table, column)[0]
    return np.where(table[column].is_null().to_numpy(), len(codes) + np.arange(len(codes)), codes)
