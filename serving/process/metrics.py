"""What the workers have counted, added up and told to Prometheus over HTTP by the supervisor."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from swrec_prod.errors import ConfigError
from swrec_prod.serving.process.address import target
from swrec_prod.serving.service.counts import REQUESTS, SECONDS, Family, Layout, Served, total

PREFIX = "scorer_"
Sums = dict[tuple[Family, tuple[str, ...]], list[float]]


class Tally(Collector):
    """Sums over the workers of the current generation and of all before it; and what the supervisor itself knows.

    Prometheus may read from another thread.
    """

    def __init__(self) -> None:
        self._past: Sums = {}
        self._layout: Layout | None = None
        self._slots: Sequence[memoryview[float]] = ()
        self._served: Sequence[Served] = ()
        self.restarts = Counter[str]()  # by cause
        self.workers = 0

    def begin(self, served: Sequence[Served], memory: memoryview, variants: Sequence[tuple[str, str]] = ()) -> None:
        """A generation counts in this memory from now on."""
        self._past = self._sums()
        self._served, self._layout = served, Layout(served, variants)
        self._slots = self._layout.slots(memory)

    def collect(self) -> Iterator[Metric]:
        """All metrics, for prometheus_client."""
        by_family = defaultdict[Family, Sums](dict)
        for (family, labels), numbers in self._sums().items():
            by_family[family][family, labels] = numbers
        for family, sums in by_family.items():
            yield _metric(family, sums)
        yield from self._own()

    def _sums(self) -> Sums:
        sums = dict(self._past)
        for series in self._layout.series if self._layout else ():
            numbers, key = total(self._slots, series), (series.family, series.labels)
            if series.family.kind == "gauge" or key not in sums:
                sums[key] = numbers
            else:
                sums[key] = [a + b for a, b in zip(sums[key], numbers, strict=True)]
        return sums

    def _own(self) -> Iterator[Metric]:
        restarts = CounterMetricFamily(f"{PREFIX}worker_restarts", "Workers that ended unasked.", labels=("cause",))
        for cause, times in self.restarts.items():
            restarts.add_metric((cause,), times)
        yield restarts
        yield GaugeMetricFamily(f"{PREFIX}workers", "Workers that accept calls.", value=self.workers)
        info = GaugeMetricFamily(f"{PREFIX}model_info", "Packages that are served.", labels=("model", "version"))
        for package in self._served:
            info.add_metric((package.model, package.version), 1)
        yield info


@contextlib.contextmanager
def exposed(tally: Tally, host: str, port: int) -> Iterator[int]:
    """Serve the metrics within the block; gives the port, which 0 lets the system choose. Raises ConfigError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(tally)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as failure:
        raise ConfigError(f"cannot serve metrics on {target(host, port)}: {failure.strerror}") from None
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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
