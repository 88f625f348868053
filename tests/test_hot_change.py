"""What a running server serves is changed: no call fails, what is wrong changes nothing, and going back is quick."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
import yaml
from commands import refused, succeeds, swrec
from damaged_packages import Damage, damages
from prometheus_client.parser import text_string_to_metric_families
from runs import wait_for
from tiny_world import ITEMS, USER, catalog_of, launch, make_config, make_ranker

from swrec_prod.errors import NotFoundError
from swrec_prod.export.run import export_package
from swrec_prod.serving.client import Client, make_request
from swrec_prod.serving.process.admin import ask_to_reload
from swrec_prod.serving.process.change import Outcome
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.scoring.predictor import Predictor
from swrec_prod.serving.service.ranking import parse

pytestmark = pytest.mark.process
AGE = 0.5  # seconds of a connection: so long a change takes at least
PATIENCE = 60.0


@dataclass
class Server:
    """A server over a repository of its own. folder: with all that it reads; packages: what versions are copies of."""

    folder: Path
    packages: Path
    process: subprocess.Popen[str] = field(init=False)
    target: str = ""
    metrics: str = ""

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    @property
    def admin(self) -> Path:
        return self.folder / "admin"

    def publish(self, source: str, version: int, damage: Damage | None = None) -> Path:
        """A version of the model, as an export appears: by a rename."""
        aside = shutil.copytree(self.packages / source, self.folder / "aside")
        if damage is not None:
            damage.do(aside)
        return aside.rename(self.repo / "model" / str(version))

    def withdraw(self, version: int) -> None:
        shutil.rmtree(self.repo / "model" / str(version))

    def reload(self) -> Outcome:
        return ask_to_reload(self.admin, PATIENCE)

    def score(self, scenario: str = "home", **more: Any) -> Any:
        with Client(self.target, timeout=PATIENCE) as client:
            return client.score(scenario, USER, ITEMS, **more)

    def count(self, name: str, **labels: str) -> float:
        text = urllib.request.urlopen(self.metrics, timeout=30).read().decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(s.value for s in samples if s.name == f"scorer_{name}" and labels.items() <= s.labels.items())

    def generations(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(child) for child in children.read_text().split()]


@contextlib.contextmanager
def served(packages: Path, folder: Path, **options: Any) -> Iterator[Server]:
    server = Server(folder, packages)
    (server.repo / "model").mkdir(parents=True)
    server.publish("1", 1)
    (folder / "routes.yaml").write_text("{}")
    (folder / "experiments.yaml").write_text("{}")
    files = {name: folder / f"{name}.yaml" for name in ("routes", "experiments")}
    given = {"connection_age": AGE, "admin": server.admin, "metrics_port": 0, "queue_ms": 1e5, **files, **options}
    with launch(server.repo, folder / "port", **given) as server.process:
        try:
            server.target = wait_for(folder / "port", server.process)
            assert server.process.stdout is not None
            server.metrics = server.process.stdout.readline().strip().removeprefix("metrics on ")
            yield server
        finally:
            server.process.send_signal(signal.SIGINT)
            server.process.send_signal(signal.SIGINT)
            server.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def packages(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two packages of one model, whose scores differ."""
    repo = tmp_path_factory.mktemp("packages")
    for _ in range(2):
        ranker = make_ranker("shared_bottom", tiny_folder)
        with torch.no_grad():
            for parameter in ranker.parameters():
                parameter.mul_(1.0 + len(list(repo.glob("*/*"))))
        config, catalog = make_config("shared_bottom", tiny_folder), catalog_of(tiny_folder)
        export_package(ranker, config, catalog, repo / "model", "none")
    return repo / "model"


