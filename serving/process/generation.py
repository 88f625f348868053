"""A generation: packages in memory, and the workers that share them.

It loads, verifies, replays and warms up the packages, and forks the workers; it never starts gRPC, and by then it has
no second thread. To serve other packages, the supervisor starts another generation beside it, and this one leaves.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass

import torch

from swrec_prod.errors import SwrecError
from swrec_prod.serving.process.link import Link, Message, pair
from swrec_prod.serving.process.loading import Wanted, load
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.watching.counts import Counts, Layout, served_by, variants_of

STARTING = 30.0  # seconds without a sign of life that a worker has until it serves, where it has fewer afterwards
LASTING = 10.0  # seconds; a worker that lived longer did not die at once
FIRST_WAIT, LONGEST_WAIT = 0.25, 30.0  # seconds before a worker that died at once is forked again


@dataclass
class Worker:
    """A worker of a place, or the wait for it. pid: 0 while there is none. due: when it is to be forked.

    begun, heard: when it was forked, and when it last said something; serves: whether it has said that it does; hung:
    whether it was killed for its silence; short: how many in a row have died at once.
    """

    place: int
    pid: int = 0
    link: Link | None = None
    begun: float = 0.0
    heard: float = 0.0
    due: float = 0.0
    serves: bool = False
    hung: bool = False
    short: int = 0


class Generation:
    """Keeps one worker in each place. wanted: what the router was made of; memory: of the workers' counts, shared with
    the supervisor.
    """

    def __init__(
        self, router: Router, wanted: Wanted, options: Options, supervisor: Link, layout: Layout, memory: memoryview
    ) -> None:
        self._router, self._wanted, self._options, self._supervisor = router, wanted, options, supervisor
        self._counted = set(variants_of(router))
        self._layout, self._slots = layout, layout.slots(memory)
        self._selector = selectors.DefaultSelector()
        self._selector.register(supervisor, selectors.EVENT_READ)
        self._workers = [Worker(place) for place in range(options.workers)]
        self._ending = False

    def run(self) -> None:
        """Until the supervisor says that it is enough and the last worker has ended."""
        while not self._ending or any(worker.pid for worker in self._workers):
            self._fork_due()
            self._kill_hung()
            for key, _ in self._selector.select(self._wait()):
                self._supervisor_says() if key.data is None else self._worker_says(key.data)

    def _wait(self) -> float | None:
        """Seconds until a worker is due, or would have been silent for too long; None where there is neither."""
        due = [self._silent(worker) if worker.pid else worker.due for worker in self._workers]
        return None if self._ending else max(0.0, min(due) - time.monotonic())

    def _silent(self, worker: Worker) -> float:
        """When it will have been silent for too long."""
        seconds = self._options.hang_seconds
        return worker.heard + (seconds if worker.serves else max(seconds, STARTING))

    def _fork_due(self) -> None:
        for worker in self._workers:
            if not (worker.pid or self._ending) and worker.due <= time.monotonic():
                self._fork(worker)

    def _kill_hung(self) -> None:
        """Its end is then dealt with as any other's."""
        for worker in self._workers:
            if worker.pid and not self._ending and self._silent(worker) <= time.monotonic():
                scored = self._layout.scored_in(self._slots[worker.place])
                doing = (
                    f"while it scores scenario {scored[0]!r} with {scored[1]}" if scored else "while it scores nothing"
                )
                silent = f"no sign of life for {time.monotonic() - worker.heard:.0f} s"
                print(f"worker {worker.place} hangs: {silent}, {doing}; it is killed", file=sys.stderr, flush=True)
                os.kill(worker.pid, signal.SIGKILL)
                worker.heard, worker.hung = time.monotonic(), True

    def _fork(self, worker: Worker) -> None:
        worker.link, theirs = pair()
        worker.begun = worker.heard = time.monotonic()
        worker.serves = worker.hung = False
        worker.pid = os.fork()
        if worker.pid == 0:
            self._become_worker(worker, theirs)
        theirs.close()
        self._selector.register(worker.link, selectors.EVENT_READ, worker)

    def _become_worker(self, worker: Worker, end: socket.socket) -> None:
        """In the child, which never returns from here."""
        code = 1
        try:
            self._close_inherited()
            from swrec_prod.serving.process.worker import work

            work(self._router, self._options, Link(end), Counts(self._layout, self._slots[worker.place], self._slots))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _close_inherited(self) -> None:
        """Ends of links that are the parent's: a worker that held them would hide that another process has ended."""
        self._selector.close()
        self._supervisor.close()
        for other in self._workers:
            if other.link is not None:
                other.link.close()

    def _supervisor_says(self) -> None:
        heard = self._supervisor.receive()
        if heard is None:
            self._selector.unregister(self._supervisor)
            heard = [{"what": "drain", "notice": 0.0, "grace": self._options.grace}]
        for order in heard:
            if order["what"] == "reload":
                self._reload()
                continue
            self._ending = True
            for worker in self._workers:
                self._pass_on(order, worker)

    def _reload(self) -> None:
        """Look at the files. Rules change here, all or none of them; whatever else is new takes another generation.

        Nothing that files may hold ends this process, which serves.
        """
        try:
            wanted = Wanted.now(self._options, self._router.experiments)
            if wanted.marks != self._wanted.marks:
                return self._supervisor.send("beside")
            if wanted.to_plain() == self._wanted.to_plain():
                return self._supervisor.send("unchanged")
            router = self._router.ruled(wanted.rules)
        except Exception as failure:
            return self._supervisor.send("refused", error=type(failure).__name__, message=str(failure))
        if not self._counted.issuperset(variants_of(router)):
            return self._supervisor.send("beside")
        self._router, self._wanted = router, wanted
        self._supervisor.send("ruling", held=wanted.to_plain())
        for worker in self._workers:
            self._pass_on({"what": "rule", "rules": wanted.rules.to_plain()}, worker)

    def _pass_on(self, order: Message, worker: Worker) -> None:
        if worker.link is None:
            return
        if order["what"] == "end":
            os.kill(worker.pid, signal.SIGKILL)
        else:
            worker.link.send(**order)

    def _worker_says(self, worker: Worker) -> None:
        assert worker.link is not None
        heard = worker.link.receive()
        if heard is None:
            return self._bury(worker)
        worker.heard = time.monotonic()
        for message in (message for message in heard if message["what"] != "alive"):
            self._supervisor.send(**message, worker=worker.place)
            self._ending |= message["what"] == "failed"
            worker.serves |= message["what"] == "serving"

    def _bury(self, worker: Worker) -> None:
        """A worker's link is closed: it has ended. Unless this was meant, say why, and when there will be another."""
        assert worker.link is not None
        self._selector.unregister(worker.link)
        worker.link.close()
        _, status = os.waitpid(worker.pid, 0)
        pid, worker.pid, worker.link = worker.pid, 0, None
        if self._ending:
            return
        now = time.monotonic()
        worker.short = worker.short + 1 if now - worker.begun < LASTING else 0
        wait = min(FIRST_WAIT * 2 ** (worker.short - 2), LONGEST_WAIT) if worker.short > 1 else 0.0
        worker.due = now + wait
        self._supervisor.send(
            "died", worker=worker.place, pid=pid, why="hung" if worker.hung else cause(status), wait=wait
        )


