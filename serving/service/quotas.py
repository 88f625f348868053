"""How much a caller may ask for: token buckets over a clock that the caller of this module brings."""

from __future__ import annotations

from swrec_prod.serving.service.schedule import Refusal

BURST = 1.0  # seconds; who was silent that long may ask for as much at once


class Bucket:
    """Holds `per_second * BURST` at most, and fills by `per_second`. A charge larger than that needs a full one."""

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self._most = self._level = per_second * BURST
        self._at = 0.0

    def wait(self, now: float, amount: float) -> float:
        """Seconds until there is enough for this amount; 0 where there is."""
        self._level = min(self._most, self._level + max(0.0, now - self._at) * self._rate)
        self._at = now
        return max(0.0, min(amount, self._most) - self._level) / self._rate

    def charge(self, amount: float) -> None:
        """May leave less than nothing, which has to fill up first."""
        self._level -= amount


class Quota:
    """Requests and estimated milliseconds per second; None for any number."""

    def __init__(self, requests_per_second: float | None, milliseconds_per_second: float | None) -> None:
        self._requests = Bucket(requests_per_second) if requests_per_second else None
        self._milliseconds = Bucket(milliseconds_per_second) if milliseconds_per_second else None

    def check(self, now: float, cost: float) -> None:
        """Raises Refusal where a request of so many milliseconds is too much."""
        wait = self._requests.wait(now, 1.0) if self._requests else 0.0
        if self._milliseconds:
            wait = max(wait, self._milliseconds.wait(now, cost))
        if wait > 0:
            raise Refusal("caller", 1e3 * wait)

    def charge(self, cost: float) -> None:
        """Count a request that was admitted."""
        if self._requests:
            self._requests.charge(1.0)
        if self._milliseconds:
            self._milliseconds.charge(cost)
