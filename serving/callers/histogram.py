"""How long many calls took, in little memory: counts of buckets whose width grows with the value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

SMALLEST = 1e-5  # seconds: anything quicker counts as this
WIDTH = 1.01  # an upper edge of a bucket over the lower one: a quantile is right to half a percent
BUCKETS = 1 + math.ceil(math.log(1e8) / math.log(WIDTH))  # up to 1,000 s
_SCALE = 1 / math.log(WIDTH)


class Histogram:
    """Durations in seconds. Quantiles are right to half a percent, the largest duration is exact."""

    def __init__(self) -> None:
        self.counts = np.zeros(BUCKETS, np.int64)
        self.largest = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        at = int(math.log(seconds / SMALLEST) * _SCALE) if seconds > SMALLEST else 0
        self.counts[min(at, BUCKETS - 1)] += 1
        self.largest = max(self.largest, seconds)

    def merge(self, other: Histogram) -> None:
        """Count those of another one too."""
        self.counts += other.counts
        self.largest = max(self.largest, other.largest)

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return int(self.counts.sum())

    def quantile(self, q: float) -> float:
        """The smallest duration, seconds, that is not exceeded by a share q of them; NaN without any."""
        total = self.count
        if not total:
            return math.nan
        at = int(np.searchsorted(np.cumsum(self.counts), max(1, math.ceil(q * total))))
        return min(SMALLEST * WIDTH ** (at + 0.5), self.largest)

    def summary(self, quantiles: Iterable[float] = (0.5, 0.9, 0.99, 0.999)) -> dict[str, Any]:
        """Milliseconds by name: p50_ms, p90_ms, p99_ms, p99.9_ms, max_ms."""
        named = {f"p{100 * q:g}_ms": 1e3 * self.quantile(q) for q in quantiles}
        return {**named, "max_ms": 1e3 * self.largest if self.count else math.nan}
