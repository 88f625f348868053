"""What experiments and exposures cost, and what is lost of them: figures of the part `exposures`.

serving_all_on_vs_off          SharedBottom, 100 candidates: requests/s with an experiment, metrics, the access log and
                               the exposure log, of which one answer in ten with its request, against none of these
serving_all_on_vs_off_whole    the same with every request and all of its candidates
exposures_cpu                  microseconds of processor time that the worker takes for an answer, all on and every
                               request whole, against off: what the two above are on a machine with nothing else to do
exposures_lost                 a worker is killed at full load: seconds of its answers that are not in the log
exposures_repeated             exposures that are in it twice
exposures_on_full_disk_p99     a log on a disk of 8 MiB: milliseconds, against a log with room
exposures_on_full_disk_counted answers that are in the log or counted as dropped, of all
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.dataset as dataset

from benchmarks.record import Figure
from benchmarks.serving.load import Loaded, Plan, in_turns, write_bodies
from benchmarks.serving.models import asked, request_of
from benchmarks.serving.server import Running, serving
from swrec_prod.exposures.bounds import WAITING, Bounds

MODEL, CANDIDATES, BODIES, FEW = "shared_bottom", 100, 64, 0.1
EXPERIMENTS = """
layers: {looks: {}}
experiments:
  same:
    layer: looks
    control: one
    variants:
      one: {buckets: [[0, 5000]]}
      other: {buckets: [[5000, 10000]]}
"""
FULL = Bounds(waiting_mb=8.0, segment_mb=4.0)  # as a disk of so much: what is more is refused


class Exposed:
    """Servers with and without. repo: packages; folder: for what they write; plan: what to send to a target."""

    def __init__(self, repo: Path, folder: Path, seconds: float, rounds: int) -> None:
        self.repo, self.folder, self.seconds, self.rounds = repo, folder, seconds, rounds
        self.experiments = folder / "experiments.yaml"
        self.experiments.write_text(EXPERIMENTS)
        self.bodies = write_bodies(folder / "exposed.npz", list(_bodies()))

    def plan(self, server: Running, channels: int = 4) -> Plan:
        """Closed loop."""
        return Plan(server.target, self.bodies, seconds=self.seconds, warmup=1.0, channels=channels)

    def server(self, running: ExitStack, name: str, **options: Any) -> Running:
        """One whose files are in the folder of that name."""
        scratch = self.folder / name
        scratch.mkdir()
        log = scratch / "log" if options.pop("logs", True) else None
        logs = {"exposures": log, "access_log": scratch / "access.jsonl"}
        more = {**logs, "experiments": self.experiments} if log else {}
        return running.enter_context(serving(self.repo, scratch, workers=1, **more, **options))


def figures(repo: Path, folder: Path, seconds: float, rounds: int) -> Iterator[Figure]:
    """All of them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    exposed = Exposed(repo, folder, seconds, rounds)
    yield from _costs(exposed)
    yield from _killed(exposed)
    yield from _full(exposed)


def _bodies() -> Iterator[bytes]:
    for seed in range(BODIES):
        request = request_of(MODEL, asked(CANDIDATES, seed))
        request.unit, request.request_id = f"unit-{seed}", f"request-{seed}"
        yield request.SerializeToString()


def _costs(exposed: Exposed) -> Iterator[Figure]:
    with ExitStack() as running:
        off = exposed.server(running, "off", logs=False)
        some = exposed.server(running, "some", exposures_features=FEW)
        whole = exposed.server(running, "whole")
        before = [_worker_seconds(server) for server in (off, whole)]
        loaded = in_turns([exposed.plan(server) for server in (off, some, whole)], exposed.rounds)
        after = [_worker_seconds(server) for server in (off, whole)]
        answered = [server.counted("requests_total", code="OK") for server in (off, whole)]
        dropped = [server.counted("exposures_dropped_total") for server in (some, whole)]
    without = loaded[0].rate
    for name, on, lost, wanted in zip(("", "_whole"), loaded[1:], dropped, (">= 0.95", ">= 0.9"), strict=True):
        context = {"dropped": lost, **on._asdict()}
        yield Figure(f"serving_all_on_vs_off{name}", on.rate, "requests/s", "off", without, wanted, context=context)
    alone, logging = (1e6 * (b - a) / n for a, b, n in zip(before, after, answered, strict=True))
    yield Figure("exposures_cpu", logging, "us", "off", alone, "<= 1.1")


def _killed(exposed: Exposed) -> Iterator[Figure]:
    with ExitStack() as running:
        server = exposed.server(running, "killed")
        loaded = _while_loaded(exposed.plan(server, channels=1), lambda: _kill_worker(server), exposed.seconds / 2)
        answered = server.counted("requests_total", code="OK")
    ids = dataset.dataset(_files(exposed.folder / "killed" / "log")).to_table(columns=["event_id"])["event_id"]
    lost = (answered - len(ids.unique())) / loaded.rate
    context = {"answered": answered, **loaded._asdict()}
    yield _value("exposures_lost", lost, "s", "answers/s", loaded.rate, "<= 1", context)
    yield _value("exposures_repeated", len(ids) - len(ids.unique()), "rows", "rows", len(ids), "<= 0", context)


def _kill_worker(server: Running) -> None:
    os.kill(_worker(server), signal.SIGKILL)


def _worker(server: Running) -> int:
    """Its only one: a child of its generation, as the converter has none."""
    children = [_children(child) for child in _children(server.process.pid)]
    [[worker]] = [workers for workers in children if workers]
    return worker


def _worker_seconds(server: Running) -> float:
    """Of processor time that it has taken: see proc(5), /proc/pid/stat."""
    fields = Path(f"/proc/{_worker(server)}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _while_loaded(plan: Plan, do: Callable[[], None], after: float) -> Loaded:
    """Send, and do something meanwhile."""
    timer = threading.Timer(plan.warmup + after, do)
    timer.start()
    loaded = plan.run()
    timer.join()
    return loaded


def _full(exposed: Exposed) -> Iterator[Figure]:
    """With a converter that is stopped, so that nothing becomes free."""
    with ExitStack() as running:
        usual = exposed.server(running, "room")
        full = exposed.server(running, "full", exposures_bounds=FULL)
        for child in _children(full.process.pid):
            if not _children(child):
                os.kill(child, signal.SIGSTOP)
                running.callback(os.kill, child, signal.SIGCONT)
        with_room, without = in_turns([exposed.plan(usual), exposed.plan(full)], exposed.rounds)
        time.sleep(2.0)  # until what the worker knows is told
        answered = full.counted("requests_total", code="OK")
        dropped = full.counted("exposures_dropped_total")
        logged = full.counted("exposures_logged_total")
    yield Figure(
        "exposures_on_full_disk_p99",
        without.p99_ms,
        "ms",
        "with room",
        with_room.p99_ms,
        "<= 1.2",
        context={"dropped": dropped},
    )
    yield _value(
        "exposures_on_full_disk_counted", logged + dropped - answered, "answers", "answers", answered, "<= 0", {}
    )


def _files(log: Path) -> list[str]:
    return [str(path) for path in log.rglob("*.parquet") if WAITING not in path.parts]


def _value(
    name: str, value: float, unit: str, reference: str, reference_value: float, wanted: str, context: dict[str, Any]
) -> Figure:
    return Figure(name, value, unit, reference, reference_value, wanted, held="value", context=context)
