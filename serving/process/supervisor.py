"""The process that `swrec serve` is: it holds the address, keeps a generation alive, and ends it in good order.

It imports neither torch nor gRPC, so that it is small, and nothing of theirs can take it down.

    supervisor          this file: signals, changes, metrics, the port file, exit codes
      generation        a process with the packages in memory (process/generation.py)
        worker ...      forks of it that answer calls (process/worker.py)

At SIGHUP, or when it is asked to (process/admin.py, process/watch.py), it has the generation look at the files. Where
routes, experiments or labels alone have changed, its workers route by the new ones from the next request on. For other
packages a second generation is started beside the first one; when it has checked and warmed them, and all of its
workers accept calls, those of the first one leave (process/leaving.py). Whatever goes wrong before that ends the second
one only. There are never more than two.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
from functools import partial
from importlib.util import find_spec
from typing import Any

from swrec_prod import errors
from swrec_prod.errors import ServerError
from swrec_prod.files import write_text
from swrec_prod.serving.process.address import reserved
from swrec_prod.serving.process.admin import listening
from swrec_prod.serving.process.change import Change, Changes, Outcome
from swrec_prod.serving.process.child import SPARE, Child, environment
from swrec_prod.serving.process.converting import converting
from swrec_prod.serving.process.leaving import patience
from swrec_prod.serving.process.link import Message
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.process.watch import watching
from swrec_prod.serving.protocol.target import target
from swrec_prod.serving.watching.counts import Served
from swrec_prod.serving.watching.http import exposed
from swrec_prod.serving.watching.metrics import Tally

MODULE = "swrec_prod.serving.process.generation"
NEEDED = ("torch", "fbgemm_gpu")  # by the processes that it starts
AGAIN = 1.0  # seconds before a generation that has ended unasked is started again
LONGEST = 900.0  # seconds in which a generation that is started beside another one has to be there

_log = logging.getLogger(__name__)


def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ConfigError for an address or a certificate, PackageError for a package that cannot be served, ServerError
    when packages cannot be loaded for another reason, ModuleNotFoundError for what is not installed.
    """
    for name in NEEDED:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    options = options.checked()
    with reserved(options.host, options.port) as port:
        asyncio.run(Supervisor(dataclasses.replace(options, port=port)).run())


