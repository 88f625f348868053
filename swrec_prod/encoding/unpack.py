"""The flat arrays of a batch -> the columns of its rows: the way back of encoding.pack.

numpy only. Shapes: B rows, K sequences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swrec_prod.encoding.pack import Column, Packed, Ragged
from swrec_prod.schema import Feature
from swrec_prod.schema.layout import Layout, lengths_column, weights_column


def unpack(layout: Layout, packed: Packed) -> dict[str, Column]:
    """The columns that `packed` was made of; views where that is possible."""
    rows = len(packed.scenario_B)
    columns = _unpacked(layout.pooled, packed.ids_values, packed.ids_lengths, rows)
    singles = len(layout.looked_up) * rows
    columns |= _unpacked(layout.looked_up, packed.sequence_values, packed.sequence_lengths[:singles], rows)
    weights = _Taker(packed.weights)
    for feature in layout.looked_up:
        if feature.weights:
            offsets = columns[feature.name].offsets  # type: ignore[union-attr]  # bags only have weights
            columns[weights_column(feature)] = Ragged(weights.take(offsets[-1]), offsets)
    columns |= _behaviours(layout, packed, packed.sequence_lengths[singles:].reshape(len(layout.sequences), rows))
    dense = _Taker(packed.dense_BF.T)
    for number in layout.numbers:
        values = dense.take(number.width).T
        columns[number.column] = values[:, 0] if number.width == 1 else values
    return columns


class _Taker:
    """An array, from its beginning to its end."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.at = array, 0

    def take(self, count: int) -> np.ndarray:
        """The next `count` entries."""
        self.at += count
        return self.array[self.at - count : self.at]


def _unpacked(features: Sequence[Feature], values: np.ndarray, lengths: np.ndarray, rows: int) -> dict[str, Column]:
    """The columns of features: an id has one value a row, a bag any number."""
    values_of, columns = _Taker(values), {}
    for i, feature in enumerate(features):
        offsets = _offsets(lengths[i * rows : (i + 1) * rows])
        flat = values_of.take(offsets[-1])
        columns[feature.name] = Ragged(flat, offsets) if feature.kind == "bag" else flat
    return columns


def _behaviours(layout: Layout, packed: Packed, lengths_KB: np.ndarray) -> dict[str, Column]:
    """The columns of all sequences."""
    numbers, bags, scenario = map(_Taker, (packed.behaviour_numbers, packed.bag_lengths, packed.behaviour_scenario))
    ids = _Taker(packed.sequence_values)
    ids.take(int(packed.sequence_lengths[: packed.sequence_lengths.size - lengths_KB.size].sum()))
    columns: dict[str, Column] = {}
    for sequence, lengths_B in zip(layout.sequences, lengths_KB, strict=True):
        offsets = _offsets(lengths_B)
        count = int(offsets[-1])
        columns[f"{sequence.name}.scenario"] = Ragged(scenario.take(count), offsets)
        for part in sequence.parts:
            if part.kind == "bag":
                each = bags.take(count)
                ends = _offsets(each)
                columns[lengths_column(part)] = Ragged(each, offsets)
                columns[part.name] = Ragged(ids.take(ends[-1]), ends[offsets])
            else:
                columns[part.name] = Ragged((numbers if part.kind == "dense" else ids).take(count), offsets)
    return columns


def _offsets(lengths: np.ndarray) -> np.ndarray:
    """Where each row's values begin, and where the last one's end: int64 [B + 1]."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
