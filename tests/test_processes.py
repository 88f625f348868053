"""The server's processes: workers on one port, one that dies, drains, the address, counts, TLS, and shared memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.handlers
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from commands import refused as wrong
from commands import succeeds, swrec
from grpc._cython.cygrpc import ExecuteBatchError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from runs import PATIENCE, until, wait_for
from tiny_world import ITEMS, SCHEMA, USER, launch, prepare, publish

from swrec_prod.errors import ConfigError, PackageError, UnavailableError
from swrec_prod.schema import Feature
from swrec_prod.serving.client import AsyncClient, Client, Tls
from swrec_prod.serving.client.request import make_request
from swrec_prod.serving.process.address import reserved
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.process.supervisor import serve
from swrec_prod.serving.process.worker import ClientsThatLeft
from swrec_prod.serving.protocol.call import Limits

pytestmark = pytest.mark.process
REQUEST = make_request("home", USER, ITEMS)
REQUEST.model = "shared_bottom"
DATA = REQUEST.SerializeToString()
MAY_END = {"OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED"}  # calls; the last one where the machine is slow


@dataclass
class Server:
    """A server process, what it has said, and where it is."""

    process: subprocess.Popen[str]
    target: str
    lines: list[str]
    metrics_url: str = ""

    def workers(self) -> list[int]:
        """Processes that listen."""
        [generation] = children(self.process.pid)
        return children(generation)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric now; 0 where it is not told."""
        text = urllib.request.urlopen(self.metrics_url, timeout=30).read().decode()
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return sum(sample.value for sample in samples if (sample.name, sample.labels) == (name, labels))

    def scored(self) -> float:
        """How many requests like REQUEST it has counted."""
        return self.metric("scorer_requests_total", scenario="home", model="shared_bottom", version="1", code="OK")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def served(repo: Path, folder: Path, **options: Any) -> Iterator[Server]:
    """A server of two workers, which is ended when the block ends."""
    port_file = folder / "port"
    with launch(repo, port_file, **{"workers": 2, "metrics_port": 0, **options}) as process:
        try:
            server = Server(process, wait_for(port_file, process), [])
            server.lines = [process.stdout.readline().strip() for _ in range(2)]
            server.metrics_url = server.lines[0].removeprefix("metrics on ")
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


