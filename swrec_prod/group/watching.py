"""Signs of life between ranks: one that is stopped, or whose host is gone, is named within a settable time.

A collective that waits for it would say so after half an hour, and of the wrong rank.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from swrec_prod.group.leaving import AGAIN, ENDED

if TYPE_CHECKING:
    from torch.distributed import Store

OF_TIMEOUT = 20  # beats within the time after which a rank is named


class Silence:
    """Which of some ranks have not changed their sign of life for `seconds`. clock: seconds.

    >>> silence = Silence(10.0, iter([0.0, 8.0, 16.0, 24.0]).__next__)
    >>> [silence.of({1: beat}) for beat in ("a", "b", "b", "b")]
    [[], [], [], [1]]
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self._seen: dict[int, tuple[str | None, float]] = {}

    def of(self, beats: dict[int, str]) -> list[int]:
        """The silent ranks. beats: what each says now; who has said nothing yet is not waited for."""
        now = self._clock()
        for rank, beat in beats.items():
            if self._seen.get(rank, (None, now))[0] != beat:
                self._seen[rank] = beat, now
        return [rank for rank, (_, since) in self._seen.items() if now - since > self.seconds]

    def forgive(self) -> None:
        """Count anew: this process itself was stopped."""
        now = self._clock()
        self._seen = {rank: (beat, now) for rank, (beat, _) in self._seen.items()}


@contextmanager
def watched(store: Store, rank: int, world_size: int, seconds: float) -> Iterator[None]:
    """Give signs of life while the block runs, and end this process when a rank gives none for `seconds`.

    Rank 0 looks at all others, rank 1 at rank 0. store: a connection of its own, since others wait on theirs.
    """
    over = threading.Event()
    watch = _Watch(store, rank, [*range(1, world_size)] if rank == 0 else [0] if rank == 1 else [], seconds)
    thread = threading.Thread(target=watch.run, args=(over,), name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(watch.every)


class _Watch:
    def __init__(self, store: Store, rank: int, others: list[int], seconds: float) -> None:
        self._store, self._rank, self._others = store, rank, others
        self._silence = Silence(seconds)
        self.every = seconds / OF_TIMEOUT
        self._agent = os.getppid()
        self._beats = 0

    def run(self, over: threading.Event) -> None:
        """Beat and look until the block is over."""
        last = time.monotonic()
        while not over.wait(self.every):
            now = time.monotonic()
            if now - last > self._silence.seconds / 2:
                self._silence.forgive()
            last = now
            if os.getppid() != self._agent:  # torchrun is gone, and nobody would restart these ranks: save and leave
                os.kill(os.getpid(), signal.SIGTERM)
                return
            try:
                silent = self._look()
            except Exception:  # the agent that has the store ends, and this process with it
                continue
            if silent and not over.is_set():
                self._end(silent)

    def _look(self) -> list[int]:
        self._beats += 1
        self._store.set(f"beat/{self._rank}", f"{self._beats} {platform.node()} process {os.getpid()}")
        known = [other for other in self._others if self._store.check([f"beat/{other}"])]
        return self._silence.of({other: self._store.get(f"beat/{other}").decode() for other in known})

    def _end(self, silent: list[int]) -> None:
        names = ", ".join(
            f"rank {other} ({self._store.get(f'beat/{other}').decode().partition(' ')[2]})" for other in silent
        )
        limit = f"for {self._silence.seconds:g} s (train.hang_minutes)"
        print(f"StoppedError: no sign of life of {names} {limit}; {AGAIN}", file=sys.stderr, flush=True)
        os._exit(ENDED)
