"""Sums over all rows of a step when several ranks train on parts of them, so that two ranks learn what one would.

Without a process group, and in a scripted graph, both functions return what they are given.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of every rank's `x`, with gradients. All ranks must call it equally often."""
    if torch.jit.is_scripting():
        return x
    return all_reduce(x.contiguous()) if several_ranks() else x


def of_first_rank(x: Tensor) -> Tensor:
    """Rank 0's `x`, on every rank; without gradient. All ranks must call it equally often."""
    if torch.jit.is_scripting():
        return x
    return _broadcast(x.detach().contiguous()) if several_ranks() else x


def several_ranks() -> bool:
    """Whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _broadcast(x: Tensor) -> Tensor:
    dist.broadcast(x, 0)
    return x