@pytest.fixture(scope="module")
def pair(tiny_repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two workers, which tests leave as they find it."""
    with served(tiny_repo, tmp_path_factory.mktemp("pair")) as server:
        yield server


class Callers:
    """Threads that call in a loop, each on a connection of its own, and count how calls end."""

    def __init__(self, target: str, threads: int = 12) -> None:
        self.target, self.codes = target, Counter[str]()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(i,)) for i in range(threads)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        until(lambda: self.codes["OK"] > 5 * len(self._threads), "calls are answered")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, i: int) -> None:
        with channel(self.target, i) as one:
            score = one.unary_unary("/swrec.v1.Ranking/Score")
            while not self._stop.is_set():
                try:
                    score(DATA, timeout=PATIENCE)
                    self.codes["OK"] += 1
                except grpc.RpcError as failure:
                    self.codes[failure.code().name] += 1
                    time.sleep(0.002)


def channel(target: str, number: int, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    """A channel whose connection no other number shares, and which comes back quickly."""
    options = (("channel.number", number), ("grpc.initial_reconnect_backoff_ms", 100))
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def answers(target: str, credentials: grpc.ChannelCredentials | None = None) -> bool:
    with channel(target, 0, credentials) as one:
        return len(one.unary_unary("/swrec.v1.Ranking/Score")(DATA, timeout=PATIENCE, wait_for_ready=True)) > 0


# Workers


def test_two_workers_answer_on_one_port_and_their_counts_are_added_up(pair: Server):
    before = pair.scored()
    with contextlib.ExitStack() as channels:
        for number in range(20):  # the kernel deals out connections: all of them to one worker once in 500,000 times
            one = channels.enter_context(channel(pair.target, number))
            one.unary_unary("/swrec.v1.Ranking/Score")(DATA, timeout=PATIENCE, wait_for_ready=True)
        assert connections(pair.target) == set(pair.workers())
    assert pair.scored() - before == 20
    assert pair.metric("scorer_workers") == 2


def test_more_calls_than_anybody_expects_on_one_connection_are_answered_or_told_to_wait(pair: Server):
    async def ask(calls: int) -> list[Any]:
        async with grpc.aio.insecure_channel(pair.target) as one:
            score = one.unary_unary("/swrec.v1.Ranking/Score")
            asked = (score(DATA, timeout=PATIENCE) for _ in range(calls))
            return await asyncio.gather(*asked, return_exceptions=True)

    failed = [outcome for outcome in asyncio.run(ask(2000)) if not isinstance(outcome, bytes)]
    assert {failure.code().name for failure in failed} <= {"RESOURCE_EXHAUSTED"} and len(failed) < 2000


def connections(target: str) -> set[int]:
    """Processes with a connection on the server's port: see proc(5), /proc/net/tcp. gRPC's sockets may be tcp6."""
    port = f":{int(target.rpartition(':')[2]):04X}"
    rows = [line.split() for kind in ("tcp", "tcp6") for line in Path("/proc/net", kind).read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[1].endswith(port) and row[3] == "01"}
    return {int(path.parts[2]) for path in Path("/proc").glob("[0-9]*/fd/*") if inode(path) in inodes} - {os.getpid()}


def inode(path: Path) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(path).removeprefix("socket:[").rstrip("]")
    return ""


def test_a_killed_worker_loses_what_was_in_it_alone_and_comes_back(pair: Server):
    first, second = pair.workers()
    before = pair.scored()
    with Callers(pair.target) as callers:
        os.kill(first, signal.SIGKILL)
        until(lambda: first not in pair.workers() and pair.metric("scorer_workers") == 2, "a new worker")
        so_far = callers.codes["OK"]
        until(lambda: callers.codes["OK"] > so_far + 50, "calls are answered")
    assert set(callers.codes) <= MAY_END
    assert second in pair.workers()
    assert pair.metric("scorer_worker_restarts_total", cause="signal 9 (SIGKILL)") == 1
    assert pair.scored() - before >= callers.codes["OK"]  # the dead worker's too; it may have counted one more


def test_a_worker_that_dies_again_and_again_is_waited_for_longer_and_its_end_is_told(tiny_repo, tmp_path):
    with (tmp_path / "err").open("w") as err, served(tiny_repo, tmp_path, workers=1, stderr=err) as server:
        for deaths in range(1, 4):
            [worker] = until(server.workers, "a worker")
            os.kill(worker, signal.SIGKILL)
            until(lambda deaths=deaths: ends(tmp_path / "err") == deaths, "its end is told")
        assert answers(server.target)
    waits = re.findall(r"ended: signal 9 \(SIGKILL\); another one begins (.*)", (tmp_path / "err").read_text())
    assert waits == ["at once", "in 0.25 s", "in 0.5 s"]


def ends(log: Path) -> int:
    return log.read_text().count("another one begins")


def test_packages_are_loaded_again_when_their_process_is_killed(tiny_repo, tmp_path):
    with served(tiny_repo, tmp_path, workers=1) as server:
        assert answers(server.target)
        [generation], [worker] = children(server.process.pid), server.workers()
        os.kill(generation, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{worker}").exists(), "its worker ends")
        assert answers(server.target)
        until(lambda: server.scored() == 2, "what the first one had counted is kept")


def test_a_process_that_cannot_load_packages_ends_the_server(tiny_repo, tmp_path):
    with (tmp_path / "err").open("w") as err, launch(tiny_repo, tmp_path / "port", stderr=err) as process:
        [generation] = until(lambda: children(process.pid), "a process that loads")
        os.kill(generation, signal.SIGKILL)
        assert process.wait(PATIENCE) != 0
    assert "ended: signal 9 (SIGKILL); is there memory for them?" in (tmp_path / "err").read_text()


def test_without_its_supervisor_nothing_is_left(tiny_repo, tmp_path):
    with served(tiny_repo, tmp_path) as server:
        [generation] = children(server.process.pid)
        all_of_them = [generation, *server.workers()]
        server.process.kill()
        assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in all_of_them), "all processes end")


def test_only_workers_have_grpc_and_the_supervisor_has_no_torch(pair: Server):
    [generation] = children(pair.process.pid)
    worker = pair.workers()[0]
    assert [has(pid, "libtorch") for pid in (pair.process.pid, generation, worker)] == [False, True, True]
    assert [has(pid, "cygrpc") for pid in (pair.process.pid, generation, worker)] == [False, False, True]


def has(pid: int, library: str) -> bool:
    """Whether the library is in the process's memory."""
    return library in Path(f"/proc/{pid}/maps").read_text()


def test_packages_are_in_memory_once(tmp_path):
    table = 4 * 16 * 2_000_000  # bytes
    tags = Feature(name="tags", kind="bag", side="item", encoder={"kind": "hash", "buckets": 2_000_000}, dim=16)
    features = tuple(tags if feature.name == "tags" else feature for feature in SCHEMA.features)
    prepare(tmp_path / "data", SCHEMA.model_copy(update={"features": features}))
    publish(tmp_path / "data", tmp_path / "repo", ("shared_bottom",))
    with served(tmp_path / "repo", tmp_path) as server:
        assert answers(server.target)
        assert all(kibibytes(worker, "Private_Dirty", "Private_Clean") < table >> 11 for worker in server.workers())


def kibibytes(pid: int, *names: str) -> int:
    """Memory of a process: see proc(5), smaps_rollup."""
    rows = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    return sum(int(row[1]) for row in rows if row[0].rstrip(":") in names)


# Draining


def test_a_drained_worker_ends_no_call_as_cancelled(pair: Server):
    with Callers(pair.target) as callers:
        first = pair.workers()[0]
        os.kill(first, signal.SIGTERM)
        until(lambda: first not in pair.workers(), "the worker ends")
        so_far = callers.codes["OK"]
        until(lambda: callers.codes["OK"] > so_far + 50, "calls are answered")
    assert set(callers.codes) <= MAY_END


@pytest.mark.parametrize("notice", [0.0, 0.5])
def test_the_drain_of_a_server_ends_no_call_as_cancelled(tiny_repo, tmp_path, notice):
    with served(tiny_repo, tmp_path, notice=notice) as server, Callers(server.target) as callers:
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0
    assert set(callers.codes) <= MAY_END


def test_a_second_signal_ends_at_once(tiny_repo, tmp_path):
    with served(tiny_repo, tmp_path, notice=10 * PATIENCE) as server, channel(server.target, 0) as one:
        watch = health_pb2_grpc.HealthStub(one).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.process.terminate()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0


# The address


def test_a_taken_port_is_an_error_also_where_it_is_shared(tiny_repo):
    for shared in (False, True):
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{port}: .*; is the port taken\?"):
                serve(Options(tiny_repo, port=port))


def test_a_second_server_is_refused_even_before_the_first_one_listens(tiny_repo):
    with reserved("127.0.0.1", 0) as port, pytest.raises(ConfigError, match="is the port taken"):
        serve(Options(tiny_repo, port=port))


def test_a_port_is_free_again_right_after_its_server(tiny_repo, tmp_path):
    with served(tiny_repo, tmp_path) as server, Callers(server.target):
        port = int(server.target.rpartition(":")[2])
    with reserved("127.0.0.1", port) as again:  # connections of the first one linger in TIME_WAIT
        assert again == port


def test_a_host_that_is_not_here_is_named(tiny_repo):
    with pytest.raises(ConfigError, match=r"cannot listen on 192.0.2.1:0: Cannot assign requested address"):
        serve(Options(tiny_repo, host="192.0.2.1", port=0, insecure=True))


def test_errors_of_packages_reach_the_caller(tmp_path):
    with pytest.raises(PackageError, match="holds no complete package"):
        serve(Options(tmp_path, port=0))


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, and server.pem and client.pem that it has signed, each with its key; and other.pem."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other"):
        openssl(folder, "req", "-x509", *new_key(name), "-out", f"{name}.pem", "-subj", f"/CN={name}", "-days", "2")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        openssl(folder, "req", *new_key(name), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signer)
    return folder


