"""What the server counts, in memory that its processes share.

Every worker has a slot: an array of float64 in shared memory, which it alone writes, with plain additions and without a
lock. The supervisor reads all slots and adds them up. What can be counted is known once the packages are loaded, so a
count is an index of the array. A worker that takes a dead one's place goes on in its slot: counters never fall.

This module needs nothing but the standard library, so that the supervisor can read what workers write.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from swrec_prod.serving.routing.router import Routed, Router

CODES = (
    "OK",
    "CANCELLED",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "UNIMPLEMENTED",
    "INTERNAL",
)
# Why admission refused a call: the queue is full, its deadline cannot be met, its deadline has passed while it waited,
# its scenario's or its caller's share is used up, the server is about to end.
REASONS = ("queue", "deadline", "expired", "scenario", "caller", "draining", "other")
SECONDS = (0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
FLOAT64 = 8  # bytes


class Family(NamedTuple):
    """A metric: its name without the prefix, counter, gauge or histogram, what it says, and its labels."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Numbers of one series. A histogram has its buckets, the one above them, and the sum."""
        return len(SECONDS) + 2 if self.kind == "histogram" else 1


PACKAGE = ("model", "version")
REQUESTS = Family("requests", "counter", "Requests answered, by gRPC code.", ("scenario", *PACKAGE, "code"))
FALLBACKS = Family("fallbacks", "counter", "Requests scored as another scenario than their own.", PACKAGE)
CANDIDATES = Family("candidates", "counter", "Candidates scored.", PACKAGE)
REQUEST_SECONDS = Family("request_seconds", "histogram", "From a request's bytes to its answer's.", PACKAGE)
QUEUE_SECONDS = Family("queue_seconds", "histogram", "Time that an admitted request waited for its turn.")
FAILED_SECONDS = Family("failed_seconds", "histogram", "The same, of requests that were not answered OK.", PACKAGE)
FORWARD_SECONDS = Family("forward_seconds", "histogram", "Time of encoding and scoring.", PACKAGE)
BATCHES = Family("batches", "counter", "Forwards of several requests at once.", PACKAGE)
BATCH_REQUESTS = Family("batch_requests", "counter", "Requests that these have scored.", PACKAGE)
BATCH_ROWS = Family("batch_rows", "counter", "Candidates that these have scored.", PACKAGE)
REJECTED = Family("rejected", "counter", "Requests refused at admission.", ("reason",))
INFLIGHT = Family("inflight", "gauge", "Requests begun and not yet answered.")
QUEUE_MS = Family("queue_milliseconds", "gauge", "Estimated work of the requests that wait.")
IDS = Family("ids", "counter", "Ids looked up in vocabularies.", (*PACKAGE, "feature"))
UNKNOWN_IDS = Family("oov_ids", "counter", "Ids of values that no vocabulary knows, or that are missing.", IDS.labels)
EXPOSURES_LOGGED = Family("exposures_logged", "counter", "Answers in the write-ahead log of exposures.")
EXPOSURES_DROPPED = Family("exposures_dropped", "counter", "Answers not logged: the buffer or the disk was full.")
EXPOSURE_QUEUE = Family("exposure_queue", "gauge", "Answers that wait to be logged.")
ACCESS_DROPPED = Family("access_dropped", "counter", "Requests missing in the access log: no room for them.")
ELSEWHERE = Family("behaviours_elsewhere", "counter", "Behaviours in scenarios that the schema does not list.", PACKAGE)
VARIANTS = Family("assignments", "counter", "Answers by the variant that they got.", ("experiment", "variant"))
NO_UNIT = Family("missing_units", "counter", "Answers to requests without a unit, which were in no experiment.")
PACKAGE_FAMILIES = (
    FALLBACKS,
    CANDIDATES,
    ELSEWHERE,
    REQUEST_SECONDS,
    FAILED_SECONDS,
    FORWARD_SECONDS,
    BATCHES,
    BATCH_REQUESTS,
    BATCH_ROWS,
)


class Served(NamedTuple):
    """A package as its counts need it. scenarios: names in the order of their indices; features: with a vocabulary."""

    model: str
    version: str
    scenarios: Sequence[str]
    features: Sequence[str] = ()


class Series(NamedTuple):
    """The numbers of a metric for one combination of labels. at: the index of the first one."""

    family: Family
    labels: tuple[str, ...]
    at: int


