"""`python -m benchmarks.serving.hot_change`: what changing the served version costs those who call meanwhile.

hot_change_failures   of all calls during the changes, those that failed or whose scores are not those of the version
                      that the answer names; channels are gRPC's own and repeat nothing
hot_change_p99_ratio  milliseconds of the slowest of 100 calls, from the wish for a change until the old workers have
                      left, against the same load without a change
hot_change_memory     MiB of all processes after the changes, against before

An open loop offers half of what a closed one gets. Versions alternate between two packages whose scores differ.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np

from benchmarks.record import Figure, report
from benchmarks.serving import models
from benchmarks.serving.load import SCORE, Plan, write_bodies
from benchmarks.serving.server import Running, serving
from swrec_prod.serving.process.admin import ask_to_reload
from swrec_prod.serving.protocol import wire

FOLDER = Path("build/bench/hot_change")
MODEL, CANDIDATES, BODIES, CHANNELS = "shared_bottom", 100, 32, 16
AGE = 2.0  # seconds of a connection: a change ends as many later
DEADLINE = 10.0  # seconds of a call: none is to fail for want of time
PATIENCE = 120.0
SHARE = 0.5  # of what the server can do


class Call(NamedTuple):
    """One call: when it was due, seconds until it was answered, its code, or `wrong` for scores of another version."""

    due: float
    seconds: float
    code: str


class Load:
    """An open loop of calls at equal distances. expected: of each body the scores, by version."""

    def __init__(self, target: str, bodies: Sequence[bytes], expected: dict[str, list[bytes]], rate: float) -> None:
        self._target, self._bodies, self._expected, self._rate = target, bodies, expected, rate
        self.calls: list[Call] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`."""
        own = (("grpc.use_local_subchannel_pool", 1),)
        channels = [grpc.aio.insecure_channel(self._target, own) for _ in range(CHANNELS)]
        methods = [channel.unary_unary(SCORE) for channel in channels]
        began, number, running = time.perf_counter(), 0, set[asyncio.Task[None]]()
        while not self._stop.is_set():
            due = began + number / self._rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.ensure_future(self._call(methods[number % CHANNELS], number % len(self._bodies), due))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
        await asyncio.gather(*running)
        await asyncio.gather(*(channel.close() for channel in channels))

    def stop(self) -> None:
        """Begin no more calls."""
        self._stop.set()

    async def _call(self, method: grpc.aio.UnaryUnaryMultiCallable, body: int, due: float) -> None:
        try:
            answer = wire.ScoreResponse.FromString(await method(self._bodies[body], timeout=DEADLINE))
            code = "OK" if answer.score == self._expected[answer.version][body] else "wrong"
        except grpc.aio.AioRpcError as failure:
            code = failure.code().name
        self.calls.append(Call(due, time.perf_counter() - due, code))

    def p99_ms(self, spans: Sequence[tuple[float, float]]) -> float:
        """Of the calls that were due within the spans."""
        seconds = [call.seconds for call in self.calls if any(start <= call.due <= end for start, end in spans)]
        return 1e3 * float(np.quantile(seconds, 0.99))


def main() -> None:
    """Change, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=200, help="how many; each takes some seconds")
    changes = parser.parse_args().changes
    shutil.rmtree(FOLDER, ignore_errors=True)
    source = models.publish(FOLDER / "source", FOLDER / "data", (MODEL, "mmoe"))
    repo = FOLDER / "repo" / "ranker"
    _publish(source / MODEL / "1", repo / "1")
    admin = FOLDER / "admin"
    with serving(repo.parent, FOLDER, workers=2, connection_age=AGE, admin=admin, queue_ms=1e5) as server:
        figures = asyncio.run(_measure(server, source, repo, admin, changes))
    report("hot_change", figures, {"changes": changes, "threads": 1})


async def _measure(server: Running, source: Path, repo: Path, admin: Path, changes: int) -> list[Figure]:
    bodies = models.bodies("ranker", CANDIDATES, BODIES)
    path = write_bodies(FOLDER / "bodies.npz", bodies)
    capacity = (await asyncio.to_thread(Plan(server.target, path, seconds=3.0, channels=CHANNELS).run)).rate
    packages = [source / MODEL / "1", source / "mmoe" / "1"]
    scores = [await asyncio.to_thread(_scores, package, bodies) for package in packages]
    expected = {str(version): scores[(version - 1) % 2] for version in range(1, changes + 2)}
    load = Load(server.target, bodies, expected, SHARE * capacity)
    running = asyncio.ensure_future(load.run())
    calm = [await _calm()]
    memory, spans = server.memory(), []
    for change in range(changes):
        version = str(change + 2)
        _publish(packages[(change + 1) % 2], repo / version)
        began = time.perf_counter()
        outcome = await asyncio.to_thread(ask_to_reload, admin, PATIENCE)
        assert (outcome.result, list(outcome.serving)) == ("changed", [f"ranker/{version}"]), outcome
        while len(_generations(server)) > 1:
            await asyncio.sleep(0.1)
        spans.append((began, time.perf_counter()))
        calm.append(await _calm())
    load.stop()
    await running
    return _figures(load, spans, calm, memory, server.memory(), capacity)


def _figures(
    load: Load,
    spans: list[tuple[float, float]],
    calm: list[tuple[float, float]],
    before: float,
    after: float,
    capacity: float,
) -> list[Figure]:
    codes = Counter(call.code for call in load.calls)
    failed = len(load.calls) - codes["OK"]
    context = {"codes": dict(codes), "capacity": capacity, "changes": len(spans)}
    context["seconds"] = float(np.median([end - start for start, end in spans]))
    p99, usual = load.p99_ms(spans), load.p99_ms(calm)
    return [
        Figure("hot_change_failures", failed, "calls", "calls", len(load.calls), "<= 0", "value", context),
        Figure("hot_change_p99_ratio", p99, "ms", "without a change", usual, "<= 2", context=context),
        Figure("hot_change_memory", after, "MiB", "before", before, "<= 1.2", context=context),
    ]


async def _calm(seconds: float = 2.0) -> tuple[float, float]:
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    return began, time.perf_counter()


def _publish(package: Path, to: Path) -> None:
    """As an export appears: by a rename."""
    to.parent.mkdir(parents=True, exist_ok=True)
    aside = to.parent / f".{to.name}"
    shutil.copytree(package, aside)
    aside.rename(to)


def _answers(target: str, bodies: Sequence[bytes]) -> list[bytes]:
    with grpc.insecure_channel(target) as channel:
        score = channel.unary_unary(SCORE)
        return [wire.ScoreResponse.FromString(score(body, timeout=DEADLINE)).score for body in bodies]


def _scores(package: Path, bodies: Sequence[bytes]) -> list[bytes]:
    """What a package says, from a server of its own."""
    folder = FOLDER / f"alone-{package.parent.name}"
    _publish(package, folder / "repo" / "ranker" / "1")
    with serving(folder / "repo", folder, workers=1) as server:
        return _answers(server.target, bodies)


def _generations(server: Running) -> list[str]:
    return Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()


if __name__ == "__main__":
    main()
