"""Columns of encoded rows -> the flat arrays that a KeyedJaggedTensor is made of.

numpy only: trainer and server share it.

Shapes: B rows, P pooled features, F dense features, N behaviours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from swrec_prod.schema import Feature
from swrec_prod.schema.layout import Layout


class Ragged(NamedTuple):
    """Several values a row. values: [total]; offsets: int64 [B + 1], row i owns values[offsets[i]:offsets[i + 1]]."""

    values: np.ndarray
    offsets: np.ndarray

    def take(self, rows: np.ndarray) -> Ragged:
        """The given rows, in the given order."""
        starts = self.offsets[rows]
        index, offsets = spread(starts, self.offsets[rows + 1] - starts)
        return Ragged(self.values[index], offsets)


Column = np.ndarray | Ragged


class Packed(NamedTuple):
    """A batch as flat arrays, features one after the other (the order of a KeyedJaggedTensor).

    ids_values: int64 [total]; ids_lengths: int32 [P * B], of the pooled features.
    sequence_values: int64 [B + behaviours]; sequence_lengths: int32 [2 * B], target first, then history (empty
        without).
    history_scenario: int64 [behaviours]. dense_BF: float32 [B, F]. scenario_B: int64 [B].
    """

    ids_values: np.ndarray
    ids_lengths: np.ndarray
    sequence_values: np.ndarray
    sequence_lengths: np.ndarray
    history_scenario: np.ndarray
    dense_BF: np.ndarray
    scenario_B: np.ndarray


def spread(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the values of some rows lie: row i owns [starts[i], starts[i] + lengths[i]). Both int64 [B], in any order.

    Returns the index of every value, rows one after the other, int64 [total], and the rows' new offsets, int64 [B + 1].
    """
    offsets = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    index = np.repeat(starts - offsets[:-1], lengths)
    index += np.arange(offsets[-1])
    return index, offsets


def pack(layout: Layout, columns: Mapping[str, Column], scenario_B: np.ndarray) -> Packed:
    """Write every column into one preallocated values array.

    columns: encoded columns by name (Layout.columns), each [B] or Ragged over B rows; scenario_B: int64 [B].
    """
    rows = len(scenario_B)
    ids_values, ids_lengths = _flatten(layout.pooled, [columns[f.name] for f in layout.pooled], rows)
    sequence_values = np.zeros(0, np.int64)
    sequence_lengths = np.zeros(0, np.int32)
    history_scenario = np.zeros(0, np.int64)
    if layout.history is not None and layout.target is not None:
        behaviours = columns[f"{layout.history.name}.item"]
        pair = (layout.target, layout.history)
        sequence_values, sequence_lengths = _flatten(pair, [columns[layout.target.name], behaviours], rows)
        history_scenario = np.asarray(columns[f"{layout.history.name}.scenario"].values, np.int64)  # type: ignore[union-attr]
    dense_BF = np.empty((rows, len(layout.dense)), np.float32)
    for i, feature in enumerate(layout.dense):
        dense_BF[:, i] = columns[feature.name]
    return Packed(ids_values, ids_lengths, sequence_values, sequence_lengths, history_scenario, dense_BF, scenario_B)


def _flatten(features: tuple[Feature, ...], columns: list[Column], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and lengths of `columns` laid one after the other."""
    total = sum(len(c.values) if isinstance(c, Ragged) else rows for c in columns)
    values = np.empty(total, np.int64)
    lengths = np.ones(len(features) * rows, np.int32)
    start = 0
    for i, column in enumerate(columns):
        flat = column.values if isinstance(column, Ragged) else column
        values[start : start + len(flat)] = flat
        start += len(flat)
        if isinstance(column, Ragged):
            lengths[i * rows : (i + 1) * rows] = np.diff(column.offsets)
    return values, lengths
