"""Scenarios made of the data instead of the given ones: by chance, by clusters of the features, or by a tree on them.

What is fitted is fitted on training rows. Features are what prepared rows hold: numbers, and ids of few values; the
cluster of a row is that of the nearest centre (Lloyd's k-means, by scipy), with ids as one-hot columns. Behaviours
are in no scenario then, as what they happened among is not known.

Shapes: N rows, S new scenarios, F columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from scipy.cluster.vq import kmeans2, vq

from swrec_prod.errors import ConfigError, nearest
from swrec_prod.schema import Feature, FeatureSchema
from swrec_prod.studies.columns import drawn, of_scenarios, with_scenarios
from swrec_prod.studies.folder import PreparedRows, Step
from swrec_prod.studies.tree import Binned, grow

MOST_VALUES = 64  # of an id feature whose values tell scenarios apart
FITTED_ROWS = 100_000  # training rows that a split is fitted on, at most
BINS = 64  # of a number, for the tree
CHUNK = 100_000  # rows whose columns are in memory at once


class Fitted(NamedTuple):
    """A split. names: of the new scenarios; scenarios: takes rows and gives the scenario of each [N]."""

    names: list[str]
    scenarios: Callable[[pa.Table], np.ndarray]
    notes: dict[str, Any]


def split_anew(rows: PreparedRows, split: str, parts: int | None, columns: Sequence[str] | None) -> Step:
    """Rows in scenarios that are made; `parts` of them, by default as many as are given.

    Raises ConfigError for columns that are no numbers or ids of few values.
    """
    schema = rows.schema
    fitted = SPLITS[split](rows, parts or schema.scenario.size, columns)
    made = len(fitted.names)
    index_S = np.full(schema.scenario.size + 1, made if made > 1 else 0, np.int32)
    index_S[-1] = made

    def rename(table: pa.Table, part_N: np.ndarray) -> pa.Table:
        return with_scenarios(table, fitted.scenarios(table), index_S)

    return Step(of_scenarios(schema, fitted.names), rename, {"split": split, **fitted.notes})


def one(rows: PreparedRows, count: int, columns: Sequence[str] | None) -> Fitted:
    """All rows in one scenario."""
    return Fitted(["all"], lambda table: np.zeros(table.num_rows, np.int32), {})


def by_chance(rows: PreparedRows, count: int, columns: Sequence[str] | None) -> Fitted:
    """Rows dealt alike, whatever they are: what a split that knows nothing costs."""
    names = [f"random_{i}" for i in range(count)]
    return Fitted(names, lambda table: (drawn(table["row"].to_numpy(), "split") * count).astype(np.int32), {})


def by_cluster(rows: PreparedRows, count: int, columns: Sequence[str] | None) -> Fitted:
    """The nearest of `count` centres, of numbers scaled to deviation 1 and ids as one-hot columns over sqrt(2)."""
    features = readable(rows.schema, columns)
    table = _sample(rows, features)
    scales = {f.name: _scale(table[f.name].to_numpy()) for f in features if f.kind == "dense"}

    def matrix(table: pa.Table) -> np.ndarray:
        return np.concatenate([_columns(table[f.name].to_numpy(), f, scales.get(f.name)) for f in features], 1)

    def index(table: pa.Table) -> np.ndarray:
        pieces = [table.slice(at, CHUNK) for at in range(0, max(table.num_rows, 1), CHUNK)]
        return np.concatenate([vq(matrix(piece), centres)[0] for piece in pieces])

    centres, label_N = kmeans2(matrix(table), count, minit="++", rng=1)
    sizes = np.bincount(label_N, minlength=count)
    notes = {"columns": [f.name for f in features], "shares": (sizes / sizes.sum()).round(4).tolist()}
    return Fitted([f"cluster_{i}" for i in range(count)], index, notes)


def by_tree(rows: PreparedRows, count: int, columns: Sequence[str] | None) -> Fitted:
    """The leaves of a tree that tells rows with the first label from those without."""
    features = readable(rows.schema, columns)
    table = _sample(rows, features, f"label_{rows.schema.tasks[0]}")
    binned = {f.name: Binned.of(table[f.name].to_numpy(), f.kind == "dense", f.rows or 0, BINS) for f in features}

    def bins(table: pa.Table) -> dict[str, np.ndarray]:
        return {name: column.bins(table[name].to_numpy()) for name, column in binned.items()}

    tree = grow(binned, bins(table), table[f"label_{rows.schema.tasks[0]}"].to_numpy(), count)
    notes = {"columns": [f.name for f in features], "leaves": tree.rules({n: c.said for n, c in binned.items()})}
    return Fitted([f"leaf_{i}" for i in range(tree.leaves)], lambda table: tree.leaf_of(bins(table)), notes)


SPLITS: dict[str, Callable[[PreparedRows, int, Sequence[str] | None], Fitted]] = {
    "one": one,
    "random": by_chance,
    "cluster": by_cluster,
    "tree": by_tree,
}


def readable(schema: FeatureSchema, columns: Sequence[str] | None) -> list[Feature]:
    """The features that a split may read: those in `columns`, or all that fit. Raises ConfigError where none does."""
    fit = [f for f in schema.features if f.kind == "dense" or (f.kind == "id" and 2 < (f.rows or 0) <= MOST_VALUES)]
    names = [f.name for f in fit]
    for name in columns or ():
        if name not in names:
            reason = f"is no number, and no id of at most {MOST_VALUES} values"
            raise ConfigError(f"rows.columns: {name!r} {reason}; {nearest(name, names)}")
    if not fit:
        raise ConfigError(f"rows.split: the data have no number, and no id of at most {MOST_VALUES} values")
    return [f for f in fit if columns is None or f.name in columns]


def _sample(rows: PreparedRows, features: Sequence[Feature], *more: str) -> pa.Table:
    """Training rows to fit on, drawn alike."""
    table = rows.training(["row", *(f.name for f in features), *more])
    if table.num_rows <= FITTED_ROWS:
        return table
    return table.filter(pa.array(drawn(table["row"].to_numpy(), "fit") < FITTED_ROWS / table.num_rows))


def _scale(values_N: np.ndarray) -> tuple[float, float]:
    return float(values_N.mean()), float(values_N.std()) or 1.0


def _columns(values_N: np.ndarray, feature: Feature, scale: tuple[float, float] | None) -> np.ndarray:
    """What clusters see of a feature: float [N, 1] of a number, [N, rows] of an id."""
    if scale is not None:
        return ((values_N - scale[0]) / scale[1])[:, None].astype(np.float32)
    return np.eye(feature.rows or 0, dtype=np.float32)[values_N] / np.sqrt(np.float32(2))
