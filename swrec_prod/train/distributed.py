"""Ranks, threads and collectives. The only place of the trainer that reads the environment.

torch is imported inside the functions: `before_torch` has to run before the first import of torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together. device: cpu or cuda:<local rank>."""

    rank: int
    world_size: int
    local_world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0


def before_torch() -> None:
    """Settings that OpenMP reads once, when torch is loaded.

    Spinning OpenMP threads turn a 3 ms step into 100 ms on a busy host; waiting passively costs nothing.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@contextmanager
def process_group(threads: int = 0) -> Iterator[Ranks]:
    """Join the process group that torchrun or TorchX describes in the environment; alone without one.

    threads: OpenMP threads of this rank; 0 divides the cores by the ranks of this host.
    """
    import torch
    import torch.distributed as dist

    rank = int(os.environ.get("RANK", "0"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", str(world_size)))
    torch.set_num_threads(threads or max(1, _cores() // local_world_size))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, rank=0, world_size=1, store=dist.HashStore())
    try:
        yield Ranks(rank, world_size, local_world_size, device)
    finally:
        dist.destroy_process_group()


def gather_rows(parts: dict[str, np.ndarray], ranks: Ranks) -> dict[str, np.ndarray]:
    """Rows of all ranks, one rank after the other, on every rank. parts: arrays of equal length by name."""
    import torch.distributed as dist

    if ranks.world_size == 1:
        return parts
    everyone: list[dict[str, np.ndarray]] = [{} for _ in range(ranks.world_size)]
    dist.all_gather_object(everyone, parts)
    return {name: np.concatenate([part[name] for part in everyone]) for name in parts}


def _cores() -> int:
    """Cores that this process may use (a container may allow fewer than the host has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
