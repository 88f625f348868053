"""Between two steps: whether the ranks leave, or have diverged. They agree about once a second, by a small exchange."""

from __future__ import annotations

import math
import time
from typing import NoReturn

import torch
import torch.distributed as dist

from swrec_prod.errors import DivergedError, StoppedError
from swrec_prod.group.leaving import GOES_ON, Leaving
from swrec_prod.train.loop import Fit, FitState
from swrec_prod.train.saving import Saving

AGREE_S = 1.0
AGREE_STEPS = 50  # at most, so that a divergence is noticed within 100 steps
EXPLODED, TIMES = 20.0, 10.0  # a loss is too large above both: nats, and times the least that was read


class Steering:
    """Called by all ranks after every step. Nothing is saved whose last loss has diverged."""

    def __init__(self, fit: Fit, leaving: Leaving, saving: Saving) -> None:
        self._fit, self._ranks, self._leaving, self._saving = fit, fit.ranks, leaving, saving
        self._next, self._asked_at = 0, time.monotonic()
        self._least = math.inf
        self._bad = 0.0  # this rank's loss where it has diverged

    def read(self, loss: float) -> None:
        """A loss of this rank; NaN where it was not read (a loss that is NaN itself comes as infinity)."""
        if loss > max(EXPLODED, TIMES * self._least):
            self._bad = loss
        elif not math.isnan(loss):
            self._least = min(self._least, loss)

    def between(self, state: FitState, rows: int) -> None:
        """After a step without validation. Raises StoppedError, once what was done is saved, and DivergedError."""
        due = self._saving.due(state, rows)
        if not due and state.step < self._next:
            return
        stop = self.leaves(state)
        if due or stop:
            self._saving.now(state)
        if stop:
            self.leave(state)

    def leaves(self, state: FitState) -> bool:
        """Whether any rank was told to leave. Raises DivergedError where any has diverged."""
        self.read(self._fit.read_loss())
        now, steps = time.monotonic(), max(1, state.step - self._next + 1)
        pace = min(AGREE_STEPS, max(1, int(AGREE_S * steps / max(now - self._asked_at, 1e-9))))
        stop, bad, wait = self._of_all(float(self._leaving.asked is not None), self._bad, -float(pace))
        self._next, self._asked_at = state.step - int(wait), now
        if bad:
            raise DivergedError(f"training diverged before step {state.step}: loss {bad:g}")
        return bool(stop)

    def leave(self, state: FitState) -> NoReturn:
        """Raises StoppedError, once what was saved is whole."""
        self._saving.wait()
        saved = f"saved at step {state.step}, {state.rows:,} rows trained"
        raise StoppedError(f"{self._leaving.asked or 'another rank was told to leave'}: {saved}; {GOES_ON}")

    def _of_all(self, *values: float) -> list[float]:
        """The largest of all ranks, each."""
        if self._ranks.world_size == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float32, device=self._ranks.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return [float(value) for value in told]