@pytest.fixture(scope="module")
def server(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(packages, tmp_path_factory.mktemp("hot"), workers=2) as one:
        yield one


@pytest.fixture(autouse=True)
def as_before(request: pytest.FixtureRequest) -> Iterator[None]:
    """Files without labels, routes and experiments; what is served may be another version than before."""
    yield
    if "server" in request.fixturenames:
        server: Server = request.getfixturevalue("server")
        (server.repo / "model" / "labels.yaml").unlink(missing_ok=True)
        for name in ("routes", "experiments"):
            (server.folder / f"{name}.yaml").write_text("{}")


class Calls:
    """Clients that call without a pause between, with nothing of ours: gRPC's own channels, which repeat no call."""

    def __init__(self) -> None:
        self.codes, self.scores = Counter[str](), Counter[tuple[str, bytes]]()

    @contextlib.asynccontextmanager
    async def running(self, target: str, clients: int = 6) -> AsyncIterator[None]:
        self._stop = asyncio.Event()
        running = [asyncio.ensure_future(self._client(target)) for _ in range(clients)]
        await asyncio.sleep(0.1)
        try:
            yield
        finally:
            self._stop.set()
            await asyncio.gather(*running)

    async def _client(self, target: str) -> None:
        data = make_request("home", USER, ITEMS).SerializeToString()
        async with grpc.aio.insecure_channel(target, (("grpc.use_local_subchannel_pool", 1),)) as channel:
            score = channel.unary_unary("/swrec.v1.Ranking/Score")
            while not self._stop.is_set():
                try:
                    reply = wire.ScoreResponse.FromString(await score(data, timeout=PATIENCE))
                    self.codes["OK"] += 1
                    self.scores[reply.version, reply.score] += 1
                except grpc.aio.AioRpcError as failure:
                    self.codes[f"{failure.code().name}: {failure.details()}"] += 1
                await asyncio.sleep(0.002)


def test_a_new_version_is_served_without_a_failed_call_and_each_answer_is_of_the_version_it_names(server: Server):
    calls, expected = Calls(), {version: offline(server.packages / version) for version in "12"}

    async def change() -> Outcome:
        async with calls.running(server.target):
            server.publish("2", 2)
            outcome = await asyncio.to_thread(server.reload)
            await asyncio.sleep(3 * AGE)
        return outcome

    outcome = asyncio.run(change())
    assert (outcome.result, outcome.stage, outcome.serving) == ("changed", "swap", ["model/2"])
    assert set(calls.codes) == {"OK"}
    assert {version for version, _ in calls.scores} == set("12") and len(calls.scores) == 2
    for version, scores in calls.scores:
        np.testing.assert_allclose(np.frombuffer(scores, wire.SCORES), expected[version], rtol=1e-5)
    assert server.score().version == "2"
    assert server.count("reload_total", result="changed", stage="swap") == 1
    until(lambda: len(server.generations()) == 1)
    assert server.count("requests_total", code="OK") == calls.codes["OK"] + 1, "of both generations"
    assert server.count("model_info", model="model", version="2") == server.count("model_info") == 1


def offline(package: Path) -> np.ndarray:
    """The scores of the request that `Calls` send."""
    router = Router({"model": {1: Predictor.load(package)}})
    call = parse(make_request("home", USER, ITEMS).SerializeToString())
    routed = router.route(call)
    return routed.predictor.score(call, routed.scenario, routed.strength).score.ravel()


BAD = {damage.name: damage for damage in damages()}


@pytest.mark.parametrize("name", ["other golden logits"])
def test_a_bad_version_is_refused_with_its_stage_and_the_old_one_serves(server: Server, name: str):
    before = server.score().version
    server.publish("2", 9, BAD[name])
    try:
        outcome = server.reload()
        assert (outcome.result, outcome.stage) == ("refused", BAD[name].stage)
        assert outcome.reason.startswith("PackageError: ") and "model/9" in outcome.reason
        assert server.score().version == before
        assert server.count("reload_total", result="refused", stage=BAD[name].stage) == 1
    finally:
        server.withdraw(9)


def test_a_half_copied_package_is_not_looked_at(server: Server):
    server.publish("2", 9, BAD["no READY"])
    assert server.reload().result == "unchanged"
    server.withdraw(9)


def test_a_process_that_dies_while_it_loads_is_a_refusal(server: Server):
    [serving] = until(lambda: len(server.generations()) == 1 and server.generations())
    server.publish("2", 9)

    async def kill() -> Outcome:
        asked = asyncio.create_task(asyncio.to_thread(server.reload))
        while len(server.generations()) < 2:
            await asyncio.sleep(0.01)
        os.kill(next(pid for pid in server.generations() if pid != serving), signal.SIGKILL)
        return await asked

    outcome = asyncio.run(kill())
    assert (outcome.result, outcome.stage) == ("refused", "files")
    assert "ended: signal 9 (SIGKILL); is there memory for them?" in outcome.reason
    assert server.score().version and server.generations() == [serving]
    server.withdraw(9)


def test_routes_are_changed_by_a_signal_and_wrong_ones_change_nothing(server: Server):
    generations = server.generations()
    with pytest.raises(NotFoundError):
        server.score("attic")
    (server.folder / "routes.yaml").write_text("default: {fallback: cart}")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: server.count("reload_total", result="changed", stage="rules") == 1)
    assert server.score("attic").scored_scenario == "cart"
    for wrong in ("default: {strength: 1e9}", "default: {fallback: kart}", "{", "default: {version: canary}"):
        (server.folder / "routes.yaml").write_text(wrong)
        outcome = server.reload()
        assert (outcome.result, outcome.stage) == ("refused", "files") and "routes.yaml" in outcome.reason
        assert server.score("attic").scored_scenario == "cart"
    assert server.generations() == generations, "nothing was loaded"


