"""`make bench-serving`: what the server holds under load, on one machine, client and server sharing its cores.

About 10 minutes on 2 quiet cores; --quick in a third of it.

serving_n100_vs_echo       SharedBottom, 100 candidates of 8 ids: requests/s against a no-op method of the same server,
                           both with a worker for each core; *_1worker: with one
serving_n1000_vs_forward   1,000 candidates: requests/s against a loop of forwards alone, in one thread
serving_2workers           requests/s of two workers against one, 1,000 candidates; *_n100 and *_mscan: of lighter and
                           heavier requests
serving_n<N>_p99           milliseconds at 16 clients
overload_goodput           M-scan, 500 candidates, offered twice what the server can do, with deadlines of 100 ms:
                           answers in time against what it can do
overload_5x_goodput        the same, offered five times
overload_*_refused_p99     milliseconds until a call is refused; _wasted: share of forwards whose answer came too late;
                           _recovered: seconds until it is as before; _memory: MiB that it has grown by
serving_own_ms_n100, ...   of benchmarks/serving/path.py: where the time of a request goes, in process
hot_change_*              of benchmarks/serving/hot_change.py: what changes of the served version cost those who call
mscan_user_once, fold_*    of benchmarks/serving/forward.py: what is computed once for all candidates of a request
serving_all_on_vs_off, exposures_*   of benchmarks/serving/exposures.py: experiments and the exposure log

Raw values are encoded, the scenario is routed and everything is counted, as in `swrec serve`. 64 answers are checked
against the package before anything is measured. What is compared is measured in turns; figures are of the median turn.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks.record import Figure, report
from benchmarks.serving import exposures, forward, hot_change, models, path
from benchmarks.serving.answers import check, forwards_per_second, reply_bytes
from benchmarks.serving.load import Loaded, Plan, in_turns, write_bodies
from benchmarks.serving.server import Running, echo, serving

FOLDER = Path("build/bench/serving")
TARGET = "bench-serving"
CLIENTS, CHANNELS = 16, 4
BODIES = 64
DEADLINE_MS = 100.0
OVERLOADS = {2: "overload", 5: "overload_5x"}  # times what it can do -> name
P99_WANTED = {100: "<= 15", 1000: "<= 25"}


class Length(NamedTuple):
    """How long to measure. seconds, warmup: of one turn; rounds: turns."""

    seconds: float
    warmup: float
    rounds: int


CHANGES, QUICK_CHANGES = 20, 2
WHOLE, QUICK = Length(6.0, 1.5, 3), Length(2.0, 0.5, 1)


class Bench:
    """The packages, their requests, and how long to measure. files: of requests, by model and number of candidates."""

    def __init__(self, folder: Path, length: Length) -> None:
        self.folder, self.length = folder, length
        self.repo = models.publish(folder / "repo", folder / "data", ("shared_bottom", "mscan"))
        self.files: dict[tuple[str, int], str] = {}

    def plan(self, server: Running, model: str, candidates: int) -> Plan:
        """Closed loop."""
        length = self.length
        return Plan(
            server.target,
            self._file(model, candidates),
            seconds=length.seconds,
            warmup=length.warmup,
            clients=CLIENTS,
            channels=CHANNELS,
        )

    def _file(self, model: str, candidates: int) -> str:
        key = model, candidates
        if key not in self.files:
            messages = models.bodies(model, candidates, BODIES)
            self.files[key] = write_bodies(self.folder / f"{model}_{candidates}.npz", messages)
        return self.files[key]


def main() -> None:
    """Measure and report, part by part."""
    options = _parser().parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    bench = Bench(FOLDER, QUICK if options.quick else WHOLE)
    parts = {
        "cores": every_core,
        "one": one_worker,
        "two": two_workers,
        "overload": overload,
        "path": in_process,
        "exposures": exposed,
        "changes": changes,
    }
    for name in options.parts:
        if name not in parts:
            _parser().error(f"{name}: no such part; known: {', '.join(parts)}")
    for name in options.parts or parts:
        print(f"{TARGET}: {name}", flush=True)
        report(TARGET, list(parts[name](bench)), {"threads": 1, "seconds": bench.length.seconds})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help="of cores, one, two, overload, path, exposures, changes; default: each of them",
    )
    parser.add_argument("--quick", action="store_true", help="2 seconds a turn, one turn")
    return parser


def changes(bench: Bench) -> Iterator[Figure]:
    """A few changes; `python -m benchmarks.serving.hot_change` makes 200."""
    yield from hot_change.figures(CHANGES if bench.length is WHOLE else QUICK_CHANGES)


def one_worker(bench: Bench) -> Iterator[Figure]:
    """Throughput of one worker against the echo and against forwards, and the latency meanwhile."""
    yield from _throughput(bench, 1, "_1worker")


def every_core(bench: Bench) -> Iterator[Figure]:
    """The same with a worker for each core, as `swrec serve` starts them on a machine of two."""
    yield from _throughput(bench, os.cpu_count() or 1, "")


def _throughput(bench: Bench, workers: int, suffix: str) -> Iterator[Figure]:
    with serving(bench.repo, bench.folder, workers=workers) as server:
        check(bench.repo, server.target, BODIES)
        channels = CHANNELS if workers == 1 else CLIENTS
        yield from _against_echo(bench, server, channels, suffix)
        yield from _against_forward(bench, server, channels, suffix)


def _against_echo(bench: Bench, server: Running, channels: int, suffix: str) -> Iterator[Figure]:
    plan = bench.plan(server, "shared_bottom", 100)._replace(channels=channels)
    no_op = echo(reply_bytes(server.target, "shared_bottom", 100))
    floor, scored = in_turns([plan._replace(method=no_op), plan], bench.length.rounds)
    wanted = "" if suffix else ">= 0.45"
    yield _ratio(f"serving_n100_vs_echo{suffix}", scored, "no-op method of the same server", floor.rate, wanted)
    yield _p99(f"serving_n100_p99{suffix}", scored, P99_WANTED[100])


def _against_forward(bench: Bench, server: Running, channels: int, suffix: str) -> Iterator[Figure]:
    plan = bench.plan(server, "shared_bottom", 1000)._replace(channels=channels)
    turns = [
        (forwards_per_second(bench.repo / "shared_bottom" / "1", 1000, bench.length.seconds / 2), plan.run())
        for _ in range(bench.length.rounds)
    ]
    forwards, scored = sorted(turns, key=lambda turn: turn[1].rate / turn[0])[bench.length.rounds // 2]
    wanted = "" if suffix else ">= 0.6"
    yield _ratio(f"serving_n1000_vs_forward{suffix}", scored, "forwards alone, one thread", forwards, wanted)
    yield _p99(f"serving_n1000_p99{suffix}", scored, P99_WANTED[1000])


def two_workers(bench: Bench) -> Iterator[Figure]:
    """Two against one. With more connections than workers, since a connection stays with the worker that it came to."""
    cases = {
        "serving_2workers": ("shared_bottom", 1000, ">= 1.5"),
        "serving_2workers_n100": ("shared_bottom", 100, ""),
        "serving_2workers_mscan": ("mscan", 500, ""),
    }
    with ExitStack() as running:
        servers = []
        for workers in (1, 2):
            scratch = bench.folder / f"{workers}"
            scratch.mkdir(exist_ok=True)
            servers.append(running.enter_context(serving(bench.repo, scratch, workers=workers)))
        for name, (model, candidates, wanted) in cases.items():
            plans = [bench.plan(server, model, candidates)._replace(channels=CLIENTS) for server in servers]
            one, two = in_turns(plans, bench.length.rounds)
            yield _ratio(name, two, "one worker", one.rate, wanted)


def overload(bench: Bench) -> Iterator[Figure]:
    """Open loops of more than one worker can do."""
    with serving(bench.repo, bench.folder, workers=1) as server:
        plan = bench.plan(server, "mscan", 500)
        able = in_turns([plan], bench.length.rounds)[0].rate
        for times, name in OVERLOADS.items():
            memory, forwards = server.memory(), server.counted("forward_seconds_count")
            loaded = plan._replace(rate=times * able, deadline_ms=DEADLINE_MS).run()
            forwards = server.counted("forward_seconds_count") - forwards
            wasted = 1 - loaded.in_time / (forwards or math.nan)
            yield _overloaded(name, loaded, able, times)
            yield from _under_overload(name, loaded, wasted, server.memory() - memory)


def _overloaded(name: str, loaded: Loaded, able: float, times: int) -> Figure:
    context = {"offered": times * able, **loaded._asdict()}
    return Figure(
        f"{name}_goodput", loaded.goodput, "requests/s", "what it can do, closed loop", able, ">= 0.9", context=context
    )


def _under_overload(name: str, loaded: Loaded, wasted: float, grown: float) -> Iterator[Figure]:
    unexpected = sum(
        number for code, number in loaded.codes.items() if code not in ("OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")
    )
    recovered = float("inf") if loaded.recovered is None else loaded.recovered
    yield _value(f"{name}_accepted_p99", loaded.p99_ms, "ms", "deadline", DEADLINE_MS, f"<= {DEADLINE_MS:g}")
    yield _value(f"{name}_refused_p99", loaded.refused_p99_ms, "ms", "accepted", loaded.p99_ms, "<= 10")
    yield _value(f"{name}_other_codes", unexpected, "calls", "calls", sum(loaded.codes.values()), "<= 0")
    yield _value(f"{name}_wasted", wasted, "of forwards", "none", 0.0, "<= 0.01")
    yield _value(f"{name}_recovered", recovered, "s", "none", 0.0, "<= 1")
    yield _value(f"{name}_memory", grown, "MiB", "none", 0.0, "<= 50")
    if loaded.pushed_back is not None:
        yield _value(f"{name}_pushed_back", loaded.pushed_back, "of refusals", "all", 1.0, ">= 1")


def in_process(bench: Bench) -> list[Figure]:
    """Parts of a request, without sockets."""
    return [*path.figures(), *forward.figures()]


def exposed(bench: Bench) -> Iterator[Figure]:
    """What experiments and exposures cost, and what is lost of them."""
    return exposures.figures(bench.repo, bench.folder / "exposed", bench.length.seconds, bench.length.rounds)


def _ratio(name: str, loaded: Loaded, reference: str, value: float, wanted: str) -> Figure:
    return Figure(name, loaded.rate, "requests/s", reference, value, wanted, context=loaded._asdict())


def _p99(name: str, loaded: Loaded, wanted: str) -> Figure:
    return _value(name, loaded.p99_ms, "ms", "p50", loaded.p50_ms, wanted)


def _value(name: str, value: float, unit: str, reference: str, reference_value: float, wanted: str) -> Figure:
    return Figure(name, value, unit, reference, reference_value, wanted, held="value")


if __name__ == "__main__":
    main()
