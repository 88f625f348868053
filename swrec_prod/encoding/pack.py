"""Columns of encoded rows -> the flat arrays that a KeyedJaggedTensor is made of.

numpy only: trainer and server share it.

Shapes: B rows, P pooled features, L looked-up features, K sequences, F numbers, N behaviours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

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


def stacked(columns: Sequence[Column]) -> Column:
    """The rows of several columns of one feature, one column's after the other's."""
    ragged = [column for column in columns if isinstance(column, Ragged)]
    if len(ragged) < len(columns):
        return np.concatenate([column for column in columns if not isinstance(column, Ragged)])
    lengths = np.concatenate([np.diff(column.offsets) for column in ragged])
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Ragged(np.concatenate([column.values for column in ragged]), offsets)


def take(columns: Mapping[str, Column], rows: np.ndarray) -> dict[str, Column]:
    """The given rows of encoded columns."""
    return {name: column.take(rows) if isinstance(column, Ragged) else column[rows] for name, column in columns.items()}


class Packed(NamedTuple):
    """A batch as flat arrays, features one after the other (the order of a KeyedJaggedTensor).

    ids_values: int64 [total]; ids_lengths: int32 [P * B], of the pooled features.
    sequence_values: int64 [total], of the looked-up features and then of the ids and bags of every sequence's parts;
    sequence_lengths: int32 [(L + K) * B]: values of a row in each looked-up feature, behaviours of a row in each
        sequence.
    behaviour_scenario: int64 [behaviours], sequence by sequence; S where a behaviour has none.
    bag_lengths: int32: of every bag among the parts, the values of each behaviour.
    behaviour_numbers: float32: of every number among the parts, that of each behaviour.
    weights: float32: of every weighted bag among the looked-up features, those of its values.
    dense_BF: float32 [B, F]. scenario_B: int64 [B].
    """

    ids_values: np.ndarray
    ids_lengths: np.ndarray
    sequence_values: np.ndarray
    sequence_lengths: np.ndarray
    behaviour_scenario: np.ndarray
    bag_lengths: np.ndarray
    behaviour_numbers: np.ndarray
    weights: np.ndarray
    dense_BF: np.ndarray
    scenario_B: np.ndarray


class PackedRequest(NamedTuple):
    """Rows in the two halves of a layout: U user rows, of Layout.user_half, and B candidates, of Layout.item_half.

    U is 1 in a request, whose user stands beside every candidate, and B offline, where each row has a user of its own.
    """

    user: Packed
    items: Packed


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

    columns: encoded columns by name (Layout.columns), each [B] or Ragged over B rows, a vector [B, width]; scenario_B:
    int64 [B].
    """
    rows, names = len(scenario_B), layout.array_columns
    return Packed(
        ids_values=_flat(columns, names.ids, np.int64),
        ids_lengths=_lengths(columns, names.ids, rows),
        sequence_values=_flat(columns, names.sequence, np.int64),
        sequence_lengths=_lengths(columns, names.counted, rows),
        behaviour_scenario=_flat(columns, names.scenarios, np.int64),
        bag_lengths=_flat(columns, names.bag_lengths, np.int32),
        behaviour_numbers=_flat(columns, names.numbers, np.float32),
        weights=_flat(columns, names.weights, np.float32),
        dense_BF=_side_by_side(layout, columns, rows),
        scenario_B=scenario_B,
    )


def pack_halves(
    layout: Layout, columns: Mapping[str, Column], scenario_B: np.ndarray, *, user_rows: int
) -> PackedRequest:
    """Columns of B candidates, and of 1 or B user rows, as the halves of `layout`. Otherwise as `pack`."""
    user, items = layout.user_half, layout.item_half
    return PackedRequest(pack(user, columns, scenario_B[:user_rows]), pack(items, columns, scenario_B))


def _flat(columns: Mapping[str, Column], names: Sequence[str], kind: type) -> np.ndarray:
    """The values of some columns, one after the other."""
    if not names:
        return np.empty(0, kind)
    chosen = [columns[name] for name in names]
    flat = [column.values if isinstance(column, Ragged) else column for column in chosen]
    return np.concatenate(flat, dtype=kind, casting="same_kind")


def _lengths(columns: Mapping[str, Column], names: Sequence[str], rows: int) -> np.ndarray:
    """How many values each row has in some columns: int32 [columns * B]."""
    lengths = np.empty(len(names) * rows, np.int32)
    lengths.fill(1)
    for i, name in enumerate(names):
        column = columns[name]
        if isinstance(column, Ragged):
            lengths[i * rows : (i + 1) * rows] = np.diff(column.offsets)
    return lengths


def _side_by_side(layout: Layout, columns: Mapping[str, Column], rows: int) -> np.ndarray:
    """The numbers of each row: float32 [B, F]."""
    if not layout.numbers:
        return np.empty((rows, 0), np.float32)
    dense_BF = np.empty((rows, sum(number.width for number in layout.numbers)), np.float32)
    start = 0
    for number in layout.numbers:
        column = columns[number.column]
        dense_BF[:, start : start + number.width] = np.asarray(column).reshape(rows, number.width)
        start += number.width
    return dense_BF
