"""How many ids of requests are 0, for values that no vocabulary knows or that are missing; told when many more are than
in training.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from swrec_prod.encoding.pack import Column, Ragged

SECONDS = 60.0  # between two looks
FEWEST = 100  # ids from which on a share says something
FACTOR, MORE = 2.0, 0.05  # a share is told above so many times that of training and so much more

_log = logging.getLogger(__name__)


class UnknownIds:
    """Counts for one package. training: by feature with a vocabulary, the share of 0 in training (export.package).

    Threads may share it. package: its name. clock: seconds.
    """

    def __init__(
        self, package: str, training: Mapping[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.package, self.training, self._clock = package, dict(training), clock
        self._all, self._recent = {name: (0, 0) for name in training}, {name: (0, 0) for name in training}
        self._elsewhere = 0
        self._looked, self._lock = clock(), threading.Lock()

    def add(self, columns: Mapping[str, Column], elsewhere: int = 0) -> None:
        """Count the encoded columns of a request, the user's with one row; once a minute, look at what came since.

        elsewhere: how many of its behaviours were in scenarios that the schema does not list.
        """
        counts = [(name, *_counts(columns[name])) for name in self.training if name in columns]
        with self._lock:
            for name, ids, zeros in counts:
                before = self._recent[name]
                self._recent[name] = (before[0] + ids, before[1] + zeros)
            self._elsewhere += elsewhere
            if self._clock() - self._looked >= SECONDS:
                self._looked = self._clock()
                self._look()

    def counts(self) -> dict[str, tuple[int, int]]:
        """By feature, the ids of all requests so far, and how many of them were 0."""
        with self._lock:
            return {name: _sum(self._all[name], self._recent[name]) for name in self.training}

    def shares(self) -> dict[str, float]:
        """By feature, the share of 0 in all requests so far; features without any are left out."""
        return {name: zeros / ids for name, (ids, zeros) in self.counts().items() if ids}

    @property
    def elsewhere(self) -> int:
        """Behaviours of all requests so far in scenarios that the schema does not list."""
        return self._elsewhere

    def _look(self) -> None:
        """Tell what is much above training; what has too few ids is counted on."""
        many = []
        for name, (ids, zeros) in self._recent.items():
            if ids < FEWEST:
                continue
            if (share := zeros / ids) > FACTOR * self.training[name] + MORE:
                many.append(f"{name} {share:.0%} (training {self.training[name]:.1%})")
            self._all[name] = _sum(self._all[name], self._recent[name])
            self._recent[name] = (0, 0)
        if many:
            _log.warning("%s: values of requests are unknown: %s", self.package, ", ".join(many))


def _counts(column: Column) -> tuple[int, int]:
    """How many ids there are, and how many are 0."""
    ids = column.values if isinstance(column, Ragged) else column
    return len(ids), len(ids) - int(np.count_nonzero(ids))


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
