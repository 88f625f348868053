"""Which request is scored next, and which is refused: decisions alone, over a clock and costs that the caller brings.

Requests wait in flows: a flow holds those of one class of size (costs within a factor of 4), and a scenario that has
limits has flows of its own. Flows share the time evenly by start-time fair queueing (Goyal, Vin and Cheng, IEEE/ACM
Transactions on Networking 5(5), 1997): a request that enters gets the start tag max(v, finish tag of its flow's last)
and the finish tag start + cost; the smallest start tag is next, of equal ones the smallest finish tag; v is the start
tag of the request that is scored. So a small request whose flow is empty waits for the forward that runs, however many
large ones wait; large ones keep their part of the time beside any number of small ones; and the storm of a scenario
with limits leaves the others theirs.

Costs and waits are milliseconds, moments are seconds of the caller's clock.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from swrec_prod.serving.routing.routes import Share

PACE_WEIGHT = 0.05  # of the newest of the observations of the pace
SLOWEST_PACE, QUICKEST_PACE = 50.0, 0.5
SPARE = 1.5  # how many times as long a wait may become as it is estimated: who comes later may go first


@dataclass(frozen=True)
class Bounds:
    """What may wait at most. milliseconds: estimated work; requests: however small they are."""

    milliseconds: float = 250.0
    requests: int = 2_048


@dataclass(slots=True, eq=False)
class Job:
    """A request that was admitted. deadline: the moment after which nobody waits for its answer."""

    share: Share
    cost: float
    entered: float
    deadline: float
    flow: Flow
    start: float
    finish: float
    is_waiting: bool = True


@dataclass(slots=True, eq=False)
class Flow:
    """Requests of one share and one class of size. last: finish tag of the newest; waiting: milliseconds."""

    last: float = 0.0
    waiting: float = 0.0


@dataclass(slots=True)
class Load:
    """What a share has: requests that wait or are scored, and milliseconds that wait."""

    requests: int = 0
    waiting: float = 0.0


class Refusal(Exception):
    """A request that was not admitted. reason: of counts.REASONS; pushback: milliseconds, -1 for not at all."""

    def __init__(self, reason: str, pushback: float) -> None:
        super().__init__(reason)
        self.reason, self.pushback = reason, pushback


class Taken(NamedTuple):
    """job: the next one, None where none is left. late: those before it that can no longer be answered in time."""

    job: Job | None
    late: list[Job]


@dataclass
class Schedule:
    """The queue of one worker. At most one of its jobs is scored at a time, or several at once.

    pace: how many milliseconds pass for each estimated one while requests wait: the work that no estimate covers, as
    parsing and refusing others, is in it, and what is saved where several are scored at once. quickest: its bound.
    """

    bounds: Bounds = field(default_factory=Bounds)
    pace: float = 1.0
    quickest: float = QUICKEST_PACE
    waiting: float = 0.0
    requests: int = 0

    def __post_init__(self) -> None:
        self._heap: list[tuple[float, float, int, Job]] = []
        self._flows: dict[tuple[str, int], Flow] = {}
        self._loads: dict[str, Load] = {}
        self._numbers: Iterator[int] = itertools.count()
        self._virtual = 0.0
        self._expected = 0.0  # milliseconds of what is scored
        self._begun = self._ended = 0.0

    def enter(self, now: float, cost: float, deadline: float, share: Share) -> Job:
        """Admit a request, or raise Refusal."""
        flow = self._flows.get(key := _flow_of(share, cost)) or Flow(self._virtual)
        wait = self.wait(now, flow)
        self._check(now, cost, deadline, share, wait)
        self._flows[key] = flow
        start = max(self._virtual, flow.last)
        flow.last = start + cost
        job = Job(share, cost, now, deadline, flow, start, flow.last)
        self._loads.setdefault(share.name, Load()).requests += 1
        self._weigh(job, 1)
        heapq.heappush(self._heap, (start, flow.last, next(self._numbers), job))
        return job

    @property
    def next_cost(self) -> float:
        """Milliseconds of the next one, if it is not dropped; 0 without any."""
        return self._heap[0][-1].cost if self._heap else 0.0

    def wait(self, now: float, flow: Flow) -> float:
        """How long a request that enters this flow now is expected to wait."""
        ahead = flow.waiting
        if ahead:
            ahead = sum(min(other.waiting, ahead) for other in self._flows.values())
        return ahead * self.pace + self._rest(now)

    def take(self, now: float) -> Taken:
        """The next job to score, which `done` ends."""
        late: list[Job] = []
        while self._heap:
            job = heapq.heappop(self._heap)[-1]
            if not job.is_waiting:
                continue
            job.is_waiting = False
            self._weigh(job, -1)
            self._virtual = job.start
            if now + job.cost / 1e3 <= job.deadline:
                self._expected, self._begun = job.cost, now
                return Taken(job, late)
            self._leave(job)
            late.append(job)
        self._rest_all()
        return Taken(None, late)

    def join(self, others: Sequence[Job], cost: float) -> None:
        """Score these too, which wait, at once with the job that was taken. cost: milliseconds of all together."""
        for job in others:
            job.is_waiting = False
            self._weigh(job, -1)
        self._expected = cost

    def done(self, job: Job, now: float, tells: bool = True, others: Sequence[Job] = ()) -> None:
        """A job that was taken is over, and those that have joined it. Where it had waited, the time since the one
        before tells the pace.

        tells: whether it did what its cost was estimated for.
        """
        if tells and job.entered < self._ended:
            seen = 1e3 * (now - self._ended) / (job.cost + sum(other.cost for other in others))
            seen = min(max(seen, self.pace / 2), 2 * self.pace)  # one that was held up tells little
            pace = self.pace + PACE_WEIGHT * (seen - self.pace)
            self.pace = min(max(pace, self.quickest), SLOWEST_PACE)
        self._expected, self._ended = 0.0, now
        self._leave(job)
        for other in others:
            self._leave(other)

    def drop(self, job: Job) -> None:
        """Nobody waits for this job any more. One that is being scored goes on."""
        if not job.is_waiting:
            return
        job.is_waiting = False
        self._weigh(job, -1)
        self._leave(job)
        if len(self._heap) > 2 * self.requests + 64:
            self._heap = [entry for entry in self._heap if entry[-1].is_waiting]
            heapq.heapify(self._heap)

    def _check(self, now: float, cost: float, deadline: float, share: Share, wait: float) -> None:
        load, remaining = self._loads.get(share.name, Load()), 1e3 * (deadline - now)
        if cost > remaining:
            raise Refusal("deadline", -1)  # nor would it be another time
        if share.max_concurrent is not None and load.requests >= share.max_concurrent:
            raise Refusal("scenario", load.waiting * self.pace + self._rest(now))
        if share.queue_ms is not None and load.requests and load.waiting + cost > share.queue_ms:
            raise Refusal("scenario", load.waiting * self.pace)
        if self.requests and (self.requests >= self.bounds.requests or self.waiting + cost > self.bounds.milliseconds):
            raise Refusal("queue", self.waiting * self.pace)
        if wait * SPARE + cost > remaining:
            raise Refusal("deadline", wait)

    def _rest(self, now: float) -> float:
        """Of what is scored."""
        return max(0.0, self._expected - 1e3 * (now - self._begun)) if self._expected else 0.0

    def _weigh(self, job: Job, sign: int) -> None:
        self.requests += sign
        for what in (self, job.flow, self._loads[job.share.name]):
            what.waiting = max(0.0, what.waiting + sign * job.cost)

    def _leave(self, job: Job) -> None:
        load = self._loads[job.share.name]
        load.requests -= 1
        if not load.requests:
            del self._loads[job.share.name]

    def _rest_all(self) -> None:
        """None waits: nobody has had more than others."""
        self._flows.clear()
        self._virtual = self.waiting = 0.0


def _flow_of(share: Share, cost: float) -> tuple[str, int]:
    """Scenarios without limits are one flow, in the order of arrival: a busy one is not made to wait for being busy."""
    is_limited = share.max_concurrent is not None or share.queue_ms is not None
    return share.name if is_limited else "", _size(cost)


def _size(cost: float) -> int:
    """The class of size of a cost: a factor of 4 each."""
    return math.frexp(cost)[1] // 2
