"""The process that `swrec serve` is: it holds the address, keeps a generation alive, and ends it in good order.

It imports neither torch nor gRPC, so that it is small, and nothing of theirs can take it down.

    supervisor          this file: signals, metrics, the port file, exit codes
      generation        a process with the packages in memory (process/generation.py)
        worker ...      forks of it that answer calls (process/worker.py)
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import NoReturn

from swrec_prod import errors
from swrec_prod.errors import ServerError
from swrec_prod.files import write_text
from swrec_prod.serving.process.address import reserved, target
from swrec_prod.serving.process.converting import converting
from swrec_prod.serving.process.link import Link, Message, pair
from swrec_prod.serving.process.metrics import Tally, exposed
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.service.counts import Served

MODULE = "swrec_prod.serving.process.generation"
SPARE = 5.0  # seconds over notice and grace, after which a generation that should have ended is killed
NEEDED = ("torch", "fbgemm_gpu")  # by the processes that it starts
AGAIN = 1.0  # seconds before a generation that has ended unasked is started again

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


class Child:
    """A generation, seen from the supervisor. counts: a file in memory, as large as the generation makes it."""

    def __init__(self, options: Options) -> None:
        self.link, theirs = pair()
        self.counts = os.memfd_create("swrec-counts")
        os.set_inheritable(theirs.fileno(), True)
        command = [sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), str(self.counts), options.to_json()]
        self.process = subprocess.Popen(
            command, env=_environment(options), pass_fds=(theirs.fileno(), self.counts), start_new_session=True
        )
        theirs.close()

    def memory(self) -> memoryview:
        """The workers' counts."""
        return memoryview(mmap.mmap(self.counts, 0, prot=mmap.PROT_READ))

    def end(self) -> None:
        """Leave nothing of it behind."""
        self.link.send("end")
        self.link.close()
        os.close(self.counts)
        try:
            self.process.wait(SPARE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Supervisor:
    """One server. What happens is a message in one queue, and the method of that name deals with it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._address = target(options.host, options.port)
        self._events = asyncio.Queue[Message]()
        self._tally = Tally()
        self._served: list[Served] = []
        self._serving: set[int] = set()  # workers that accept calls
        self._ready = self._stopping = False

    async def run(self) -> None:
        """Until a signal. Raises the error of a generation that cannot serve."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._put, "signal", number)
        with self._metrics():
            async with converting(self.options.exposures, _environment(self.options)):
                while not self._stopping:
                    await self._generation()

    async def _generation(self) -> None:
        """Start a generation, and do what there is to do until it has ended."""
        self._child = Child(self.options)
        asyncio.get_running_loop().add_reader(self._child.link.fileno(), self._hear, self._child.link)
        try:
            while (message := await self._events.get())["what"] != "gone":
                getattr(self, f"_on_{message.pop('what')}")(**message)
        finally:
            asyncio.get_running_loop().remove_reader(self._child.link.fileno())
            self._child.end()
        if not self._stopping:
            await self._after(_cause(self._child.process.returncode))

    async def _after(self, cause: str) -> None:
        """The generation has ended by itself: there has to be another one, unless this one never served."""
        if not self._ready:
            raise ServerError(f"the process that loads packages ended: {cause}; is there memory for them?")
        _log.error("the process of the packages ended: %s; another one begins in %g s", cause, AGAIN)
        self._serving.clear()
        self._tally.workers = 0
        await asyncio.sleep(AGAIN)

    def _hear(self, link: Link) -> None:
        heard = link.receive()
        if heard is None:
            asyncio.get_running_loop().remove_reader(link.fileno())
            return self._put("gone")
        for message in heard:
            self._events.put_nowait(message)

    def _put(self, what: str, *number: int) -> None:
        self._events.put_nowait({"what": what, **({"number": number[0]} if number else {})})

    def _on_loading(self, packages: list[str]) -> None:
        print(f"loading {', '.join(packages)}", flush=True)

    def _on_loaded(self, served: list[list[object]], variants: list[list[str]]) -> None:
        self._served = [Served(*fields) for fields in served]  # type: ignore[arg-type]
        self._tally.begin(self._served, self._child.memory(), [(key, name) for key, name in variants])

    def _on_serving(self, worker: int, pid: int) -> None:
        self._serving.add(worker)
        self._tally.workers = len(self._serving)
        if self._ready:
            _log.warning("worker %d serves again, as process %d", worker, pid)
        elif len(self._serving) == self.options.workers:
            self._announce()

    def _on_died(self, worker: int, pid: int, why: str, wait: float) -> None:
        self._serving.discard(worker)
        self._tally.workers = len(self._serving)
        self._tally.restarts[why] += 1
        when = f"in {wait:g} s" if wait else "at once"
        _log.error("worker %d, process %d, ended: %s; another one begins %s", worker, pid, why, when)

    def _on_failed(self, error: str, message: str, worker: int = 0) -> NoReturn:
        raise getattr(errors, error, OSError)(message)

    def _on_signal(self, number: int) -> None:
        """The first signal drains; the second one, or one that comes before there is what to drain, ends at once."""
        if not self._ready:
            self._child.process.kill()  # it is loading, and hears nothing
            if number == signal.SIGINT:
                raise KeyboardInterrupt
        elif self._stopping:
            self._put("gone")
        else:
            notice = self.options.notice if number == signal.SIGTERM else 0.0
            self._child.link.send("drain", notice=notice, grace=self.options.grace)
            asyncio.get_running_loop().call_later(notice + self.options.grace + SPARE, self._put, "gone")
        self._stopping = True

    def _announce(self) -> None:
        self._ready = True
        by_name: dict[str, list[str]] = {}
        for package in self._served:
            by_name.setdefault(package.model, []).append(package.version)
        for name, versions in by_name.items():
            print(f"serving {name}/{', '.join(versions)} on {self._address}", flush=True)
        if self.options.port_file is not None:
            write_text(self.options.port_file, f"{self.options.port}\n")

    @contextlib.contextmanager
    def _metrics(self) -> Iterator[None]:
        if self.options.metrics_port is None:
            yield
            return
        with exposed(self._tally, self.options.metrics_host, self.options.metrics_port) as port:
            print(f"metrics on http://{target(self.options.metrics_host, port)}/metrics", flush=True)
            yield


def _environment(options: Options) -> dict[str, str]:
    """Of a generation: this process's modules, and libraries that neither spin, nor talk, nor take more cores."""
    return {
        "OMP_WAIT_POLICY": "passive",
        "OMP_NUM_THREADS": str(options.threads),
        "GRPC_VERBOSITY": "NONE",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }


def _cause(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"
