"""Changes of what is served, each from the wish for it to its outcome, one after the other."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from swrec_prod.serving.watching.metrics import Reloads

_log = logging.getLogger(__name__)


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


class Changes:
    """current: the one that is being made; following: the one that was asked for meanwhile.

    reloads: those that have come to an end.
    """

    def __init__(self) -> None:
        self.current: Change | None = None
        self.following: Change | None = None
        self.reloads = Reloads()

    def ask(self, by: str) -> Change:
        """The change that will be made next: whoever asks meanwhile asks for the same."""
        self.following = self.following or Change(by)
        return self.following

    def begin(self) -> None:
        """The following one is the current one."""
        self.current, self.following = self.following, None
        self.reloads.changing = True

    def finish(self, result: str, reason: str, serving: Sequence[str]) -> None:
        """The current one has come to an end, if there is one."""
        change, self.current = self.current, None
        if change is None:
            return
        outcome = change.finish(result, reason, serving)
        self.reloads.add(change.by, result, outcome.stage, reason, outcome.seconds)
        self.reloads.changing = False
        if result == "refused":
            _log.error("change by %s refused at %s: %s; all stays as it is", change.by, outcome.stage, reason)
        else:
            _log.warning("change by %s: %s, after %.2f s", change.by, result, outcome.seconds)