class Supervisor:
    """One server. What happens is a message in one queue, and the method of that name deals with it.

    child: the generation that serves, None while there is none; coming: the one that is to take its place; leaving: the
    one before, which still answers on connections that it has.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._address = target(options.host, options.port)
        self._events = asyncio.Queue[Message]()
        self._child: Child | None = None
        self._coming: Child | None = None
        self._leaving: Child | None = None
        self._changes = Changes()
        self._tally = Tally(self._changes.reloads)
        self._tally.wanted = options.workers
        self._unruled: set[int] = set()  # workers that have not said yet that they route by new rules
        self._ready = self._stopping = self._halted = False

    async def run(self) -> None:
        """Until a signal. Raises the error of a generation that cannot serve."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, partial(self._put, "signal", number=number))
        loop.add_signal_handler(signal.SIGHUP, self._ask, "SIGHUP")
        with exposed(self._tally, self.options.metrics_host, self.options.metrics_port):
            async with (
                converting(self.options.exposures, environment(self.options)),
                listening(self.options.admin, self.reload),
                watching(self.options, partial(self._ask, "watch")),
            ):
                try:
                    self._child = self._begin()
                    while not (self._halted or (self._stopping and not self._alive())):
                        await self._next_event()
                finally:
                    for child in self._alive():
                        self._bury(child)

    async def reload(self) -> Outcome:
        """Look at the files, and serve what they say or say why not."""
        future = asyncio.get_running_loop().create_future()
        self._ask("admin").asked.append(future)
        outcome: Outcome = await future
        return outcome

    def _alive(self) -> list[Child]:
        return [child for child in (self._child, self._coming, self._leaving) if child is not None]

    async def _next_event(self) -> None:
        message = await self._events.get()
        if "child" not in message or message["child"] in self._alive():  # else what one has said that is gone
            getattr(self, f"_on_{message.pop('what')}")(**message)

    def _begin(self, held: dict[str, Any] | None = None, *, beside: bool = False) -> Child:
        """A generation: of what files say, or of what another one held."""
        child = Child(MODULE, self.options, held, beside)
        asyncio.get_running_loop().add_reader(child.link.fileno(), self._hear, child)
        return child

    def _hear(self, child: Child) -> None:
        heard = child.link.receive()
        if heard is None:
            asyncio.get_running_loop().remove_reader(child.link.fileno())
            return self._put("gone", child=child)
        for message in heard:
            self._events.put_nowait({**message, "child": child})

    def _put(self, what: str, **content: Any) -> None:
        self._events.put_nowait({"what": what, **content})

    def _later(self, seconds: float, what: str, **content: Any) -> None:
        asyncio.get_running_loop().call_later(seconds, partial(self._put, what, **content))

    def _bury(self, child: Child) -> None:
        """Leave nothing of it behind, but what it has counted."""
        asyncio.get_running_loop().remove_reader(child.link.fileno())
        child.end()
        if child.counted is not None:
            self._tally.end(child.counted)
        self._child, self._coming, self._leaving = (
            None if one is child else one for one in (self._child, self._coming, self._leaving)
        )

    # What generations say

    def _on_loading(self, child: Child, packages: list[str]) -> None:
        print(f"loading {', '.join(packages)}", flush=True)

    def _on_stage(self, child: Child, stage: str, package: str) -> None:
        child.stage = stage
        if self._changes.current and child is self._coming:
            self._changes.current.stage = stage

    def _on_loaded(
        self, child: Child, served: list[list[Any]], variants: list[list[str]], held: dict[str, Any]
    ) -> None:
        child.served, child.held = [Served(*fields) for fields in served], held
        child.variants = [(experiment, variant) for experiment, variant in variants]
        child.counted = self._tally.begin(child.served, child.memory(), child.variants)
        if self._changes.current and child is self._coming:
            self._changes.current.stage = "start"

    def _on_serving(self, child: Child, worker: int, pid: int) -> None:
        child.serving.add(worker)
        is_new = not child.is_ready
        child.is_ready |= len(child.serving) == self.options.workers
        if child is self._coming:
            return self._swap() if child.is_ready else None
        self._count_workers()
        if self._ready:
            _log.warning("worker %d serves again, as process %d", worker, pid)
        if is_new and child.is_ready:
            self._announce()

    def _on_died(self, child: Child, worker: int, pid: int, why: str, wait: float) -> None:
        child.serving.discard(worker)
        self._count_workers()
        self._tally.restarts[why] += 1
        if child is self._coming:
            return self._refuse(f"worker {worker} ended: {why}")
        when = f"in {wait:g} s" if wait else "at once"
        _log.error("worker %d, process %d, ended: %s; another one begins %s", worker, pid, why, when)
        self._on_ruled(child, worker)  # the next one begins with the new rules

    def _on_failed(self, child: Child, error: str, message: str, worker: int = 0) -> None:
        if child is self._coming:
            return self._refuse(f"{error}: {message}")
        if child is self._leaving:
            return _log.error("a worker that leaves: %s: %s", error, message)
        raise getattr(errors, error, OSError)(message)

    def _on_gone(self, child: Child) -> None:
        """A generation has ended."""
        was_serving, was_coming = child is self._child, child is self._coming
        self._bury(child)
        if was_coming:
            self._refuse(f"the process that loads packages ended: {child.cause()}; is there memory for them?")
        elif was_serving and not self._stopping:
            self._replace(child.cause())
        self._go_on()

    def _replace(self, cause: str) -> None:
        """The generation has ended by itself: there has to be another one, unless this one never served."""
        if not self._ready:
            raise ServerError(f"the process that loads packages ended: {cause}; is there memory for them?")
        _log.error("the process of the packages ended: %s; another one begins in %g s", cause, AGAIN)
        self._count_workers()
        self._refuse("the process that serves has ended meanwhile")
        self._later(AGAIN, "again")

    def _on_again(self) -> None:
        """What served before serves again, whatever files say now: it is known to be good."""
        if not self._stopping:
            self._child = self._begin(self._tally.held)

    def _count_workers(self) -> None:
        self._tally.workers = len(self._child.serving) if self._child else 0

    def _announce(self) -> None:
        """What serves now."""
        assert self._child is not None
        self._tally.served, self._tally.held = self._child.served, self._child.held
        by_name: dict[str, list[str]] = {}
        for package in self._child.served:
            by_name.setdefault(package.model, []).append(package.version)
        for name, versions in by_name.items():
            print(f"serving {name}/{', '.join(versions)} on {self._address}", flush=True)
        if not self._ready and self.options.port_file is not None:
            write_text(self.options.port_file, f"{self.options.port}\n")
        self._ready = True
        self._go_on()

    # Changes

    def _ask(self, by: str) -> Change:
        """A wish for a change. It is made at once, or after the one that is being made, by one look for all wishes."""
        change = self._changes.ask(by)
        self._go_on()
        return change

    def _go_on(self) -> None:
        """Begin with the next change when it can be, or go on with the one that waited for a generation to be gone."""
        if self._stopping:
            return
        changes = self._changes
        if (
            changes.current is None
            and changes.following is not None
            and self._child is not None
            and self._child.is_ready
        ):
            changes.begin()
            self._child.link.send("reload")
        elif changes.current is not None and changes.current.stage == "waiting" and self._leaving is None:
            self._load_beside(changes.current)

    def _on_beside(self, child: Child) -> None:
        assert self._changes.current is not None
        if self._leaving is None:
            return self._load_beside(self._changes.current)
        self._changes.current.stage = "waiting"

    def _load_beside(self, change: Change) -> None:
        change.stage = "files"
        self._coming = self._begin(beside=True)
        self._later(LONGEST, "overdue", child=self._coming)

    def _on_overdue(self, child: Child) -> None:
        if child is self._coming:
            self._refuse(f"not within {LONGEST:g} s")

    def _swap(self) -> None:
        """The generation that was to come serves; the one before leaves."""
        self._child, self._coming, self._leaving = self._coming, None, self._child
        if self._leaving is not None:
            seconds = patience(self.options.connection_age)
            self._leaving.link.send("leave", seconds=seconds, grace=self.options.grace)
            self._later(seconds + self.options.grace + SPARE, "left", child=self._leaving)
        self._count_workers()
        if self._changes.current is not None:
            self._changes.current.stage = "swap"
        self._finish("changed")
        self._announce()

    def _on_left(self, child: Child) -> None:
        """By now it should have."""
        if child is self._leaving:
            self._bury(child)
            self._go_on()

    def _on_ruling(self, child: Child, held: dict[str, Any]) -> None:
        assert self._changes.current is not None
        child.held = self._tally.held = held
        self._changes.current.stage, self._unruled = "rules", set(child.serving)
        self._on_ruled(child)

    def _on_ruled(self, child: Child, worker: int = -1) -> None:
        self._unruled.discard(worker)
        if (
            child is self._child
            and self._changes.current
            and self._changes.current.stage == "rules"
            and not self._unruled
        ):
            self._finish("changed")

    def _on_unchanged(self, child: Child) -> None:
        self._finish("unchanged")

    def _on_refused(self, child: Child, error: str, message: str) -> None:
        self._refuse(f"{error}: {message}")

    def _refuse(self, reason: str) -> None:
        """The change is not made, and nothing of it is left."""
        if self._coming is not None:
            self._bury(self._coming)
        self._finish("refused", reason)

    def _finish(self, result: str, reason: str = "") -> None:
        serving = [f"{package.model}/{package.version}" for package in (self._child.served if self._child else ())]
        self._changes.finish(result, reason, serving)
        self._go_on()

    # The end

    def _on_signal(self, number: int) -> None:
        """The first signal drains; the second one, or one that comes before there is what to drain, ends at once."""
        if not self._ready:
            self._halted = True
            if number == signal.SIGINT:
                raise KeyboardInterrupt
        elif self._stopping:
            self._halted = True
        else:
            self._drain(self.options.notice if number == signal.SIGTERM else 0.0)

    def _drain(self, notice: float) -> None:
        self._stopping = True
        self._refuse("the server is about to end")
        for child in self._alive():
            child.link.send("drain", notice=notice, grace=self.options.grace)
        self._later(notice + self.options.grace + SPARE, "late")

    def _on_late(self) -> None:
        self._halted = True