class Layout:
    """Where in a slot every series lies. The same packages and variants give the same layout in every process.

    variants: experiments and variants that run.
    """

    def __init__(self, served: Sequence[Served], variants: Sequence[tuple[str, str]] = ()) -> None:
        self.series: list[Series] = []
        self.size = 0
        for family, labels in _combinations(served, variants):
            self.series.append(Series(family, labels, self.size))
            self.size += family.width
        self.at = {(series.family, series.labels): series.at for series in self.series}
        self.scoring = self.size  # the number of what is scored now: where its requests are counted; 0 for nothing
        self.size += 1

    def slots(self, memory: memoryview) -> list[memoryview[float]]:
        """The slots in a memory of `bytes(workers)` bytes, as arrays of float64."""
        numbers: memoryview[float] = memory.cast("d")
        return [numbers[start : start + self.size] for start in range(0, len(numbers) - self.size + 1, self.size)]

    def scored_in(self, slot: memoryview[float]) -> tuple[str, str] | None:
        """The scenario and the package, NAME/VERSION, of what the slot's worker scores now; None for nothing."""
        for series in self.series[1:]:  # the first one is of requests without a package
            if series.family is REQUESTS and series.at == slot[self.scoring]:
                scenario, model, version, _ = series.labels
                return scenario, f"{model}/{version}"
        return None

    def bytes(self, workers: int) -> int:
        """How much memory the slots of so many workers take."""
        return workers * self.size * FLOAT64


class Counts:
    """One worker's counts. Only its event loop may call this, as additions of two threads could be lost.

    A call costs less than 2 us. all_slots: those of all workers, its own included, for what the whole server has done.
    """

    def __init__(
        self, layout: Layout, slot: memoryview[float], all_slots: Sequence[memoryview[float]] | None = None
    ) -> None:
        self._slot, self._at, self._all_slots = slot, layout.at, all_slots or [slot]
        self._requests = {
            series.labels[1:3]: series.at for series in reversed(layout.series) if series.family is REQUESTS
        }
        self._code = {code: i for i, code in enumerate(CODES)}
        self._inflight, self._queue_ms = layout.at[INFLIGHT, ()], layout.at[QUEUE_MS, ()]
        self._scoring, self._forwards = layout.scoring, 0
        slot[self._inflight] = slot[self._queue_ms] = slot[self._scoring] = 0.0  # who had the slot before has ended

    @classmethod
    def alone(cls, served: Sequence[Served] = (), variants: Sequence[tuple[str, str]] = ()) -> Counts:
        """Counts that no other process reads."""
        layout = Layout(served, variants)
        return cls(layout, layout.slots(memoryview(bytearray(layout.bytes(1))))[0])

    def begun(self) -> None:
        """A request has come; `request` will say how it ended."""
        self._slot[self._inflight] += 1

    def request(self, routed: Routed | None, code: str, seconds: float, candidates: int = 0) -> None:
        """A request that had `begun` is over.

        routed: None where it ended before a package was found; code: of the answer, a name of CODES; seconds: since it
        had come; candidates: that were scored.
        """
        slot, position = self._slot, self._code.get(code, len(CODES) - 1)
        slot[self._inflight] -= 1
        if routed is None:
            slot[self._requests["", ""] + position] += 1
            return
        package = routed.predictor.name, routed.predictor.version
        slot[self._requests[package] + routed.scenario * len(CODES) + position] += 1
        slot[self._at[CANDIDATES, package]] += candidates
        if routed.fallback:
            slot[self._at[FALLBACKS, package]] += 1
        self._observe(self._at[REQUEST_SECONDS, package], seconds)
        if code == "OK":
            self._assigned(routed)
        else:
            self._observe(self._at[FAILED_SECONDS, package], seconds)

    def _assigned(self, routed: Routed) -> None:
        for got in routed.variants:
            self._slot[self._at[VARIANTS, (got.experiment, got.variant)]] += 1
        if routed.lacks_unit:
            self._slot[self._at[NO_UNIT, ()]] += 1

    def rejected(self, reason: str) -> None:
        """Admission has refused a request, for a reason of REASONS."""
        self._slot[self._at[REJECTED, (reason if reason in REASONS else "other",)]] += 1

    def waited(self, seconds: float) -> None:
        """A request has waited so long for its turn."""
        self._observe(self._at[QUEUE_SECONDS, ()], seconds)

    @property
    def running(self) -> int:
        """Which forward runs, as a number that grows; 0 where none does."""
        return self._forwards if self._slot[self._scoring] else 0

    def scoring(self, routed: Routed) -> None:
        """A forward begins; `forward` will say that it is over."""
        package = routed.predictor.name, routed.predictor.version
        self._slot[self._scoring] = self._requests[package] + routed.scenario * len(CODES)
        self._forwards += 1

    def forward(self, routed: Routed, seconds: float) -> None:
        """Encoding and scoring a request took so long."""
        self._slot[self._scoring] = 0.0
        self._observe(self._at[FORWARD_SECONDS, (routed.predictor.name, routed.predictor.version)], seconds)

    def batch(self, routed: Routed, requests: int, rows: int) -> None:
        """A forward has scored several requests, with so many candidates."""
        package = routed.predictor.name, routed.predictor.version
        for family, number in ((BATCHES, 1), (BATCH_REQUESTS, requests), (BATCH_ROWS, rows)):
            self._slot[self._at[family, package]] += number

    def queue(self, milliseconds: float) -> None:
        """The work that waits now."""
        self._slot[self._queue_ms] = milliseconds

    def encoded(self, package: tuple[str, str], new: Mapping[str, tuple[int, int]]) -> None:
        """By feature, how many ids were looked up, and how many are unknown; under no name, behaviours elsewhere."""
        for feature, (ids, unknown) in new.items():
            if feature:
                self._slot[self._at[IDS, (*package, feature)]] += ids
                self._slot[self._at[UNKNOWN_IDS, (*package, feature)]] += unknown
            else:
                self._slot[self._at[ELSEWHERE, package]] += ids

    def exposures(self, logged: int, dropped: int, queued: int) -> None:
        """So many answers more were logged, or dropped, and so many wait now."""
        self._slot[self._at[EXPOSURES_LOGGED, ()]] += logged
        self._slot[self._at[EXPOSURES_DROPPED, ()]] += dropped
        self._slot[self._at[EXPOSURE_QUEUE, ()]] = queued

    def access_dropped(self, requests: int) -> None:
        """So many requests more are not in the access log."""
        self._slot[self._at[ACCESS_DROPPED, ()]] += requests

    def observed(self, family: Family, package: tuple[str, str]) -> tuple[int, float]:
        """Of a package's histogram, over all workers: how often, and seconds altogether."""
        *times, seconds = total(self._all_slots, Series(family, package, self._at[family, package]))
        return int(sum(times)), seconds

    def _observe(self, at: int, seconds: float) -> None:
        self._slot[at + bisect_left(SECONDS, seconds)] += 1
        self._slot[at + len(SECONDS) + 1] += seconds


