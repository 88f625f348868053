"""Load from a process of its own, so that the client's Python takes no time of the benchmark's or of the server's.

    python -m benchmarks.serving.load < PLAN_AS_JSON > LOADED_AS_JSON

The loops are those of `swrec loadtest` (serving/callers/load.py): requests are serialised before, answers are not
parsed, and an open loop charges the server with every wait from the moment when a call was due.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np

from swrec_prod.serving.callers.load import SCORE, LoadResult, closed_loop, open_loop

PUSHBACK = "grpc-retry-pushback-ms"
AFTER = 3.0  # seconds that a server gets after an overload to be as before
ENOUGH = 10  # answers in a row that make it so
CHANNELS_OPENED = 1  # calls with which an open loop opens each of its channels
BURST = 300  # calls at once, of which an overloaded server refuses some


class Plan(NamedTuple):
    """What to send. bodies: a file of `write_bodies`.

    clients: calls at a time, of a closed loop. rate: calls a second, of an open one; 0 for a closed one. deadline_ms:
    of each call; 0 for none.
    """

    target: str
    bodies: str
    method: str = SCORE
    seconds: float = 6.0
    warmup: float = 1.5
    clients: int = 16
    channels: int = 4
    rate: float = 0.0
    deadline_ms: float = 0.0

    def run(self) -> Loaded:
        """Send it from another process."""
        command, given = [sys.executable, "-m", "benchmarks.serving.load"], json.dumps(self._asdict())
        timeout = 60 + self.warmup + 2 * self.seconds
        done = subprocess.run(command, input=given, text=True, stdout=subprocess.PIPE, check=True, timeout=timeout)
        return Loaded(**json.loads(done.stdout))


class Loaded(NamedTuple):
    """What came back.

    rate: answers a second; goodput: those within the deadline. p50_ms, p99_ms: of answers; refused_p99_ms: of
    RESOURCE_EXHAUSTED. cpu: share of a core that the client took. Of an open loop also:
    recovered: seconds from its end until ENOUGH calls in a row took at most 5 times what they take an idle server; None
    where that was more than AFTER. pushed_back: share of the refusals of a BURST that say when to ask again; None where
    none was refused. in_time: all answers in time, those before and after the open loop included.
    """

    rate: float
    goodput: float
    codes: dict[str, int]
    p50_ms: float
    p99_ms: float
    refused_p99_ms: float
    cpu: float
    recovered: float | None = None
    pushed_back: float | None = None
    in_time: int = 0


def write_bodies(path: Path, messages: Sequence[bytes]) -> str:
    """A file with messages of any length; its name."""
    lengths = np.array([len(message) for message in messages])
    np.savez(path, lengths=lengths, data=np.frombuffer(b"".join(messages), np.uint8))
    return str(path)


def _read_bodies(path: str) -> list[bytes]:
    with np.load(path) as stored:
        data, lengths = stored["data"].tobytes(), stored["lengths"]
    ends = np.cumsum(lengths)
    return [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def in_turns(plans: Sequence[Plan], rounds: int) -> list[Loaded]:
    """Each plan `rounds` times, in turns; of each the run of the median rate."""
    runs = [[plan.run() for plan in plans] for _ in range(rounds)]
    return [sorted(of, key=lambda loaded: loaded.rate)[rounds // 2] for of in zip(*runs, strict=True)]


def _run(plan: Plan) -> Loaded:
    bodies = _read_bodies(plan.bodies)
    if not plan.rate:
        deadline = plan.deadline_ms or None
        more = {"warmup": plan.warmup, "deadline_ms": deadline, "channels": plan.channels, "method": plan.method}
        return _loaded(closed_loop(plan.target, bodies, plan.clients, plan.seconds, **more))  # type: ignore[arg-type]
    around = Around(plan, bodies)
    idle = asyncio.run(around.idle())
    more = {"warmup": 0.0, "deadline_ms": plan.deadline_ms, "channels": plan.channels, "method": plan.method}
    result = open_loop(plan.target, bodies, plan.rate, plan.seconds, **more)  # type: ignore[arg-type]
    recovered = asyncio.run(around.recovery(5 * idle))
    pushed_back = asyncio.run(around.burst())
    in_time = round(result.goodput * result.seconds) + around.in_time
    return _loaded(result)._replace(recovered=recovered, pushed_back=pushed_back, in_time=in_time)


def _loaded(result: LoadResult) -> Loaded:
    def milliseconds(histogram: object, share: float) -> float:
        return 1e3 * histogram.quantile(share)  # type: ignore[attr-defined]

    p50, p99 = (milliseconds(result.answered, share) if result.codes["OK"] else 0.0 for share in (0.5, 0.99))
    refused = milliseconds(result.refused, 0.99) if result.codes["RESOURCE_EXHAUSTED"] else 0.0
    return Loaded(result.rate, result.goodput, dict(result.codes), p50, p99, refused, result.cpu_share)


class Around:
    """What is asked before and after an open loop. in_time: how many answers."""

    def __init__(self, plan: Plan, bodies: Sequence[bytes]) -> None:
        self._plan, self._turn = plan, itertools.cycle(bodies)
        self.in_time = CHANNELS_OPENED * plan.channels

    async def idle(self) -> float:
        """Seconds of a call, the median of some, one by one."""
        async with grpc.aio.insecure_channel(self._plan.target) as channel:
            return float(np.median([await self._seconds(channel) for _ in range(3 * ENOUGH)]))

    async def recovery(self, usual: float) -> float | None:
        """Loaded.recovered. usual: seconds that a call may take."""
        start, row = time.perf_counter(), 0
        async with grpc.aio.insecure_channel(self._plan.target) as channel:
            while (began := time.perf_counter()) < start + AFTER:
                row = row + 1 if await self._seconds(channel) <= usual else 0
                if row == ENOUGH:
                    return began - start
        return None

    async def burst(self) -> float | None:
        """Loaded.pushed_back."""
        async with grpc.aio.insecure_channel(self._plan.target) as channel:
            method, timeout = channel.unary_unary(self._plan.method), self._plan.deadline_ms / 1e3
            calls = [method(next(self._turn), timeout=timeout) for _ in range(BURST)]
            by_code = [(await call.code(), call) for call in calls]
            self.in_time += sum(code is grpc.StatusCode.OK for code, _ in by_code)
            refused = [call for code, call in by_code if code is grpc.StatusCode.RESOURCE_EXHAUSTED]
            said = [any(key == PUSHBACK for key, _ in await call.trailing_metadata() or ()) for call in refused]
        return sum(said) / len(said) if said else None

    async def _seconds(self, channel: grpc.aio.Channel) -> float:
        """Of a call that is answered; endless for another."""
        began = time.perf_counter()
        code = await channel.unary_unary(self._plan.method)(next(self._turn), timeout=AFTER).code()
        self.in_time += code is grpc.StatusCode.OK
        return time.perf_counter() - began if code is grpc.StatusCode.OK else float("inf")


def main() -> None:
    """Read a plan, send it, print what came back."""
    print(json.dumps(_run(Plan(**json.loads(sys.stdin.read())))._asdict()))


if __name__ == "__main__":
    main()
