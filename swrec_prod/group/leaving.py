"""SIGTERM and SIGHUP: a run that is told to leave saves first, and says that it can go on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from swrec_prod.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
GOES_ON = "run the same command again, it goes on from there"
AGAIN = "run the same command again, it goes on from the last checkpoint"
ENDED = 75  # exit code: cli.GOES_ON


class Leaving:
    """What told this process to leave. asked: in words, None while nothing did. saves: whether somebody looks at
    `asked` and saves; else a signal raises StoppedError where the process is.
    """

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.asked: str | None = None
        self.saves = False

    def ask(self, why: str) -> None:
        """Leave within the grace period, whatever happens."""
        if self.asked is None:
            self.asked = why
            timer = threading.Timer(self.grace_s, self._end)
            timer.daemon = True
            timer.start()

    def on_signal(self, number: int, _: FrameType | None) -> None:
        """The signals' handler."""
        self.ask(signal.Signals(number).name)
        if not self.saves:
            raise StoppedError(f"{self.asked}: left; {AGAIN}")

    def _end(self) -> None:
        """The process did not come to save, for instance because another rank is gone."""
        reason = f"{self.asked}: could not save within {self.grace_s:g} s (train.grace_seconds)"
        print(f"StoppedError: {reason}; {AGAIN}", file=sys.stderr, flush=True)
        os._exit(ENDED)


@contextmanager
def listening(grace_s: float) -> Iterator[Leaving]:
    """Listen to the signals; only a process's main thread can, others get a Leaving that no signal reaches."""
    leaving = Leaving(grace_s)
    if threading.current_thread() is not threading.main_thread():
        yield leaving
        return
    before = {number: signal.signal(number, leaving.on_signal) for number in SIGNALS}
    try:
        yield leaving
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
