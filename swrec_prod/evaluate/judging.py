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
from swrec_prod.metrics.summary import Support, record_of

BITS = "bits"  # a column beside predictions: how little known the row's item is (`familiar.Familiar`)


class Judging(NamedTuple):
    """How rows are judged. group_by: the column whose rows GAUC and NDCG compare with each other; those without a value
    are in no group. ndcg_k: the places that NDCG and metrics of requests look at. weighted: by the column `weight`,
    where there is one. request_by: the column whose rows are one page, where there is one. min_rows, min_positives:
    with fewer, figures are null. cold_below: an item or user with fewer training rows is cold.
    """

    group_by: str = "user"
    ndcg_k: int = NDCG_K
    weighted: bool = True
    request_by: str = "request"
    min_rows: int = 0
    min_positives: int = 0
    cold_below: int = 10


AS_TRAINING_DOES = Judging()


def metrics_of(table: pa.Table, judging: Judging = AS_TRAINING_DOES) -> dict[str, Any]:
    """The metrics of metrics.json for a predictions table (see `summary.record_of`), and how they were judged:
    the fields of `Judging`.

    A task that follows another is judged on all rows, and its record in `tasks` has one more, `given_<first>`: the same
    figures of P(task | first) on the rows where the first one happened. Raises DataError when there is no such column
    to group by.
    """
    return metrics_of_piece(piece_of(table, judging), judging, weighted=_weights(table, judging) is not None)


def metrics_of_piece(piece: Piece, judging: Judging, *, weighted: bool) -> dict[str, Any]:
    """`metrics_of` of all rows of a sum of pieces. weighted: whether rows were weighted."""
    record = record_of(piece, Support(judging.min_rows, judging.min_positives))
    return {**record, **judging._asdict(), "weighted": weighted}


def piece_of(table: pa.Table, judging: Judging = AS_TRAINING_DOES) -> Piece:
    """What the rows of a predictions table add up to, also of one that has `BITS`.

    Raises DataError when there is no such column to group by.
    """
    rows, (scenarios, values) = _rows(table, judging), codes_of(table, "scenario")
    piece = Piece.of_rows({task: _of_task(table, task, rows) for task in tasks_of(table)}, scenarios, values)
    for task in tasks_of(table):
        if (first := first_of(table, task)) is not None:
            happened = table[f"label_{first}"].to_numpy() == 1
            chained = replace(_of_task(table, task, rows), logits=given_logit_of(table, task, first))
            given = TaskTally.of(chained.take(happened), scenarios[happened], values)
            piece.tasks[task] = replace(piece.tasks[task], given={first: given})
    return piece


def _rows(table: pa.Table, judging: Judging) -> Rows:
    """All that is known of the rows but their labels and logits. Where items are known, equal scores are in the order
    of row ids, whatever the table's. Without a column of requests, the rows of a group are a page.
    """
    none, groups = np.zeros(len(table)), _groups(table, judging.group_by)
    rows = Rows(none, none, groups, _weights(table, judging), judging.ndcg_k)
    if judging.request_by in table.column_names:
        rows = replace(rows, requests=_pages(table, judging.request_by))
    else:
        rows = replace(rows, pages=_pages(table, judging.group_by))
    if "item" in table.column_names:
        items, names = codes_of(table, "item")
        rows = replace(rows, items=items, item_names=np.array(names, np.str_), order=table["row"].to_numpy())
    return replace(rows, information=table[BITS].to_numpy()) if BITS in table.column_names else rows


def _of_task(table: pa.Table, task: str, rows: Rows) -> Rows:
    return replace(rows, labels=table[f"label_{task}"].to_numpy(), logits=logit_of(table, task))


def judged_columns(names: Sequence[str], judging: Judging) -> list[str]:
    """Of a predictions table's columns those that `piece_of` looks at."""
    others = ("scenario", "weight", "item", judging.group_by, judging.request_by)
    return [name for name in names if name in others or is_score(name)]


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


def _pages(table: pa.Table, column: str) -> np.ndarray:
    """int64 [N]: one code for the rows of a value, -1 for a row without one."""
    return np.where(table[column].is_null().to_numpy(), -1, codes_of(table, column)[0])
