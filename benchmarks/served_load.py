"""Load from a process of its own: closed loop (so many clients, each with one call at a time), or open loop (calls come
when they come, by a Poisson process, whatever the server does).

    python -m benchmarks.served_load < PLAN_AS_JSON > LOADED_AS_JSON

Requests are serialised before the clock starts, and answers are not parsed: the client has half of the cores to share
with the server, and should take little of them. A latency counts from the moment when the call was due.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np

SCORE = "/swrec.v1.Ranking/Score"
PUSHBACK = "grpc-retry-pushback-ms"
AFTER = 3.0  # seconds that an overloaded server has to be as before
ENOUGH = 10  # answers in a row that make it so


@dataclass(frozen=True)
class Plan:
    """What to send.

    bodies: a file of `write_bodies`. clients: calls at a time, of a closed loop. rate: calls a second, of an open loop;
    0 for a closed one. deadline: seconds of each call, 0 for none. hasty, fickle: shares of calls with 1 ms, and of
    calls that are cancelled after a moment. headers: of each call.
    """

    target: str
    bodies: str
    method: str = SCORE
    seconds: float = 6.0
    warm_up: float = 1.5
    clients: int = 16
    channels: int = 4
    rate: float = 0.0
    deadline: float = 0.0
    hasty: float = 0.0
    fickle: float = 0.0
    headers: tuple[tuple[str, str], ...] = ()

    def run(self) -> Loaded:
        """Send it from another process."""
        command = [sys.executable, "-m", "benchmarks.served_load"]
        given = json.dumps(dataclasses.asdict(self))
        timeout = 60 + self.warm_up + self.seconds
        done = subprocess.run(command, input=given, text=True, stdout=subprocess.PIPE, check=True, timeout=timeout)
        return Loaded(**json.loads(done.stdout))


@dataclass
class Loaded:
    """What came back, after the warm-up.

    codes: answers by gRPC code. ok: answers a second with OK. p50_ms, p99_ms: of latencies, by code. pushback: share of
    RESOURCE_EXHAUSTED that say when to ask again. recovered: seconds after an open loop until ENOUGH calls in a row are
    answered within 5 times p50 of an idle server; None where it took more than AFTER. cpu: cores that the client took.
    """

    seconds: float = 0.0
    codes: dict[str, int] = field(default_factory=dict)
    ok: float = 0.0
    p50_ms: dict[str, float] = field(default_factory=dict)
    p99_ms: dict[str, float] = field(default_factory=dict)
    pushback: float = 1.0
    recovered: float | None = 0.0
    cpu: float = 0.0


def write_bodies(path: Path, messages: Sequence[bytes]) -> str:
    """A file with messages of any length; its name."""
    lengths = np.array([len(message) for message in messages])
    np.savez(path, lengths=lengths, data=np.frombuffer(b"".join(messages), np.uint8))
    return str(path)


def _read_bodies(path: str) -> list[bytes]:
    with np.load(path) as stored:
        data, ends = stored["data"].tobytes(), np.cumsum(stored["lengths"])
    return [data[end - length : end] for end, length in zip(ends, np.diff(ends, prepend=0), strict=True)]


class Load:
    """A plan under way. A call's outcome is kept when it began after `since`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.bodies = _read_bodies(plan.bodies)
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        self.channels = [grpc.aio.insecure_channel(plan.target, options) for _ in range(plan.channels)]
        self.methods = [channel.unary_unary(plan.method) for channel in self.channels]
        self.draw = random.Random(1)
        self.sent = 0
        self.since = float("inf")
        self.latencies = defaultdict[str, list[float]](list)
        self.pushed = Counter[bool]()

    async def call(self, due: float, channel: int) -> str:
        """One call, which was due at that moment; its code."""
        plan, self.sent = self.plan, self.sent + 1
        kind = self.draw.random()
        timeout = 0.001 if kind < plan.hasty else plan.deadline or None
        method = self.methods[channel % len(self.methods)]
        calling = method(self.bodies[self.sent % len(self.bodies)], timeout=timeout, metadata=plan.headers)
        if plan.hasty <= kind < plan.hasty + plan.fickle:
            asyncio.get_running_loop().call_later(self.draw.random() * 0.005, calling.cancel)
        code = await self._outcome(calling)
        if due >= self.since:
            self.latencies[code].append(time.perf_counter() - due)
        return code

    async def _outcome(self, calling: Awaitable[bytes]) -> str:
        try:
            await calling
            return "OK"
        except grpc.aio.AioRpcError as failure:
            if failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.pushed[any(key == PUSHBACK for key, _ in failure.trailing_metadata() or ())] += 1
            return failure.code().name
        except asyncio.CancelledError:
            return "CANCELLED"

    async def closed(self) -> float:
        """The seconds that it took."""
        start = time.perf_counter()
        self.since, until = start + self.plan.warm_up, start + self.plan.warm_up + self.plan.seconds

        async def client(number: int) -> None:
            while (now := time.perf_counter()) < until:
                await self.call(now, number)

        await asyncio.gather(*map(client, range(self.plan.clients)))
        return time.perf_counter() - self.since

    async def open(self) -> float:
        """The seconds in which calls were due."""
        due = time.perf_counter()
        self.since, until = due + self.plan.warm_up, due + self.plan.warm_up + self.plan.seconds
        under_way: set[asyncio.Task[str]] = set()
        while due < until:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.ensure_future(self.call(due, self.sent))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due += self.draw.expovariate(self.plan.rate)
            if self.sent % 64 == 0:
                await asyncio.sleep(0)  # so that a client that is late still reads its answers
        await asyncio.gather(*under_way)
        return self.plan.seconds

    async def recovery(self, usual: float) -> float | None:
        """Seconds until calls are answered as they are by an idle server, in `usual` seconds."""
        self.since, start, row = float("inf"), time.perf_counter(), 0
        while (began := time.perf_counter()) < start + AFTER:
            code = await self.call(began, self.sent)
            row = row + 1 if code == "OK" and time.perf_counter() - began < 5 * usual else 0
            if row == ENOUGH:
                return began - start
        return None

    async def alone(self) -> float:
        """Seconds of one call at a time, the median."""
        taken = []
        for number in range(30):
            began = time.perf_counter()
            await self.call(began, number)
            taken.append(time.perf_counter() - began)
        return float(np.median(taken))


