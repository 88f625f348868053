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
        self._all, self._recent = np.zeros((2, len(training), 2), np.int64)  # ids, and those that are 0
        self._looked, self._lock = clock(), threading.Lock()

    def add(self, columns: Mapping[str, Column]) -> None:
        """Count the encoded columns of a request, the user's with one row; once a minute, look at what came since."""
        counts = [_counts(columns[name]) if name in columns else (0, 0) for name in self.training]
        with self._lock:
            if counts:
                self._recent += counts
            if self._clock() - self._looked >= SECONDS:
                self._looked = self._clock()
                self._look()

    def shares(self) -> dict[str, float]:
        """By feature, the share of 0 in all requests so far; features without any are left out."""
        with self._lock:
            counts = self._all + self._recent
        return {name: zeros / ids for name, (ids, zeros) in zip(self.training, counts.tolist(), strict=True) if ids}

    def _look(self) -> None:
        """Tell what is much above training; what has too few ids is counted on."""
        ids, zeros = self._recent.T
        enough = ids >= FEWEST
        share = zeros / np.maximum(ids, 1)
        usual = np.array(list(self.training.values()))
        told = enough & (share > FACTOR * usual + MORE)
        named = zip(self.training, share, usual, told, strict=True)
        if many := [f"{name} {now:.0%} (training {then:.1%})" for name, now, then, is_told in named if is_told]:
            _log.warning("%s: values of requests are unknown: %s", self.package, ", ".join(many))
        self._all[enough] += self._recent[enough]
        self._recent[enough] = 0


def _counts(column: Column) -> tuple[int, int]:
    """How many ids there are, and how many are 0."""
    ids = column.values if isinstance(column, Ragged) else column
    return len(ids), len(ids) - int(np.count_nonzero(ids))
