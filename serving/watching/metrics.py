"""What the workers have counted, added up, as Prometheus wants it."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from swrec_prod.serving.watching.counts import REQUESTS, SECONDS, Family, Layout, Served, total

PREFIX = "scorer_"
LAST = 20  # changes that are told of
Sums = dict[tuple[Family, tuple[str, ...]], list[float]]
Slots = tuple[Layout, Sequence["memoryview[float]"]]


class Reloads:
    """Changes of what is served. done: how many, by result and stage; seconds: that all of them took. last: the newest
    first, with keys at (seconds since 1970), by, result, stage, reason, seconds. changing: whether one is being made.
    """

    def __init__(self) -> None:
        self.done = Counter[tuple[str, str]]()
        self.seconds = 0.0
        self.last = deque[dict[str, Any]](maxlen=LAST)
        self.changing = False

    def add(self, by: str, result: str, stage: str, reason: str, seconds: float) -> None:
        """One has come to an end."""
        self.done[result, stage] += 1
        self.seconds += seconds
        told = {"by": by, "result": result, "stage": stage, "reason": reason, "seconds": seconds}
        self.last.appendleft({"at": time.time(), **told})


class Tally(Collector):
    """Sums over the workers of all generations, those that have ended too; and what the supervisor itself knows.

    served: packages of the current one; held: what it holds, rules too, as process/loading.py has it; wanted: workers
    that there are to be.

    Prometheus may read from another thread.
    """

    def __init__(self, reloads: Reloads | None = None) -> None:
        self.reloads = reloads or Reloads()
        # what was counted by those that have ended, and by number those that count: replaced as one, as another thread
        # reads it
        self._counted: tuple[Sums, dict[int, Slots]] = {}, {}
        self._begun = 0
        self.served: Sequence[Served] = ()
        self.restarts = Counter[str]()  # by cause
        self.held: dict[str, Any] | None = None
        self.workers = self.wanted = 0
        self.started = time.time()

    def begin(self, served: Sequence[Served], memory: memoryview, variants: Sequence[tuple[str, str]] = ()) -> int:
        """A generation counts in this memory from now on. Gives its number."""
        layout = Layout(served, variants)
        self._begun += 1
        past, live = self._counted
        self._counted = past, {**live, self._begun: (layout, layout.slots(memory))}
        return self._begun

    @property
    def living(self) -> list[int]:
        """Numbers of the generations that count."""
        return list(self._counted[1])

    def end(self, number: int) -> None:
        """A generation counts no more: what it has counted is kept."""
        past, live = self._counted
        added = _added(past, {number: live[number]})
        past = {key: numbers for key, numbers in added.items() if key[0].kind != "gauge"}
        self._counted = past, {key: slots for key, slots in live.items() if key != number}

    def collect(self) -> Iterator[Metric]:
        """All metrics, for prometheus_client."""
        by_family = defaultdict[Family, Sums](dict)
        for (family, labels), numbers in _added(*self._counted).items():
            by_family[family][family, labels] = numbers
        for family, sums in by_family.items():
            yield _metric(family, sums)
        yield from self._own()

    def _own(self) -> Iterator[Metric]:
        restarts = CounterMetricFamily(f"{PREFIX}worker_restarts", "Workers that ended unasked.", labels=("cause",))
        for cause, times in self.restarts.items():
            restarts.add_metric((cause,), times)
        yield restarts
        reloads = CounterMetricFamily(f"{PREFIX}reload", "Changes of what is served.", labels=("result", "stage"))
        for labels, times in self.reloads.done.items():
            reloads.add_metric(labels, times)
        yield reloads
        seconds, times = self.reloads.seconds, self.reloads.done.total()
        yield SummaryMetricFamily(
            f"{PREFIX}reload_seconds", "From wish to outcome.", count_value=times, sum_value=seconds
        )
        yield GaugeMetricFamily(f"{PREFIX}workers", "Workers that accept calls.", value=self.workers)
        info = GaugeMetricFamily(f"{PREFIX}model_info", "Packages that are served.", labels=("model", "version"))
        for package in self.served:
            info.add_metric((package.model, package.version), 1)
        yield info


def _added(past: Sums, live: Mapping[int, Slots]) -> Sums:
    """What was counted in the past, and by generations that live."""
    sums = dict(past)
    for layout, slots in live.values():
        for series in layout.series:
            numbers, key = total(slots, series), (series.family, series.labels)
            sums[key] = [a + b for a, b in zip(sums[key], numbers, strict=True)] if key in sums else numbers
    return sums


def _metric(family: Family, sums: Sums) -> Metric:
    """One metric with its series. Of requests, those that have occurred: all scenarios with all codes are many."""
    name = PREFIX + family.name
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(name, family.help, labels=family.labels)
        for (_, labels), numbers in sums.items():
            histogram.add_metric(labels, _buckets(numbers), numbers[-1])
        return histogram
    kind = GaugeMetricFamily if family.kind == "gauge" else CounterMetricFamily
    metric = kind(name, family.help, labels=family.labels)
    for (_, labels), (number,) in sums.items():
        if number or family is not REQUESTS:
            metric.add_metric(labels, number)
    return metric


def _buckets(numbers: Sequence[float]) -> list[tuple[str, float]]:
    """Prometheus' buckets count everything up to their bound."""
    buckets, so_far = [], 0.0
    for bound, number in zip((*map(str, SECONDS), "+Inf"), numbers[:-1], strict=True):
        so_far += number
        buckets.append((bound, so_far))
    return buckets
