"""Admission: nothing is accepted that cannot be answered in time, and what waits is scored in a fair order.

`schedule.py` decides; this file runs what it decides in a worker's event loop, one forward at a time, of one request or
of those that `batching.py` puts together. A short forward
runs in the loop itself, a longer one in a thread, so that refusals and health checks stay quick beside it. gRPC gives
the loop one call a round: before the next forward those that are on their way are let in, or they would wait where
nobody sees them, past their deadlines.

What `swrec serve` says of it: `--queue-ms` is Bounds.milliseconds, `--default-deadline-ms` is
Admission.default_deadline. Limits of scenarios stand in the routes file (routing/routes.py), quotas of callers in the
callers file (callers_file.py). `--batch-rows` and `--batch-wait-us` are batching.Batching; without them nothing here
looks for what could be scored together.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from swrec_prod.errors import BusyError, ExpiredError
from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.routing.router import Routed
from swrec_prod.serving.scoring.predictor import Scored
from swrec_prod.serving.scoring.together import Asked, score_together
from swrec_prod.serving.service.batching import QUICKEST_PACE as BATCHES_PACE
from swrec_prod.serving.service.batching import Batch, Batching, Member
from swrec_prod.serving.service.callers_file import Caller
from swrec_prod.serving.service.costs import Costs
from swrec_prod.serving.service.schedule import QUICKEST_PACE, Bounds, Job, Refusal, Schedule
from swrec_prod.serving.watching.counts import Counts

INLINE_MS = 5.0  # a shorter forward runs in the loop: on busy cores, a thread for it costs half of the throughput
QUIET_ROUNDS = 3  # of the loop without a new call, after which none is on its way
QUIET_SHARE = 0.1  # and of the next forward's time, as gRPC's thread needs a while to hand a call over
LONGEST_PUT_OFF = 0.025  # seconds that a forward waits for the calls that come; what is refused late is refused in vain
DEFAULT_DEADLINE = 0.25  # seconds
LONGEST_PUSHBACK = 10_000.0  # milliseconds; after a longer wait nobody wants the answer
WORDS = {
    "queue": "too much waits already",
    "deadline": "it could not be answered within its deadline",
    "scenario": "its scenario's share of this server is used up",
    "caller": "the caller's quota is used up",
}


class Waiting:
    """A request in the queue. answer: its scores, or why there are none."""

    __slots__ = ("answer", "call", "routed")

    def __init__(self, call: ScoreCall, routed: Routed) -> None:
        self.call, self.routed = call, routed
        self.answer: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()

    def end(self, outcome: Scored | Exception) -> None:
        """Tell whoever waits, if there is still somebody."""
        if self.answer.done():
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class Admission:
    """One worker's. Only its event loop may call it.

    default_deadline: seconds, of calls that set none. most_rows: candidates of a request. batching: None for none.
    """

    def __init__(
        self,
        counts: Counts,
        bounds: Bounds | None = None,
        default_deadline: float = DEFAULT_DEADLINE,
        most_rows: int = 1_000,
        batching: Batching | None = None,
    ) -> None:
        self.counts, self.default_deadline, self.most_rows = counts, default_deadline, most_rows
        self.batching = batching
        self.costs = Costs()
        self._batch_costs = Costs(self.costs)
        self.schedule = Schedule(bounds or Bounds(), quickest=BATCHES_PACE if batching else QUICKEST_PACE)
        self._at_once_below = 0.0 if batching and batching.wait else INLINE_MS
        self._waiting: dict[Job, Waiting] = {}
        self._thread = ThreadPoolExecutor(1, "forward")
        self._come = 0
        self._is_active = False
        self._turns: asyncio.Future[None] | None = None

    async def scored(
        self, call: ScoreCall, routed: Routed, remaining: float | None, caller: Caller | None = None
    ) -> Scored:
        """The scores of a call, in its turn.

        remaining: seconds to its deadline; None or more than a day where it has none. caller: whose quota it counts
        for. Raises BusyError, at once where the call could not be answered in time; ExpiredError without scoring it
        when the deadline passes in the queue; what Predictor.score raises. Cancelled while it waits, it is never
        scored.
        """
        self._come += 1
        now = time.monotonic()
        cost = self.costs.milliseconds(routed.predictor, self._rows(call))
        job = self._admit(now, cost, self._deadline(now, remaining), routed, caller)
        if not self._is_active and cost < self._at_once_below:
            return self._at_once(call, routed)
        waiting = self._waiting[job] = Waiting(call, routed)
        self._activate()
        try:
            return await waiting.answer
        finally:
            self.schedule.drop(job)
            self._waiting.pop(job, None)

    def _rows(self, call: ScoreCall) -> int:
        """A request of more than that will be refused as it is encoded, which costs nothing."""
        return min(call.rows, self.most_rows)

    def _deadline(self, now: float, remaining: float | None) -> float:
        """Of a call. Raises ExpiredError when it has passed."""
        if remaining is None or remaining > 86_400:
            remaining = self.default_deadline
        if remaining <= 0:
            self.counts.rejected("expired")
            raise ExpiredError("the deadline had passed when the request came")
        return now + remaining

    def _admit(self, now: float, cost: float, deadline: float, routed: Routed, caller: Caller | None) -> Job:
        try:
            if caller is not None:
                caller.quota.check(now, cost)
            job = self.schedule.enter(now, cost, deadline, routed.share)
        except Refusal as refusal:
            raise self._busy(refusal) from None
        if caller is not None:
            caller.quota.charge(cost)
        self.counts.queue(self.schedule.waiting)
        return job

    def _busy(self, refusal: Refusal) -> BusyError:
        self.counts.rejected(refusal.reason)
        pushback = int(refusal.pushback) + 1 if 0 <= refusal.pushback <= LONGEST_PUSHBACK else -1
        again = f"ask again in {pushback} ms" if pushback >= 0 else "do not ask again"
        return BusyError(f"not scored: {WORDS[refusal.reason]}; {again}", pushback)

    def _at_once(self, call: ScoreCall, routed: Routed) -> Scored:
        """Nothing waits and nothing is scored: the job that has just entered is the next."""
        begin = time.monotonic()
        job, _ = self.schedule.take(begin)
        if job is None:
            raise self._too_late(0.0)
        self._activate()  # those that come while it is scored are let in before the next one
        return self._now(job, call, routed, begin)

    def _activate(self) -> None:
        if not self._is_active:
            self._is_active = True
            self._turns = asyncio.ensure_future(self._take_turns())

    async def _take_turns(self) -> None:
        """Score what waits, until nothing does."""
        was_free = False  # the loop, beside a forward in the thread: what came is in already
        while True:
            if not was_free:
                await self._let_in()
            if self.batching is not None and self.batching.wait:
                await self._gather(self.batching)
            job, late = self.schedule.take(time.monotonic())
            for one in late:
                self._waiting[one].end(self._too_late(time.monotonic() - one.deadline))
            if job is None:
                break
            was_free = await (self._forward(job) if self.batching is None else self._forward_batch(job, self.batching))
        self._is_active = False

    async def _let_in(self) -> None:
        """Until no call has come for a while."""
        quiet, last = 0, time.monotonic()
        pause, end = QUIET_SHARE * self.schedule.next_cost / 1e3, last + LONGEST_PUT_OFF
        while (now := time.monotonic()) < end and (quiet < QUIET_ROUNDS or now - last < pause):
            before = self._come
            await asyncio.sleep(0)
            if self._come != before:
                quiet, last = 0, time.monotonic()
            else:
                quiet += 1
                os.sched_yield()  # to gRPC's thread, which hands calls over

    async def _gather(self, batching: Batching) -> None:
        """Until a batch may be full, or one that waits has waited for others as long as it may."""
        come, until = -1, 0.0
        while True:
            if come != self._come:
                come, members = self._come, list(self._members())
                until = min((batching.until(member.job) for member in members), default=0.0)
                if sum(member.rows for member in members) >= batching.rows:
                    return
            if time.monotonic() >= until:
                return
            await asyncio.sleep(0)
            os.sched_yield()

    def _members(self) -> Iterator[Member]:
        """What waits, in the order in which it came, and has not been given up."""
        for job, waiting in self._waiting.items():
            if job.is_waiting and not waiting.answer.done():
                yield Member(job, waiting.routed, self._rows(waiting.call))

    async def _forward(self, job: Job) -> bool:
        """Score a job; whether the loop was free meanwhile."""
        waiting, begin = self._waiting[job], time.monotonic()
        try:
            if job.cost < INLINE_MS:
                waiting.end(self._now(job, waiting.call, waiting.routed, begin))
            else:
                waiting.end(await self._aside(job, waiting.call, waiting.routed, begin))
        except Exception as failure:
            waiting.end(failure)
        return job.cost >= INLINE_MS

    async def _forward_batch(self, job: Job, batching: Batching) -> bool:
        """Score a job and those that go with it; whether the loop was free meanwhile."""
        taken, begin = self._waiting[job], time.monotonic()
        first = Member(job, taken.routed, self._rows(taken.call))
        batch = Batch.of(first, self._members(), batching, self._batch_costs, begin)
        if not batch.others:
            return await self._forward(job)
        self.schedule.join(batch.others, batch.cost)
        waiting = [self._waiting[member.job] for member in batch.members]
        self.counts.scoring(first.routed)
        outcomes: Sequence[Scored | Exception]
        try:
            outcomes = await self._together(batch, waiting)
        except Exception as failure:  # of no one's own: nothing that waits may be left without an answer
            outcomes = [failure] * len(waiting)
        finally:
            self._over_together(batch, begin)
        for one, outcome in zip(waiting, outcomes, strict=True):
            one.end(outcome)
        return batch.cost >= INLINE_MS

    async def _together(self, batch: Batch, waiting: Sequence[Waiting]) -> list[Scored | Exception]:
        """The outcome of each, of one forward in the loop or in the thread."""
        asked = [Asked(one.call, one.routed.strength) for one in waiting]
        routed = waiting[0].routed
        if batch.cost < INLINE_MS:
            return score_together(routed.predictor, asked, routed.scenario)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, score_together, routed.predictor, asked, routed.scenario)

    def _over_together(self, batch: Batch, begin: float) -> None:
        now, first = time.monotonic(), batch.members[0]
        self.schedule.done(first.job, now, others=batch.others)
        batch.learn(1e3 * (now - begin))
        for member in batch.members:
            self.counts.waited(begin - member.job.entered)
        self.counts.forward(first.routed, now - begin)
        self.counts.batch(first.routed, len(batch.members), batch.rows)
        self.counts.queue(self.schedule.waiting)

    def _now(self, job: Job, call: ScoreCall, routed: Routed, begin: float) -> Scored:
        """Score in the loop."""
        scored = None
        self.counts.scoring(routed)
        try:
            scored = _score(call, routed)
            return scored
        finally:
            self._over(job, call, routed, begin, scored)

    async def _aside(self, job: Job, call: ScoreCall, routed: Routed, begin: float) -> Scored:
        """Score in the thread."""
        scored = None
        self.counts.scoring(routed)
        try:
            scored = await asyncio.get_running_loop().run_in_executor(self._thread, _score, call, routed)
            return scored
        finally:
            self._over(job, call, routed, begin, scored)

    def _over(self, job: Job, call: ScoreCall, routed: Routed, begin: float, scored: Scored | None) -> None:
        """One that failed says nothing about what scoring costs."""
        now = time.monotonic()
        self.schedule.done(job, now, tells=scored is not None)
        if scored is not None:
            self.costs.learn(routed.predictor, self._rows(call), 1e3 * (now - begin))
        self.counts.waited(begin - job.entered)
        self.counts.forward(routed, now - begin)
        self.counts.queue(self.schedule.waiting)

    def _too_late(self, seconds: float) -> BusyError | ExpiredError:
        """Why a job is not scored whose deadline passed so many seconds ago, or if negative, is too near."""
        if seconds <= 0:
            return self._busy(Refusal("deadline", self.schedule.waiting * self.schedule.pace))
        self.counts.rejected("expired")
        return ExpiredError("the deadline passed while the request waited")


def _score(call: ScoreCall, routed: Routed) -> Scored:
    return routed.predictor.score(call, routed.scenario, routed.strength)