def served_by(router: Router) -> list[Served]:
    """The packages of a router, as counts need them."""
    predictors = [predictor for versions in router.predictors.values() for predictor in versions.values()]
    return [Served(p.name, p.version, p.scenarios, tuple(p.manifest.row_0)) for p in predictors]


def variants_of(router: Router) -> list[tuple[str, str]]:
    """Experiments and variants of a router, as counts need them."""
    running = router.experiments.file.experiments
    return [(key, variant) for key, experiment in running.items() for variant in experiment.variants]


def total(slots: Sequence[memoryview[float]], series: Series) -> list[float]:
    """The numbers of a series, added up over workers."""
    return [sum(slot[series.at + i] for slot in slots) for i in range(series.family.width)]


def _combinations(
    served: Sequence[Served], variants: Sequence[tuple[str, str]]
) -> Iterator[tuple[Family, tuple[str, ...]]]:
    """All series. A request that ended before a package was found has no scenario, model and version."""
    for package in (Served("", "", ("",)), *served):
        for scenario in package.scenarios:
            for code in CODES:
                yield REQUESTS, (scenario, package.model, package.version, code)
    for package in served:
        for family in PACKAGE_FAMILIES:
            yield family, (package.model, package.version)
        for feature in package.features:
            for family in (IDS, UNKNOWN_IDS):
                yield family, (package.model, package.version, feature)
    for reason in REASONS:
        yield REJECTED, (reason,)
    for variant in variants:
        yield VARIANTS, tuple(variant)
    logs = (EXPOSURES_LOGGED, EXPOSURES_DROPPED, EXPOSURE_QUEUE, ACCESS_DROPPED)
    for family in (INFLIGHT, QUEUE_MS, QUEUE_SECONDS, NO_UNIT, *logs):
        yield family, ()
