"""The server under test, as `swrec serve` runs it, with one method more: an echo, the floor of what gRPC costs here.

The echo goes the way of every call, through the same processes, options and gate, and does nothing: it takes the bytes
of a request and returns as many as an answer has. What Score takes beyond it is our own work.

    python -m benchmarks.serving.server OPTIONS_AS_JSON       the server
    python -m benchmarks.serving.server LINK COUNTS OPTIONS   its process of packages, which the supervisor starts
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from prometheus_client.parser import text_string_to_metric_families

from swrec_prod.serving.process import supervisor
from swrec_prod.serving.process.options import Options

MODULE = "benchmarks.serving.server"
SERVICE = "swrec.bench.Echo"
STARTING = 120.0  # seconds


class Running(NamedTuple):
    """A server. target: host:port; metrics: URL; process: of the supervisor."""

    target: str
    metrics: str
    process: subprocess.Popen[bytes]

    def counted(self, name: str, **labels: str) -> float:
        """The sum of a metric over all series that have these labels."""
        text = urllib.request.urlopen(self.metrics, timeout=10).read().decode()
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return sum(s.value for s in samples if s.name == f"scorer_{name}" and labels.items() <= s.labels.items())

    def memory(self) -> float:
        """MiB that its processes hold, what they share counted once."""
        return sum(_proportional_kib(process) for process in _family(self.process.pid)) / 1024

    def files(self) -> int:
        """Open file descriptors of all its processes."""
        return sum(len(list(Path(f"/proc/{process}/fd").iterdir())) for process in _family(self.process.pid))


@contextmanager
def serving(repo: Path, scratch: Path, **options: Any) -> Iterator[Running]:
    """A server on a free port. options: fields of Options."""
    port_file = scratch / "port"
    port_file.unlink(missing_ok=True)
    metrics_port = _free_port()
    given = Options(repo, port=0, port_file=port_file, notice=0.0, metrics_port=metrics_port, **options)
    process = subprocess.Popen([sys.executable, "-m", MODULE, given.to_json()], stdout=subprocess.DEVNULL)
    try:
        _wait(process, port_file)
        yield Running(f"127.0.0.1:{port_file.read_text().strip()}", f"http://127.0.0.1:{metrics_port}/metrics", process)
    finally:
        process.terminate()
        process.wait(60)


def _wait(process: subprocess.Popen[bytes], port_file: Path) -> None:
    deadline = time.monotonic() + STARTING
    while not port_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not come up within {STARTING:g} s; exit code {process.poll()}")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _family(process: int) -> Iterator[int]:
    yield process
    for tasks in Path(f"/proc/{process}/task").glob("*/children"):
        for child in tasks.read_text().split():
            yield from _family(int(child))


def _proportional_kib(process: int) -> int:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def echo(reply: int) -> str:
    """The method that returns so many bytes."""
    return f"/{SERVICE}/{reply}"


class Echo(grpc.GenericRpcHandler):
    """Methods are numbers: how many bytes to return."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler of a call's method."""
        service, _, size = details.method[1:].partition("/")
        if service != SERVICE:
            return None
        reply = bytes(int(size))

        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return reply

        return grpc.unary_unary_rpc_method_handler(answer)


def _with_echo(services: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def more(*arguments: Any) -> dict[str, Any]:
        return {**services(*arguments), SERVICE: Echo()}

    return more


def main() -> None:
    """Either of the two processes."""
    if len(sys.argv) == 2:
        supervisor.MODULE = MODULE
        return supervisor.serve(Options.from_json(sys.argv[1]))
    from swrec_prod.serving.process import generation, server

    server.services = _with_echo(server.services)
    generation.main()


if __name__ == "__main__":
    main()
