"""When a checkpoint is due between two validations: by steps, by the clock, and when days are over."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from swrec_prod.checkpoint_config import CheckpointConfig
from swrec_prod.data.reader import Reader
from swrec_prod.train.distributed import Ranks
from swrec_prod.train.loop import FitState

LOOK_EVERY = 20  # steps between two looks at the clock
OF_A_DAY = 0.1  # of `minutes`, that must be over since the last save for a day's end to be one


class Due:
    """Asked after every step, by all ranks alike. clock: seconds; the main rank's is the one that counts."""

    def __init__(
        self, config: CheckpointConfig, reader: Reader, ranks: Ranks, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config, self._reader, self._ranks, self._clock = config, reader, ranks, clock
        self._saved = clock()
        self._epoch = -1
        self._ends: list[int] = []

    def now(self, state: FitState, rows: int) -> bool:
        """Whether to save after the step that `state` is at. rows: of that step."""
        if self._config.steps and state.step % self._config.steps == 0:
            return self._reset()
        day_over = self._config.days and self._day_over(state, rows)
        clock_asked = bool(self._config.minutes) and state.step % LOOK_EVERY == 0
        if not (day_over or clock_asked):
            return False
        least = 60 * self._config.minutes * (OF_A_DAY if day_over else 1.0)
        return self._agreed(self._clock() - self._saved >= least) and self._reset()

    def saved(self) -> None:
        """A checkpoint has been saved for another reason."""
        self._reset()

    def _reset(self) -> bool:
        self._saved = self._clock()
        return True

    def _day_over(self, state: FitState, rows: int) -> bool:
        if state.epoch != self._epoch:
            self._epoch, self._ends = state.epoch, self._reader.day_ends(state.epoch)
        before, after = state.epoch_rows - rows, state.epoch_rows
        return bisect.bisect_right(self._ends, after) > bisect.bisect_right(self._ends, before)

    def _agreed(self, due: bool) -> bool:
        """What the main rank says."""
        if self._ranks.world_size == 1:
            return due
        word = torch.tensor([due], dtype=torch.uint8, device=self._ranks.device)
        dist.broadcast(word, 0)
        return bool(word.item())