async def _run(plan: Plan) -> Loaded:
    load = Load(plan)
    usual = await load.alone() if plan.rate else 0.0
    cpu, wall = time.process_time(), time.perf_counter()
    seconds = await (load.open() if plan.rate else load.closed())
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    recovered = await load.recovery(usual) if plan.rate else 0.0
    for channel in load.channels:
        await channel.close()
    return _summary(load, seconds, recovered, cpu / wall)


def _summary(load: Load, seconds: float, recovered: float | None, cpu: float) -> Loaded:
    def percentile(share: float) -> dict[str, float]:
        return {code: 1e3 * float(np.percentile(taken, share)) for code, taken in load.latencies.items()}

    codes = {code: len(taken) for code, taken in load.latencies.items()}
    pushed = load.pushed[True] / max(1, load.pushed.total()) if load.pushed else 1.0
    return Loaded(
        seconds, codes, codes.get("OK", 0) / seconds, percentile(50), percentile(99), pushed, recovered, cpu
    )


def in_turns(plans: Sequence[Plan], rounds: int, progress: Callable[[str], None] = lambda _: None) -> list[Loaded]:
    """Each plan `rounds` times, in turns; of each the run whose throughput is the median."""
    runs = [[plan.run() for plan in plans] for _ in range(rounds)]
    chosen = [sorted(of, key=lambda loaded: loaded.ok)[rounds // 2] for of in zip(*runs, strict=True)]
    for plan, loaded in zip(plans, chosen, strict=True):
        progress(f"{plan.method} {loaded.ok:.0f}/s p99 {loaded.p99_ms.get('OK', 0):.1f} ms {loaded.codes}")
    return chosen


def main() -> None:
    """Read a plan, send it, print what came back."""
    given = json.loads(sys.stdin.read())
    plan = Plan(**{**given, "headers": tuple(map(tuple, given["headers"]))})
    print(json.dumps(dataclasses.asdict(asyncio.run(_run(plan)))))


if __name__ == "__main__":
    main()
