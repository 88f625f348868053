"""A copy in memory of what a checkpoint holds, so that training may go on while it is written."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor import Shard, ShardedTensor

LARGEST_SHARE = 0.5  # of the memory that is left, that a copy may take


def snapshot(content: Any) -> Any:
    """Nested dictionaries and lists, all tensors copied to the host's memory; of sharded ones this rank's shards."""
    if isinstance(content, dict):
        return {key: snapshot(value) for key, value in content.items()}
    if isinstance(content, list):
        return [snapshot(value) for value in content]
    if isinstance(content, ShardedTensor):
        copied = copy.copy(content)
        copied._local_shards = [Shard(_to_host(part.tensor), part.metadata) for part in content.local_shards()]
        return copied
    return _to_host(content) if isinstance(content, Tensor) else copy.deepcopy(content)


def size_of(content: Any, *, shards_only: bool = False) -> int:
    """Bytes of this rank's tensors; with `shards_only` without those that every rank has."""
    if isinstance(content, (dict, list)):
        values = content.values() if isinstance(content, dict) else content
        return sum(size_of(value, shards_only=shards_only) for value in values)
    if isinstance(content, ShardedTensor):
        return sum(part.tensor.nbytes for part in content.local_shards())
    return content.nbytes if isinstance(content, Tensor) and not shards_only else 0


def fits(size: int) -> bool:
    """Whether the host has room for a copy of `size` bytes beside everything else."""
    left = _memory_left()
    return left is None or size <= LARGEST_SHARE * left


def _to_host(tensor: Tensor) -> Tensor:
    """Never the same memory, and of a part of larger memory this part alone."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())


def _memory_left() -> int | None:
    """Bytes that new allocations may take (Linux's estimate); None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
