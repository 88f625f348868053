"""What a worker does every second beside its calls: give a sign of life, and count what its encoders did not know and
what became of the logs.

A forward that hangs in its thread leaves the event loop free, which could go on to say that all is well. So there is no
sign of life while one forward lasts from beat to beat; a generation kills whoever is silent for too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from swrec_prod.exposures.log import Log
from swrec_prod.serving.process.link import Link
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.scoring.predictor import Predictor
from swrec_prod.serving.watching.access_log import AccessLog
from swrec_prod.serving.watching.counts import Counts

SECONDS = 1.0
State = dict[str, tuple[int, int]]


class Pulse:
    """Encoders count in the worker's own memory; here their counts are added to those that the supervisor reads."""

    def __init__(
        self,
        router: Router,
        link: Link,
        counts: Counts,
        exposures: Log | None = None,
        access: AccessLog | None = None,
    ) -> None:
        self._predictors, self._link, self._counts = list(_predictors(router)), link, counts
        self._exposures, self._told_exposures = exposures, (0, 0)
        self._access, self._told_access = access, 0
        self._told = [_state(predictor) for predictor in self._predictors]
        self._running = 0

    async def beat(self) -> None:
        """For ever."""
        while True:
            if self.moves():
                self._link.send("alive")
            self.tell()
            await asyncio.sleep(SECONDS)

    def moves(self) -> bool:
        """Whether nothing is scored, or another request than the last time."""
        before, self._running = self._running, self._counts.running
        return self._running == 0 or self._running != before

    def tell(self) -> None:
        """Count what is new since the last time."""
        for i, predictor in enumerate(self._predictors):
            before, now = self._told[i], _state(predictor)
            new = {name: (ids - before[name][0], zeros - before[name][1]) for name, (ids, zeros) in now.items()}
            self._counts.encoded((predictor.name, predictor.version), new)
            self._told[i] = now
        if (log := self._exposures) is not None:
            (logged, dropped), self._told_exposures = self._told_exposures, (log.logged, log.dropped)
            self._counts.exposures(log.logged - logged, log.dropped - dropped, log.queued)
        if self._access is not None:
            told, self._told_access = self._told_access, self._access.dropped
            self._counts.access_dropped(self._told_access - told)


def _predictors(router: Router) -> Iterator[Predictor]:
    for versions in router.predictors.values():
        yield from versions.values()


def _state(predictor: Predictor) -> State:
    """(ids, those that are unknown) by feature; under no name, behaviours elsewhere."""
    unknown = predictor.encoder.unknown
    return {**unknown.counts(), "": (unknown.elsewhere, 0)}
