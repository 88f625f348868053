"""What a metric is computed from: labels, scores and weights, checked, and runs of equal values. numpy only.

Shapes: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from swrec_prod.errors import MetricError

NDCG_K = 10


@dataclass(frozen=True, eq=False)
class Rows:
    """What a metric may look at; each is [N], and None where it is not known.

    labels of {0, 1}, logits. groups: ids of any type, the rows that GAUC and NDCG compare with each other. weights:
    None where every row counts once. k: the places at the top that metrics look at. requests: int, the rows of one
    page, -1 for a row of none. items: int, indices into item_names, strings in rising order. information: the bits of
    the row's item (`top_items.novelty`). order: int, how rows of equal score stand in the first places, by default as
    they are given. pages: int, where there are no requests: the rows whose first places `items` and `information` are
    looked at in, -1 for a row of none.
    """

    labels: np.ndarray
    logits: np.ndarray
    groups: np.ndarray
    weights: np.ndarray | None = None
    k: int = NDCG_K
    requests: np.ndarray | None = None
    items: np.ndarray | None = None
    item_names: np.ndarray | None = None
    information: np.ndarray | None = None
    order: np.ndarray | None = None
    pages: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Rows:
        """Some of the rows; rows: int or bool index."""
        columns = ("labels", "logits", "groups", "weights", "requests", "items", "information", "order", "pages")
        known = {name: column for name in columns if (column := getattr(self, name)) is not None}
        return replace(self, **{name: np.asarray(column)[rows] for name, column in known.items()})


def checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 [N]. Raises MetricError unless they are labels of {0, 1} and finite scores."""
    labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise MetricError(f"labels {labels.shape} and scores {scores.shape} must be two equally long columns")
    wrong = (labels != 0) & (labels != 1)
    if wrong.any():
        raise MetricError(f"a label is 0 or 1, not {labels[wrong][0]:g} ({wrong.sum()} of {len(labels)} rows)")
    finite = np.isfinite(scores)
    if not finite.all():
        raise MetricError(f"{(~finite).sum()} of {len(scores)} scores are not finite numbers")
    return labels, scores


def some_rows(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The rows that count, checked."""
    labels, scores, weights = counted_rows(labels, scores, weights)
    if not len(labels):
        raise MetricError("there are no rows" + ("" if weights is None else " of weight above 0"))
    return labels, scores, weights


def counted_rows(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The rows without those of weight 0. Raises MetricError for labels, scores or weights that cannot be judged."""
    labels, scores = checked(labels, scores)
    if weights is None:
        return labels, scores, None
    weights = checked_weights(weights, len(scores))
    counts = weights > 0
    return labels[counts], scores[counts], weights[counts]


def checked_weights(weights: np.ndarray, rows: int) -> np.ndarray:
    """float64 [rows]. Raises MetricError for another shape, or a weight that is no number >= 0."""
    weights = np.asarray(weights, np.float64)
    if weights.shape != (rows,) or not (weights >= 0).all():
        raise MetricError(f"weights {weights.shape} must be {rows} numbers >= 0")
    return weights


def class_masses(labels: np.ndarray, weights: np.ndarray | None) -> tuple[float, float]:
    """What the positive and the negative rows weigh: their numbers, where every row counts once."""
    mass = np.ones(len(labels)) if weights is None else weights
    return float(np.dot(mass, labels)), float(np.dot(mass, 1 - labels))


def one_class(positives: Any, negatives: Any) -> str:
    """Why rows, of which one of the two counts is 0, have no order to judge."""
    total = positives + negatives
    return f"all {total:g} labels are {int(positives > 0)}" if total else "there are no rows"


def block_starts(*columns: np.ndarray) -> np.ndarray:
    """Where a run of equal values (of all columns) starts; [] for no rows."""
    if not len(columns[0]):
        return np.zeros(0, np.int64)
    changes = np.zeros(len(columns[0]) - 1, bool)
    for column in columns:
        changes |= column[1:] != column[:-1]
    return np.concatenate(([0], np.flatnonzero(changes) + 1))


def block_sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The sum of the values of each block, by its start; [] for no blocks."""
    return np.add.reduceat(values, starts) if len(starts) else values[:0]
