"""Batch: what the reader gives and the ranker takes; moves between devices as one thing.

Shapes: B rows, F dense features, T tasks. Rows are sorted by scenario, so that no model has to move them again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from swrec_prod.encoding.pack import Packed
from swrec_prod.schema.layout import Layout

AS_THEY_ARE = tuple(name for name in Packed._fields if not name.startswith("ids_"))


@dataclass(frozen=True)
class Position:
    """How far into the data a reader is: with the reader's seed, all that a resume needs.

    epoch: from 0. rows: rows of that epoch consumed by all ranks together when this batch has been trained on.
    """

    epoch: int = 0
    rows: int = 0


@dataclass
class Batch(Pipelineable):
    """One rank's rows of one step.

    ids: the pooled features, None where there are none. sequence_values to scenario_B: as in encoding.pack.Packed.
    labels_BT: float32 in {0, 1}; weight_B: float32 or None. row_B: int64, the stable row ids.
    """

    ids: KeyedJaggedTensor | None
    sequence_values: Tensor
    sequence_lengths: Tensor
    behaviour_scenario: Tensor
    bag_lengths: Tensor
    behaviour_numbers: Tensor
    weights: Tensor
    dense_BF: Tensor
    scenario_B: Tensor
    labels_BT: Tensor
    weight_B: Tensor | None
    row_B: Tensor
    position: Position = Position()

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """A copy on `device`."""
        moved: dict[str, Any] = {
            f.name: v.to(device=device, non_blocking=non_blocking)
            for f in fields(self)
            if hasattr(v := getattr(self, f.name), "to")
        }
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory, for overlapping copies to a GPU."""
        pinned: dict[str, Any] = {
            f.name: v.pin_memory() for f in fields(self) if hasattr(v := getattr(self, f.name), "pin_memory")
        }
        return replace(self, **pinned)

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory until `stream` has used it."""
        for f in fields(self):
            value = getattr(self, f.name)
            if hasattr(value, "record_stream"):
                value.record_stream(stream)

    def __len__(self) -> int:
        return self.scenario_B.numel()


def make_batch(
    layout: Layout,
    packed: Packed,
    *,
    labels_BT: np.ndarray,
    row_B: np.ndarray,
    weight_B: np.ndarray | None = None,
    position: Position = Position(),
) -> Batch:
    """Packed arrays as a Batch; no array is copied. packed.scenario_B must be non-decreasing."""
    rows, names = len(packed.scenario_B), [f.name for f in layout.pooled]
    return Batch(
        ids=keyed_jagged(names, packed.ids_values, packed.ids_lengths, rows) if names else None,
        **{name: torch.from_numpy(getattr(packed, name)) for name in AS_THEY_ARE},
        labels_BT=torch.from_numpy(labels_BT),
        weight_B=None if weight_B is None else torch.from_numpy(weight_B),
        row_B=torch.from_numpy(row_B),
        position=position,
    )


def packed_of(batch: Batch) -> Packed:
    """The arrays that a batch on the CPU was made of, of which none is copied."""
    none = np.zeros(0, np.int64), np.zeros(0, np.int32)
    ids = none if batch.ids is None else (batch.ids.values().numpy(), batch.ids.lengths().numpy())
    as_they_are = {name: getattr(batch, name).numpy() for name in AS_THEY_ARE}
    return Packed(ids_values=ids[0], ids_lengths=ids[1], **as_they_are)


def keyed_jagged(keys: list[str], values: np.ndarray, lengths: np.ndarray, rows: int) -> KeyedJaggedTensor:
    """A KeyedJaggedTensor over flat arrays; stride and lengths per key are given, so that torchrec computes neither."""
    lengths_t = torch.from_numpy(lengths)
    per_key = lengths.reshape(len(keys), rows).sum(1).tolist()
    return KeyedJaggedTensor(
        keys=keys, values=torch.from_numpy(values), lengths=lengths_t, stride=rows, length_per_key=per_key
    )
