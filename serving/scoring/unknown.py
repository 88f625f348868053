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
        self._all, self._recent = ({name: [0, 0] for name in training} for _ in range(2))  # ids, and those not 0
        self._elsewhere = 0
        self._looked, self._lock = clock(), threading.Lock()

    def add(self, columns: Mapping[str, Column], elsewhere: int = 0) -> None:
        """Count the encoded columns of a request, the user's with one row; once a minute, look at what came since.

        elsewhere: how many of its behaviours were in scenarios that the schema does not list.
        """
        with self._lock:
            for name, counts in self._recent.items():
                column = columns.get(name)
                if column is not None:
                    ids = column.values if isinstance(column, Ragged) else column
                    counts[0] += len(ids)
                    counts[1] += int(np.count_nonzero(ids))
            self._elsewhere += elsewhere
            if self._clock() - self._looked >= SECONDS:
                self._looked = self._clock()
                self._look()

    def counts(self) -> dict[str, tuple[int, int]]:
        """By feature, the ids of all requests so far, and how many of them were 0."""
        with self._lock:
            sums = {name: np.add(self._all[name], self._recent[name]).tolist() for name in self.training}
        return {name: (ids, ids - known) for name, (ids, known) in sums.items()}

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
        for name, (ids, known) in self._recent.items():
            if ids < FEWEST:
                continue
            if (share := 1 - known / ids) > FACTOR * self.training[name] + MORE:
                many.append(f"{name} {share:.0%} (training {self.training[name]:.1%})")
            self._all[name][0] += ids
            self._all[name][1] += known
            self._recent[name] = [0, 0]
        if many:
            _log.warning("%s: values of requests are unknown: %s", self.package, ", ".join(many))
