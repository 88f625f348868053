"""Ranks, threads and collectives. The only place of the trainer that reads the environment.

torch is imported inside the functions: `before_torch` has to run before the first import of torch.
"""

from __future__ import annotations

import base64
import logging
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from swrec_prod.doctor import TRIO, cuda_kernels, installed
from swrec_prod.errors import StoppedError
from swrec_prod.group.joining import common_store
from swrec_prod.group.leaving import AGAIN
from swrec_prod.group.watching import watched

if TYPE_CHECKING:
    import torch
    from torch import nn

T = TypeVar("T")
HANG_S = 300.0
BROKEN = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # what gloo says of a rank that ended


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

    def to_all(self, value: T) -> list[T]:
        """The values of all ranks, in their order, on each of them: for what is small."""
        import torch.distributed as dist

        if self.world_size == 1:
            return [value]
        everyone: list[Any] = [None] * self.world_size
        dist.all_gather_object(everyone, value)
        return everyone

    def exchange(self, parcels: Sequence[T]) -> list[T]:
        """Send parcels[r] to rank r, for every r; gives what came from each rank, in their order.

        A rank holds its own parcels and those that come to it, and no others.
        """
        import torch
        import torch.distributed as dist

        if self.world_size == 1:
            return list(parcels)
        sent = [torch.frombuffer(bytearray(pickle.dumps(parcel, protocol=5)), dtype=torch.uint8) for parcel in parcels]
        sizes = torch.tensor([len(parcel) for parcel in sent], device=self.device)
        coming = torch.empty_like(sizes)
        dist.all_to_all_single(coming, sizes)
        received = torch.empty(int(coming.sum()), dtype=torch.uint8, device=self.device)
        dist.all_to_all_single(received, torch.cat(sent).to(self.device), coming.tolist(), sizes.tolist())
        return [pickle.loads(parcel.numpy().data) for parcel in received.cpu().split(coming.tolist())]


def before_torch() -> None:
    """Settings that OpenMP reads once, when torch is loaded.

    Spinning OpenMP threads turn a 3 ms step into 100 ms on a busy host; waiting passively costs nothing.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def quiet_libraries() -> None:
    """Silence what torch and torchrec say of their own internals on every run: no user can act on it."""
    for name in ("torchrec", "torch.fx._symbolic_trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|torchrec|fbgemm_gpu)(\.|$)")


@contextmanager
def process_group(threads: int = 0, hang_s: float = HANG_S) -> Iterator[Ranks]:
    """Join the process group that torchrun or TorchX describes in the environment; alone without one.

    threads: OpenMP threads of this rank; 0 takes OMP_NUM_THREADS, and where that is not set (torchrun sets it to 1)
    divides the cores by the ranks of this host. hang_s: after so many seconds without a sign of life of a rank, it is
    named and the others end.

    A rank that fails among several leaves the group to its process's end: with the connections closed before, another
    rank may fail of that first, and torchrun then names that one as the cause.
    """
    import torch
    import torch.distributed as dist

    rank = int(os.environ.get("RANK", "0"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", str(world_size)))
    torch.set_num_threads(threads or _threads(local_world_size))
    device = pick_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = common_store(rank, world_size) if "RANK" in os.environ else dist.HashStore()
    dist.init_process_group(backend, rank=rank, world_size=world_size, store=store)
    failed = True
    try:
        own: dist.Store = store.clone()  # type: ignore[attr-defined]
        with watched(own, rank, world_size, hang_s) if world_size > 1 else nullcontext():
            yield Ranks(rank, world_size, local_world_size, device)
        failed = False
    except RuntimeError as failure:
        if world_size == 1 or not any(words in str(failure) for words in BROKEN):
            raise
        raise StoppedError(f"rank {rank}: another rank is gone, see what it says; {AGAIN}") from None
    finally:
        if world_size == 1 or not failed:
            dist.destroy_process_group()


def end_at_once_if_ranked(code: int) -> None:
    """End this process here where it is one of several ranks:
    torchrun is to see its exit code before those of the ranks it leaves.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def pick_device() -> torch.device:
    """This rank's GPU where torch sees one and fbgemm has kernels for it, else the CPU.

    A CUDA torch sees GPUs beside the CPU flavour of fbgemm too, whose lookups would then fail on them.
    """
    import torch

    if torch.cuda.is_available() and cuda_kernels(installed(TRIO)):
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def seed_masks(seed: int, step: int, ranks: Ranks) -> None:
    """Make what torch draws from here on (dropout) depend on these alone:
    a resumed run draws as if it had never stopped.

    Ranks draw different masks, as different rows should.
    """
    import torch

    torch.manual_seed(int(np.random.SeedSequence([seed, step, ranks.rank]).generate_state(1, np.uint64)[0]))


def random_state(ranks: Ranks) -> str:
    """Where this rank's draws (dropout) stand, as text."""
    import torch

    state = torch.cuda.get_rng_state(ranks.device) if ranks.device.type == "cuda" else torch.get_rng_state()
    return base64.b64encode(state.numpy().tobytes()).decode()


def set_random_state(text: str, ranks: Ranks) -> None:
    """Go on drawing where `random_state` was."""
    import torch

    state = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
    if ranks.device.type == "cuda":
        torch.cuda.set_rng_state(state, ranks.device)
    else:
        torch.set_rng_state(state)


def share_buffers(model: nn.Module, ranks: Ranks) -> None:
    """Give all ranks the same dense buffers: the mean of running statistics, the largest of counters.

    Blocks keep theirs alike in every step (layers/ranks.py). State that a rank has from its own rows would be used by
    that rank alone when it validates, and a checkpoint would hold a single rank's. Buffers of the sharded tables are
    left alone.
    """
    import torch
    import torch.distributed as dist

    if ranks.world_size == 1:
        return
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.startswith("sparse."):
                continue
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer.div_(ranks.world_size)
            else:
                dist.all_reduce(buffer, dist.ReduceOp.MAX)


def on_main(ranks: Ranks, action: Callable[[], T]) -> T:
    """What `action` gives on the main rank, on every rank; its error likewise, so that no rank is left waiting."""
    import torch.distributed as dist

    box: list[Any] = [None, None]
    if ranks.is_main:
        try:
            box[0] = action()
        except Exception as failure:  # handed on below, on every rank
            box[1] = failure
    dist.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]


def _threads(local_world_size: int) -> int:
    """What OMP_NUM_THREADS says, else this rank's part of the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else max(1, _cores() // local_world_size)


def _cores() -> int:
    """Cores that this process may use (a container may allow fewer than the host has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
