"""A share of a backfill done by several processes here. A worker ends when the command that began it does."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from swrec_prod.errors import SwrecError
from swrec_prod.judge.backfill import Share, judge_share
from swrec_prod.judge.request import Request


def judge_in_processes(request: Request, out: Path, share: Share, jobs: int) -> None:
    """`judge_share` by `jobs` processes, each with its own part and its part of the cores.

    Raises what a worker raised, once the others are done with their day; RuntimeError for one that was killed.
    """
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    workers: dict[BaseProcess, Connection] = {}
    for number in range(jobs):
        theirs, ours = context.Pipe()
        worker: BaseProcess = context.Process(
            target=_work, args=(request, out, share.part(number, jobs), threads, theirs)
        )
        worker.start()
        theirs.close()
        workers[worker] = ours
    try:
        _await(workers)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _await(workers: dict[BaseProcess, Connection]) -> None:
    """Until all are done, or one of them has failed."""
    left = dict(workers)
    while left:
        wait([worker.sentinel for worker in left])
        for worker in [worker for worker in left if not worker.is_alive()]:
            _raise_failure(worker, left.pop(worker))


def _raise_failure(worker: BaseProcess, answers: Connection) -> None:
    """Raise what a worker that has ended has raised."""
    worker.join()
    if answers.poll():
        failure = answers.recv()
        if failure is not None:
            raise failure
    elif worker.exitcode:
        raise RuntimeError(f"a worker ended with code {worker.exitcode}; run swrec backfill again, it goes on")


def _work(request: Request, out: Path, share: Share, threads: int, answers: Connection) -> None:
    """What a worker does. Answers None, or the error that a user can mend."""
    import torch

    from swrec_prod.train.distributed import quiet_libraries

    quiet_libraries()
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        judge_share(request, out, share, _say)
    except SwrecError as failure:
        answers.send(failure)
    else:
        answers.send(None)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
