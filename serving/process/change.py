"""A change of what is served, from the wish for it to its outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Outcome(NamedTuple):
    """result: `changed`, `unchanged` or `refused`. stage: the last one that it came to, which refused it:

    files      which packages, routes, experiments and labels are wanted
    validate   a package's files against their checksums, and its manifest
    load       its programs and tables into memory
    golden     what it says of its golden rows
    warm       scoring until no request waits for a compiler
    rules      routes, experiments and labels against the packages; where those stay, this is the only other stage
    start      the new workers
    swap       the old ones leave

    reason: of a refusal; seconds: since it was asked for; serving: packages NAME/VERSION.
    """

    result: str
    stage: str
    reason: str
    seconds: float
    serving: Sequence[str]


@dataclass
class Change:
    """One that is being made, or waits. by: who asked, of several the first. asked: those who wait for the outcome."""

    by: str
    stage: str = "files"
    began: float = field(default_factory=time.monotonic)
    asked: list[asyncio.Future[Outcome]] = field(default_factory=list)

    def finish(self, result: str, reason: str, serving: Sequence[str]) -> Outcome:
        """Tell all who asked."""
        outcome = Outcome(result, self.stage, reason, time.monotonic() - self.began, serving)
        for future in self.asked:
            if not future.done():
                future.set_result(outcome)
        return outcome
