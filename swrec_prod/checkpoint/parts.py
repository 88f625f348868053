"""Large shards are written to a checkpoint, and read from it, in parts.

torch copies a shard that shares its memory with others before it writes it, and reads one that it wants a part of as a
whole: beside a table, a second one would be in memory. Whoever reads takes parts as it takes shards, so that
checkpoints with and without them are of one form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import DefaultSavePlanner, SavePlan
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex
from torch.distributed.checkpoint.planner import WriteItem, WriteItemType

PART = 16 << 20  # numbers, 64 MiB of float32


class InParts(DefaultSavePlanner):
    """Plans the writing of this rank's shards, none of more than PART numbers at once."""

    def create_local_plan(self) -> SavePlan:
        """The default plan, large shards cut into rows."""
        plan = super().create_local_plan()
        self._shards: dict[MetadataIndex, tuple[MetadataIndex, int, int]] = {}
        self.plan = replace(plan, items=[part for item in plan.items for part in self._parts(item)])
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> Tensor | BytesIO:
        """What is written for an item."""
        if write_item.index not in self._shards:
            return super().resolve_data(write_item)
        shard, start, rows = self._shards[write_item.index]
        whole: Any = self.lookup_object(shard)
        return torch.narrow(whole, 0, start, rows)

    def _parts(self, item: WriteItem) -> Iterator[WriteItem]:
        written = item.tensor_data
        if item.type is not WriteItemType.SHARD or written is None or written.chunk.sizes.numel() <= PART:
            yield item
            return
        chunk = written.chunk
        at_once = max(1, PART // prod(chunk.sizes[1:]))
        for start in range(0, chunk.sizes[0], at_once):
            rows = min(at_once, chunk.sizes[0] - start)
            part = ChunkStorageMetadata(
                torch.Size((chunk.offsets[0] + start, *chunk.offsets[1:])), torch.Size((rows, *chunk.sizes[1:]))
            )
            index = replace(item.index, offset=part.offsets)
            self._shards[index] = item.index, start, rows
            yield replace(item, index=index, tensor_data=replace(written, chunk=part))
