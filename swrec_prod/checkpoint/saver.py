"""Saver: checkpoints that are written while training goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn
from torchrec.optim.keyed import KeyedOptimizer

from swrec_prod.checkpoint.retention import prune
from swrec_prod.checkpoint.snapshot import fits, size_of, snapshot
from swrec_prod.checkpoint.writing import content_of, write


class Saver:
    """Writes to `folder`, one checkpoint at a time, in a thread; every rank has one, and calls the same methods.

    keep: how many of the latest stay, beside the best. A rank without memory for a copy of its tensors waits until they
    are written; without `background` all do. paused: seconds for which training has stood still. Whoever makes one
    calls `wait` in the end.
    """

    def __init__(self, folder: Path, keep: int, *, background: bool = True) -> None:
        self.folder, self.keep, self.background = folder, keep, background
        self.paused = 0.0
        # collectives of a thread of its own need a group of their own
        self._group = dist.new_group(backend="gloo")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[Path] | None = None

    def save(
        self, step: int, model: nn.Module, optimizer: KeyedOptimizer, state: dict[str, Any], best: Sequence[int]
    ) -> None:
        """Save the model as it is now; returns once that may change. best: steps whose checkpoints are kept.

        Raises CheckpointError when the save before this one could not be written.
        """
        started = time.perf_counter()
        self.wait()
        content = content_of(model, optimizer)
        in_background = self.background and fits(size_of(content))
        copied = snapshot(content) if in_background else content
        self._running = self._thread.submit(self._write, step, copied, state, tuple(best))
        if not in_background:
            self.wait()
        self.paused += time.perf_counter() - started

    def wait(self) -> None:
        """Return once what was saved is whole and on the disk. Raises CheckpointError when it could not be written."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def close(self) -> None:
        """After `wait`; or with another error on its way, not held up by writes that need failed ranks."""
        can_end = self._running is None or dist.get_world_size() == 1
        self._thread.shutdown(wait=can_end)
        if can_end:
            dist.destroy_process_group(self._group)

    def _write(self, step: int, content: dict[str, Any], state: dict[str, Any], best: tuple[int, ...]) -> Path:
        written = write(self.folder, step, content, state, self._group)
        if dist.get_rank() == 0:
            prune(self.folder, self.keep, best)
        return written
