"""Load from several processes, so that the client is not what limits it; they begin together."""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from swrec_prod.errors import ServerError, SwrecError
from swrec_prod.serving.callers.load import LoadResult, Plan, run_plan

START = 60.0  # seconds that processes wait for each other at most
TICK = 5.0  # seconds between two lines of progress


def load(plan: Plan, bodies: Sequence[bytes], processes: int, say: Callable[[str], None]) -> LoadResult:
    """Load a server from so many processes, each with its share of the callers or of the rate.

    say: gets lines of progress. Raises our own errors where requests are not answered, ServerError when a process dies.
    """
    context = multiprocessing.get_context("spawn")  # a process that has started gRPC cannot be forked
    together, results = context.Barrier(processes), context.SimpleQueue()
    children = [
        context.Process(target=_child, args=(share, list(bodies), together, results), daemon=True)
        for share in shares(plan, processes)
    ]
    for child in children:
        child.start()
    try:
        return _merged(_collect(children, results, plan, say))
    finally:
        for child in children:
            child.terminate()
            child.join()


def shares(plan: Plan, processes: int) -> list[Plan]:
    """What each process does. A closed loop has at least one caller in each."""
    callers = [(plan.clients + i) // processes for i in range(processes)]
    return [
        dataclasses.replace(
            plan, clients=max(1, callers[i]) if plan.clients else 0, rate=plan.rate / processes, seed=plan.seed + i
        )
        for i in range(processes)
    ]


def _child(plan: Plan, bodies: list[bytes], together: Any, results: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    try:
        together.wait(START)
        results.put(asyncio.run(run_plan(plan, bodies)))
    except SwrecError as failure:
        results.put(failure)


def _collect(children: list[Any], results: Any, plan: Plan, say: Callable[[str], None]) -> list[Any]:
    """What every process has to say."""
    start, told, said = time.monotonic(), 0.0, list[Any]()
    while len(said) < len(children):
        if not results.empty():
            said.append(results.get())
            continue
        if any(child.exitcode for child in children):
            raise ServerError("a process of the load generator has died; its error stands above")
        passed = time.monotonic() - start
        if passed - told >= TICK:
            told = passed
            say(f"{passed:.0f} s of about {plan.warmup + plan.seconds:.0f} s")
        time.sleep(0.02)
    return said


def _merged(said: list[Any]) -> LoadResult:
    for failure in said:
        if isinstance(failure, Exception):
            raise failure
    for other in said[1:]:
        said[0].merge(other)
    return said[0]
