"""Which requests that wait are scored by one forward: those of one package and one scenario, whatever their c, as long
as all of them are then answered in time.

A batch saves what a call of the program costs apart from its rows. But it has no user that stands beside all of its
candidates, so what a request alone computes once for its user is computed for every candidate. That pays for many small
requests, and on an accelerator; on a CPU it makes a model that reads long histories slower.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from swrec_prod.serving.routing.router import Routed
from swrec_prod.serving.service.costs import Costs
from swrec_prod.serving.service.schedule import Job

QUICKEST_PACE = 0.02  # many requests together take a small part of the time that each has alone


@dataclass(frozen=True)
class Batching:
    """How large a batch may be. rows: candidates, 0 for no batches; wait: seconds that the first of a batch waits for
    others, but never for more than half of the time to its deadline.
    """

    rows: int = 0
    wait: float = 0.0

    def until(self, job: Job) -> float:
        """The moment to which this one waits for others."""
        return job.entered + min(self.wait, (job.deadline - job.entered) / 2)


class Member(NamedTuple):
    """A request that waits. rows: its candidates."""

    job: Job
    routed: Routed
    rows: int

    def goes_with(self, other: Member) -> bool:
        """Whether one call of a program may score both."""
        return self.routed.predictor is other.routed.predictor and self.routed.scenario == other.routed.scenario


@dataclass
class Batch:
    """Requests that are scored at once. members: the first one was taken; rows: of all; cost: estimated milliseconds.

    costs: of batches, which other forwards tell little about; deadline: the earliest of its members'.
    """

    members: list[Member]
    rows: int
    cost: float
    costs: Costs
    deadline: float

    @classmethod
    def of(cls, first: Member, waiting: Iterable[Member], batching: Batching, costs: Costs, now: float) -> Batch:
        """The first one, and those of `waiting`, in their order, that go with it."""
        batch = cls([first], first.rows, first.job.cost, costs, first.job.deadline)
        for member in waiting:
            if batch.rows >= batching.rows:
                break
            if first.goes_with(member) and batch.rows + member.rows <= batching.rows:
                batch._add(member, now)
        return batch

    @property
    def others(self) -> list[Job]:
        """All but the first one."""
        return [member.job for member in self.members[1:]]

    def learn(self, milliseconds: float) -> None:
        """Scoring it took so long."""
        self.costs.learn(self.members[0].routed.predictor, self.rows, milliseconds)

    def _add(self, member: Member, now: float) -> None:
        """Unless somebody would then be answered too late."""
        rows = self.rows + member.rows
        cost = self.costs.milliseconds(member.routed.predictor, rows)
        deadline = min(self.deadline, member.job.deadline)
        if now + cost / 1e3 <= deadline:
            self.members.append(member)
            self.rows, self.cost, self.deadline = rows, cost, deadline