def new_key(name: str) -> tuple[str, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key")


def openssl(folder: Path, *words: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which makes the certificates")
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def trusting(folder: Path, authority: str = "ca", client: str = "") -> grpc.ChannelCredentials:
    """Of a client that trusts this authority, and shows this certificate."""
    own = [(folder / f"{client}.{kind}").read_bytes() for kind in ("key", "pem")] if client else [None, None]
    return grpc.ssl_channel_credentials((folder / f"{authority}.pem").read_bytes(), *own)


def refused(target: str, credentials: grpc.ChannelCredentials | None) -> str:
    with channel(target, 1, credentials) as one, pytest.raises(grpc.RpcError) as failure:
        one.unary_unary("/swrec.v1.Ranking/Score")(DATA, timeout=PATIENCE)
    return failure.value.code().name


def test_tls_and_certificates_of_clients(tiny_repo, tmp_path, certificates):
    files = {"tls_cert": certificates / "server.pem", "tls_key": certificates / "server.key"}
    with served(tiny_repo, tmp_path, workers=1, **files, tls_client_ca=certificates / "ca.pem") as server:
        assert answers(server.target, trusting(certificates, client="client"))
        assert refused(server.target, trusting(certificates)) == "UNAVAILABLE"  # shows no certificate
        assert refused(server.target, trusting(certificates, client="other")) == "UNAVAILABLE"
        assert refused(server.target, trusting(certificates, "other", "client")) == "UNAVAILABLE"
        assert refused(server.target, None) == "UNAVAILABLE"
        own = Tls(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")
        with Client(server.target, timeout=PATIENCE, tls=own) as client:
            assert len(client.score("home", USER, ITEMS, model="mscan").score) == 2
        asyncio.run(score_over_tls(server.target, own))
        for wrong_one in (Tls(certificates / "ca.pem"), Tls(certificates / "other.pem", own.cert, own.key), None):
            with Client(server.target, timeout=2, tls=wrong_one) as client, pytest.raises(UnavailableError):
                client.score("home", USER, ITEMS, model="mscan")


async def score_over_tls(target: str, tls: Tls) -> None:
    async with AsyncClient(target, timeout=PATIENCE, tls=tls) as client:
        assert len((await client.score("home", USER, ITEMS, model="mscan")).score) == 2


def test_health_is_asked_over_tls(tiny_repo, tmp_path, certificates):
    files = {"tls_cert": certificates / "server.pem", "tls_key": certificates / "server.key"}
    with served(tiny_repo, tmp_path, workers=1, **files) as server:
        to_server = ("health", "--target", server.target, "--tls-ca", certificates / "ca.pem")
        assert succeeds(*to_server, "--service", "model/mscan") == "SERVING\n"
        wrong(swrec(*to_server, "--service", "model/other"), f"{server.target}: NOT_FOUND")
    wrong(swrec(*to_server), f"UnavailableError: {server.target}: UNAVAILABLE")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tls_cert": "server.pem"}, "give both --tls-cert and --tls-key"),
        ({"tls_client_ca": "ca.pem"}, "--tls-client-ca needs --tls-cert"),
        ({"tls_cert": "names", "tls_key": "server.key"}, "names: no PEM file"),
        ({"tls_cert": "server.pem", "tls_key": "client.key"}, "server.pem and its key"),
    ],
)
def test_wrong_files_of_tls_are_named(tiny_repo, certificates, files, message):
    with pytest.raises(ConfigError, match=message):
        serve(Options(tiny_repo, port=0, workers=1, **{name: certificates / file for name, file in files.items()}))


# Options


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"workers": -1}, "workers is -1, expected 1 or more, or 0"),
        ({"threads": 0}, "threads is 0, expected more than 0"),
        ({"max_message_mb": 0.0}, "max message mb is 0.0"),
        ({"limits": Limits(text=0)}, "most text is 0"),
        ({"notice": -1.0}, "notice is -1.0, expected seconds from 0 on"),
        ({"host": "0.0.0.0"}, "host '0.0.0.0': other machines reach it"),
    ],
)
def test_options_that_cannot_be_are_named(tmp_path, option, message):
    with pytest.raises(ConfigError, match=message):
        Options(tmp_path, **option).checked()


def test_options_travel_to_other_processes():
    options = Options(Path("m"), chosen=("a", "b/2"), tls_cert=Path("c"), limits=Limits(text=7), metrics_port=0)
    assert Options.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("cores", "limit", "workers"), [(1, "max 1", 1), (2, "max 1", 2), (8, "max 1", 7), (8, "3 1", 3)]
)
def test_workers_are_as_many_as_the_cores_that_it_may_use(monkeypatch, tmp_path, cores, limit, workers):
    (tmp_path / "cpu.max").write_text(limit)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cores))
    monkeypatch.setattr("swrec_prod.serving.process.options.QUOTA", tmp_path / "cpu.max")
    assert Options(tmp_path).checked().workers == workers


def test_an_answer_to_a_client_that_has_gone_is_not_logged_and_any_other_failure_is():
    log = logging.Logger("grpc")
    log.addFilter(ClientsThatLeft())
    log.addHandler(kept := logging.handlers.BufferingHandler(10))
    for failure in (ExecuteBatchError("Failed"), ValueError("a bug")):
        try:
            raise failure
        except Exception:
            log.exception("raised in core by servicer method")
    assert [record.exc_info[0] for record in kept.buffer] == [ValueError]