def main() -> None:
    """The process: arguments are file descriptors of the link and of the counts' memory, the options as JSON, and what
    another one held that this one is to take the place of, or whether it serves meanwhile.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the supervisor tells what to do, also where a group gets a signal
    torch.set_num_interop_threads(1)
    link, memory = Link(socket.socket(fileno=int(sys.argv[1]))), int(sys.argv[2])
    options, begin = Options.from_json(sys.argv[3]), json.loads(sys.argv[4])
    try:
        wanted = Wanted.as_before(options, begin["held"]) if begin["held"] else Wanted.now(options)
        router = load(wanted, options, link, beside=begin["beside"])
    except (SwrecError, OSError) as failure:
        return link.send("failed", error=type(failure).__name__, message=str(failure))
    layout = Layout(served := served_by(router), variants := variants_of(router))
    os.ftruncate(memory, layout.bytes(options.workers))
    shared = memoryview(mmap.mmap(memory, layout.bytes(options.workers)))
    link.send("loaded", served=served, variants=variants, held=wanted.to_plain())
    gc.collect()
    gc.freeze()  # a collection in a worker would write to all of the shared memory
    Generation(router, wanted, options, link, layout, shared).run()


def cause(status: int) -> str:
    """Why a process ended, of its wait status: `exit code 1`, `signal 9 (SIGKILL)`."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    return f"signal {-code} ({signal.Signals(-code).name})"


if __name__ == "__main__":
    main()