EXPERIMENTS: dict[str, Any] = {
    "layers": {"looks": {}},
    "experiments": {
        "sweep": {
            "layer": "looks",
            "control": "today",
            "variants": {"today": {"buckets": [[0, 5000]]}, "other": {"buckets": [[5000, 6000]]}},
        }
    },
}


def test_experiments_begin_grow_and_are_never_dealt_out_anew_in_silence(server: Server):
    file = server.folder / "experiments.yaml"

    def run(buckets: list[list[int]]) -> Outcome:
        plain = json.loads(json.dumps(EXPERIMENTS))
        plain["experiments"]["sweep"]["variants"]["other"]["buckets"] = buckets
        file.write_text(yaml.safe_dump(plain))
        return server.reload()

    assert run([[5000, 6000]]).stage == "swap", "what is counted by variant is new"
    units = [f"user-{number}" for number in range(40)]
    got = {unit: server.score(unit=unit).variants for unit in units}
    assert run([[5000, 6000], [6000, 10000]]).stage == "rules", "a ramp takes no loading"
    grown = {unit: server.score(unit=unit).variants for unit in units}
    assert all(grown[unit] == variants for unit, variants in got.items() if variants)
    assert all(grown.values()) and not all(got.values())
    outcome = run([[5000, 5500]])
    assert outcome.result == "refused" and "ranges may only grow" in outcome.reason
    assert {unit: server.score(unit=unit).variants for unit in units} == grown


def test_labels_decide_what_is_served_and_a_rollback_loads_nothing(server: Server):
    folder = server.repo / "model"
    server.publish("1", 3)
    assert succeeds("models", "label", folder, "stable", 2) == f"{folder}: stable 2\n"
    told = succeeds("models", "label", folder, "stable", 3, "--admin", server.admin)
    assert told.startswith(f"{folder}: stable 3, previous 2\nchanged after ") and told.endswith("model/2, model/3\n")
    assert (server.score().version, server.score(version="previous").version) == ("3", "2")
    with Client(server.target, timeout=PATIENCE) as client:
        assert {model.version: model.is_default for model in client.list_models()} == {"2": False, "3": True}
    generations = server.generations()
    told = succeeds("models", "rollback", folder, "--admin", server.admin)
    assert f"{folder}: stable 2, previous 3" in told
    until(lambda: server.score().version == "2")
    assert set(server.generations()) <= set(generations)
    refused(
        swrec("models", "label", folder, "canary", 8, "--admin", server.admin), "names version 8, which is not complete"
    )
    assert succeeds("models", "list", server.repo) == "model: 1, 2, 3 (stable 2, previous 3)\n"


def test_a_server_that_never_heard_of_a_request_to_reload_says_how_to_ask(tmp_path: Path):
    refused(swrec("reload", tmp_path / "admin"), "No such file or directory; is a server there that was started with")


def test_the_admin_socket_is_for_its_user_alone_and_answers_nonsense(server: Server):
    assert server.admin.stat().st_mode & 0o077 == 0
    for said in (b"hello\n", b"[]\n", b'{"what": "end"}\n', b"\xff\n", b"\n"):
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE)
            line.connect(str(server.admin))
            line.sendall(said)
            assert json.loads(line.makefile("rb").readline()) == {"error": 'expected {"what": "reload"} on one line'}
    assert server.reload().result in ("changed", "unchanged")


def test_many_who_ask_at_once_are_all_answered(server: Server):
    async def ask() -> list[Outcome]:
        return await asyncio.gather(*(asyncio.to_thread(server.reload) for _ in range(8)))

    assert {outcome.result for outcome in asyncio.run(ask())} <= {"changed", "unchanged"}


def test_what_served_serves_again_after_a_crash_though_a_bad_version_is_there(packages: Path, tmp_path: Path):
    """And a watched repository needs nobody who asks. The server is terminated while it loads, too."""
    with served(packages, tmp_path, watch=0.1) as server:
        server.publish("2", 2, BAD["other golden logits"])
        until(lambda: server.count("reload_total", result="refused", stage="golden") == 1)
        [serving] = until(lambda: len(server.generations()) == 1 and server.generations())
        os.kill(serving, signal.SIGKILL)
        until(lambda: server.generations() not in ([], [serving]) and server.count("workers") == 1)
        assert server.score().version == "1"
        server.publish("1", 3)
        until(lambda: len(server.generations()) == 2)
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0
    assert not server.admin.exists()


def until(holds: Any) -> Any:
    """What `holds` gives once it is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if outcome := holds():
                return outcome
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE:g} s")
