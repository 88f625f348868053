"""`make soak`: half an hour of calls of which one in ten is cancelled and one in ten has a deadline of a millisecond.

soak_throughput   answers of the last minute against those of the first
soak_memory       MiB that the server's processes have grown by since the first minute
soak_files        open files more than before the first call, after the last
soak_in_flight    calls that the server believes to be under way, after the last
soak_other_codes  calls that ended as none of OK, CANCELLED, DEADLINE_EXCEEDED and RESOURCE_EXHAUSTED
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import grpc

from benchmarks.record import Figure, report
from benchmarks.serving import models
from benchmarks.serving.load import SCORE
from benchmarks.serving.server import Running, serving

FOLDER = Path("build/bench/soak")
CLIENTS, CHANNELS = 16, 4
HASTY, FICKLE = 0.1, 0.1  # shares of calls with a deadline of 1 ms, and of calls that are cancelled
CANCELLED_WITHIN = 0.01  # seconds
EXPECTED = ("OK", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
SETTLING = 2.0  # seconds


class Soak:
    """The calls. codes: so far; ok_in: OK by whole seconds since the beginning."""

    def __init__(self, target: str, bodies: list[bytes]) -> None:
        self.target, self.bodies = target, bodies
        self.codes, self.ok_in = Counter[str](), Counter[int]()
        self._draw = random.Random(1)

    async def run(self, seconds: float) -> None:
        """Call for so long."""
        own = (("grpc.use_local_subchannel_pool", 1),)
        channels = [grpc.aio.insecure_channel(self.target, own) for _ in range(CHANNELS)]
        self._start = time.monotonic()
        methods = [channel.unary_unary(SCORE) for channel in channels]
        await asyncio.gather(*(self._client(methods[i % CHANNELS], seconds) for i in range(CLIENTS)))
        await asyncio.gather(*(channel.close() for channel in channels))

    async def _client(self, method: grpc.aio.UnaryUnaryMultiCallable, seconds: float) -> None:
        while (now := time.monotonic() - self._start) < seconds:
            code = await self._call(method)
            self.codes[code] += 1
            self.ok_in[int(now)] += code == "OK"

    async def _call(self, method: grpc.aio.UnaryUnaryMultiCallable) -> str:
        kind = self._draw.random()
        call = method(self._draw.choice(self.bodies), timeout=0.001 if kind < HASTY else 10.0)
        if HASTY <= kind < HASTY + FICKLE:
            asyncio.get_running_loop().call_later(self._draw.random() * CANCELLED_WITHIN, call.cancel)
        return (await call.code()).name

    def ok_between(self, begin: float, end: float) -> float:
        """Answers a second."""
        return sum(number for second, number in self.ok_in.items() if begin <= second < end) / (end - begin)


def main() -> None:
    """Soak and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    seconds = 60 * parser.parse_args().minutes
    shutil.rmtree(FOLDER, ignore_errors=True)
    names = ("shared_bottom", "mscan")
    repo = models.publish(FOLDER / "repo", FOLDER / "data", names)
    bodies = [body for name in names for body in models.bodies(name, 100, 32)]
    with serving(repo, FOLDER, workers=2) as server:
        report("soak", asyncio.run(_soak(server, bodies, seconds)), {"seconds": seconds, "threads": 1})


async def _soak(server: Running, bodies: list[bytes], seconds: float) -> list[Figure]:
    files, part = server.files(), min(60.0, seconds / 3)
    soak = Soak(server.target, bodies)
    running = asyncio.create_task(soak.run(seconds))
    await asyncio.sleep(part)
    memory = server.memory()
    await running
    await asyncio.sleep(SETTLING)
    first, last = soak.ok_between(0, part), soak.ok_between(seconds - part, seconds)
    others = sum(number for code, number in soak.codes.items() if code not in EXPECTED)
    calls = soak.codes.total()
    return [
        Figure("soak_throughput", last, "answers/s", "first minute", first, ">= 0.95", context={"codes": soak.codes}),
        _value("soak_memory", server.memory() - memory, "MiB", "after a minute", memory, 20),
        _value("soak_files", server.files() - files, "files", "before", files, 0),
        _value("soak_in_flight", server.counted("inflight"), "calls", "calls", calls, 0),
        _value("soak_other_codes", others, "calls", "calls", calls, 0),
    ]


def _value(name: str, value: float, unit: str, reference: str, reference_value: float, most: float) -> Figure:
    return Figure(name, value, unit, reference, reference_value, f"<= {most:g}", held="value")


if __name__ == "__main__":
    main()
