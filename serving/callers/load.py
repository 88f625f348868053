"""Load on a server, and what came back: so many callers that wait for their answers (closed loop), or so many requests
a second, whether the server keeps up or not (open loop).

    result = closed_loop("127.0.0.1:8500", bodies, clients=16, seconds=10)
    result = open_loop("127.0.0.1:8500", bodies, rate=2000, seconds=10, deadline_ms=100)
    result.goodput, result.answered.quantile(0.99), result.codes

Latency in the open loop is counted from the moment at which a request was to be sent. A server that stalls for a
second is charged with the wait of all requests of that second, those included that the stall kept from being sent.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np

from swrec_prod.serving.callers.histogram import Histogram
from swrec_prod.serving.client.channels import Connection, Lines, Tls
from swrec_prod.serving.client.retry import error_of, failure_of
from swrec_prod.serving.protocol import wire

SCORE = f"/{wire.SERVICE}/Score"
CONNECT = 10.0  # seconds
PASSING = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)  # that a loaded server may answer
EARLY = 0.0005  # seconds: timers of an event loop tick in milliseconds, so a request may leave half of one early

Ask = Callable[[bytes], Awaitable[grpc.StatusCode]]


@dataclass
class LoadResult:
    """What came back in `seconds` of measuring, warm-up left out.

    codes: calls by gRPC code; within: calls that ended as OK inside the deadline; answered, refused: how long calls
    took that ended as OK, and as RESOURCE_EXHAUSTED; late: seconds between the moment at which a request of an open
    loop was to be sent and that at which it was; cpu_seconds: CPU time of the client's own processes.
    """

    seconds: float
    codes: Counter[str] = field(default_factory=Counter)
    within: int = 0
    answered: Histogram = field(default_factory=Histogram)
    refused: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)
    cpu_seconds: float = 0.0
    processes: int = 1

    @property
    def rate(self) -> float:
        """Calls that ended as OK, a second."""
        return self.codes["OK"] / self.seconds

    @property
    def goodput(self) -> float:
        """Calls that ended as OK inside the deadline, a second."""
        return self.within / self.seconds

    @property
    def calls(self) -> int:
        """Calls, however they ended."""
        return self.codes.total()

    @property
    def offered(self) -> float:
        """Calls, however they ended, a second."""
        return self.calls / self.seconds

    @property
    def cpu_share(self) -> float:
        """CPU time of a client process over the time that passed. Near 1 the client is what is slow."""
        return self.cpu_seconds / self.seconds / self.processes

    def add(self, code: str, seconds: float, deadline: float | None) -> None:
        """Count a call."""
        self.codes[code] += 1
        if code == "OK":
            self.answered.add(seconds)
            self.within += deadline is None or seconds <= deadline
        elif code == "RESOURCE_EXHAUSTED":
            self.refused.add(seconds)

    def merge(self, other: LoadResult) -> None:
        """Add what another process counted in the same seconds."""
        self.codes += other.codes
        self.within += other.within
        self.cpu_seconds += other.cpu_seconds
        self.processes += other.processes
        for mine, theirs in ((self.answered, other.answered), (self.refused, other.refused), (self.late, other.late)):
            mine.merge(theirs)


@dataclass(frozen=True)
class Plan:
    """How one process loads a server.

    clients: callers of a closed loop, 0 for an open one; rate: requests a second of an open loop; poisson: whether
    their distances are exponential, as those of many independent users are, or all alike; deadline: seconds that a call
    gets.
    """

    connection: Connection
    seconds: float
    warmup: float = 1.0
    clients: int = 0
    rate: float = 0.0
    poisson: bool = True
    deadline: float | None = None
    method: str = SCORE
    seed: int = 0


def closed_loop(
    target: str,
    bodies: Sequence[bytes],
    clients: int,
    seconds: float,
    *,
    warmup: float = 1.0,
    deadline_ms: float | None = None,
    channels: int = 4,
    tls: Tls | None = None,
    token: str | None = None,
    method: str = SCORE,
) -> LoadResult:
    """So many callers, each of which asks again as soon as it has its answer.

    bodies: serialised requests, sent in turn. Calls count whose answers come in the measured seconds. Raises our own
    errors, as Client.score does, where the first request is not answered.
    """
    deadline = None if deadline_ms is None else deadline_ms / 1e3
    connection = Connection(target, channels, tls=tls, token=token)
    plan = Plan(connection, seconds, warmup, clients=clients, deadline=deadline, method=method)
    return asyncio.run(run_plan(plan, bodies))


def open_loop(
    target: str,
    bodies: Sequence[bytes],
    rate: float,
    seconds: float,
    *,
    poisson: bool = True,
    warmup: float = 1.0,
    deadline_ms: float | None = 1000.0,
    channels: int = 4,
    tls: Tls | None = None,
    token: str | None = None,
    method: str = SCORE,
    seed: int = 0,
) -> LoadResult:
    """So many requests a second, whatever comes back.

    bodies: serialised requests, sent in turn. Calls count that were to be sent in the measured seconds, however late
    their answers come. Raises our own errors, as Client.score does, where the first request is not answered.
    """
    deadline = None if deadline_ms is None else deadline_ms / 1e3
    connection = Connection(target, channels, tls=tls, token=token)
    plan = Plan(connection, seconds, warmup, 0, rate, poisson, deadline, method, seed)
    return asyncio.run(run_plan(plan, bodies))


async def run_plan(plan: Plan, bodies: Sequence[bytes]) -> LoadResult:
    """Load a server from this process. Raises what `connect` does."""
    channels = plan.connection.open(grpc.aio)
    lines = Lines(channels, plan.connection.streams)
    metadata = plan.connection.metadata

    async def ask(body: bytes) -> grpc.StatusCode:
        line = (
            lines.take()
        )  # as the client does: one that is dealt out in turn waits for a busy worker beside an idle one
        try:
            call = line.unary(plan.method)(body, timeout=plan.deadline, metadata=metadata)
            return await call.code()  # an exception would cost as much as the call
        finally:
            lines.give(line)

    try:
        await asyncio.gather(*(connect(channel, plan, bodies[0]) for channel in channels))
        return await (_closed if plan.clients else _open)(plan, bodies, ask)
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


async def connect(channel: grpc.aio.Channel, plan: Plan, body: bytes) -> None:
    """Ask once, so that no measured call waits for the connection.

    Raises our own errors where no request will be answered: there is no server, or it refuses this one for good.
    """
    try:
        await channel.unary_unary(plan.method)(body, timeout=CONNECT, metadata=plan.connection.metadata)
    except grpc.aio.AioRpcError as error:
        if error.code() not in PASSING:
            raise error_of(failure_of(error), plan.connection.target, CONNECT) from None


async def _closed(plan: Plan, bodies: Sequence[bytes], ask: Ask) -> LoadResult:
    result, turn = LoadResult(plan.seconds), itertools.cycle(bodies)
    begin = time.perf_counter() + plan.warmup
    end = begin + plan.seconds

    async def caller() -> None:
        sent = time.perf_counter()
        while sent < end:
            code = await ask(next(turn))
            answered = time.perf_counter()
            if begin <= answered < end:
                result.add(code.name, answered - sent, plan.deadline)
            sent = answered

    measured = asyncio.create_task(_cpu_seconds(begin, end))
    await asyncio.gather(*(caller() for _ in range(plan.clients)))
    result.cpu_seconds = await measured
    return result


async def _open(plan: Plan, bodies: Sequence[bytes], ask: Ask) -> LoadResult:
    result, turn = LoadResult(plan.seconds), itertools.cycle(bodies)
    start = time.perf_counter()
    begin = start + plan.warmup
    in_flight: set[asyncio.Task[None]] = set()

    async def call(due: float) -> None:
        sent = time.perf_counter()
        code = await ask(next(turn))
        if due >= begin:
            result.add(code.name, time.perf_counter() - min(due, sent), plan.deadline)
            result.late.add(max(0.0, sent - due))

    measured = asyncio.create_task(_cpu_seconds(begin, begin + plan.seconds))
    for due in (start + moments(plan)).tolist():
        if (wait := due - EARLY - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(call(due))
        in_flight.add(task)
        task.add_done_callback(in_flight.discard)
    await asyncio.gather(*in_flight)
    result.cpu_seconds = await measured
    return result


def moments(plan: Plan) -> np.ndarray:
    """When an open loop sends, seconds from its start, ascending: all before the end of warm-up and measuring."""
    length = plan.warmup + plan.seconds
    if not plan.poisson:
        return np.arange(0, length, 1 / plan.rate)
    draw = np.random.default_rng(plan.seed)
    return np.sort(draw.uniform(0, length, draw.poisson(plan.rate * length)))  # a Poisson process, given its number


async def _cpu_seconds(begin: float, end: float) -> float:
    """CPU time of this process between two moments of time.perf_counter."""
    await asyncio.sleep(begin - time.perf_counter())
    before = time.process_time()
    await asyncio.sleep(end - time.perf_counter())
    return time.process_time() - before
