"""The server process: faults that stay inside, health, reflection, draining,
what it refuses to serve; and its contract.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import wait_for
from tiny_world import ITEMS, USER, launch

from swrec_prod.errors import ConfigError, PackageError
from swrec_prod.serving.client import Client
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.process.server import start
from swrec_prod.serving.process.supervisor import serve
from swrec_prod.serving.protocol import ranking_pb2, wire
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.scoring.predictor import Scored

# Faults of our own


class Broken:
    """Stands where a predictor stands, and fails as told."""

    name, version, tasks, quick, scenarios = "broken", "1", ("click",), True, ("x",)
    manifest = SimpleNamespace(row_0={})

    def __init__(self, outcome) -> None:
        self.outcome = outcome

    def scenario(self, value):
        return 0, False

    def scenario_name(self, index):
        return "x"

    def strength(self, call, scenario):
        return 0.0

    def milliseconds(self, rows):
        return 0.1

    def score(self, call, scenario, strength):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


NAN, ONE = np.full((1, 1), np.nan, np.float32), np.ones((1, 1), np.float32)


@pytest.mark.parametrize(
    "outcome", [RuntimeError("secret weights"), Scored(NAN, NAN, NAN, NAN, 0.0)], ids=["raises", "nan"]
)
def test_faults_of_the_server_tell_nothing_but_an_id(outcome, caplog):
    async def ask() -> grpc.aio.AioRpcError:
        router = Router({"broken": {1: Broken(outcome)}})
        server, _, port = await start(router, Options(Path(), port=0))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await channel.unary_unary("/swrec.v1.Ranking/Score")(
                    wire.ScoreRequest(scenario="x").SerializeToString()
                )
        await server.stop(None)
        return failure.value

    failure = asyncio.run(ask())
    assert failure.code() is grpc.StatusCode.INTERNAL
    error_id = failure.details().split()[2].rstrip(";")
    assert failure.details() == f"internal error {error_id}; the server's log says more"
    assert error_id in caplog.text
    assert ("secret weights" if isinstance(outcome, Exception) else "not finite") in caplog.text


class Blocked(Broken):
    """A forward that takes until `released`."""

    def __init__(self, outcome) -> None:
        super().__init__(outcome)
        self.entered, self.released = threading.Event(), threading.Event()

    def milliseconds(self, rows):
        return 100.0

    def score(self, call, scenario, strength):
        self.entered.set()
        assert self.released.wait(60)
        return super().score(call, scenario, strength)


def test_health_is_told_while_a_long_forward_runs():
    async def ask() -> tuple[int, bytes]:
        blocked = Blocked(Scored(ONE, ONE, ONE, ONE, 0.0))
        server, _, port = await start(Router({"broken": {1: blocked}}), Options(Path(), port=0))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            request = wire.ScoreRequest(scenario="x").SerializeToString()
            call = channel.unary_unary("/swrec.v1.Ranking/Score")(request, timeout=60)
            assert await asyncio.to_thread(blocked.entered.wait, 60)
            reply = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=wire.SERVICE), timeout=30
            )
            blocked.released.set()
            data = await call
        await server.stop(None)
        return reply.status, data

    status, data = asyncio.run(ask())
    assert status == health_pb2.HealthCheckResponse.SERVING
    assert ranking_pb2.ScoreResponse.FromString(data).score == [1.0]


# The process

SERVICES = ("swrec.v1.Ranking", "inference.GRPCInferenceService")


def test_health_by_the_stock_client(tiny_server):
    with grpc.insecure_channel(tiny_server) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", *SERVICES, "model/mscan", "model/shared_bottom"):
            reply = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as failure:
            health.Check(health_pb2.HealthCheckRequest(service="model/other"), timeout=30)
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_by_the_stock_client(tiny_server):
    services = {"swrec.v1.Ranking": b"ScoreRequest", "inference.GRPCInferenceService": b"ModelInferRequest"}
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    asked += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in services]
    with grpc.insecure_channel(tiny_server) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, *described = stub.ServerReflectionInfo(iter(asked), timeout=30)
    names = {service.name for service in listed.list_services_response.service}
    assert {*services, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= names
    for message, description in zip(services.values(), described, strict=True):
        assert message in description.file_descriptor_response.file_descriptor_proto[0]


@pytest.mark.process
def test_sigterm_says_not_serving_then_ends_well(tiny_repo, tmp_path):
    with launch(tiny_repo, tmp_path / "port", notice=2.0) as process:
        target = wait_for(tmp_path / "port", process)
        with grpc.insecure_channel(target) as channel, Client(target, timeout=30) as client:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service="model/mscan"), timeout=60
            )
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            process.send_signal(signal.SIGTERM)
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            # still answered while others notice
            assert client.score("home", USER, ITEMS, model="mscan").model == "mscan"
            watch.cancel()
        assert process.wait(60) == 0
        assert process.stdout.read().splitlines() == [
            "loading mscan/2, shared_bottom/1",
            f"serving mscan/2 on {target}",
            f"serving shared_bottom/1 on {target}",
        ]


@pytest.mark.process
def test_serving_needs_no_torchrec():
    code = (
        "import swrec_prod.serving.process.worker, swrec_prod.serving.process.generation, sys; "
        "print('torchrec' in sys.modules, 'swrec_prod.ranker' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ran.stdout.split() == ["False", "False"]


def test_an_open_address_must_be_meant(tiny_repo):
    with pytest.raises(ConfigError, match=r"host '0.0.0.0': other machines reach it"):
        serve(Options(tiny_repo, port=0, host="0.0.0.0"))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["mscam"], r"no complete package 'mscam'; did you mean mscan"),
        (["mscan/5"], r"no complete version '5'; known: 1, 2"),
    ],
)
def test_a_choice_that_is_not_there_is_named(tiny_repo, chosen, message):
    with pytest.raises(PackageError, match=message):
        Router.load(tiny_repo, chosen)


def test_an_older_version_can_be_chosen_beside_the_latest(tiny_repo):
    router = Router.load(tiny_repo, ["mscan/1", "mscan"])
    assert [router.predictor("", version).version for version in ("", "1", "2")] == ["2", "1", "2"]


def test_a_package_without_c_for_a_scenario_is_not_served(tiny_repo, tmp_path):
    package = Path(shutil.copytree(tiny_repo / "mscan" / "1", tmp_path / "mscan" / "1"))
    manifest = json.loads((package / "manifest.json").read_text())
    del manifest["debias_strength"]["cart"]
    (package / "manifest.json").write_text(json.dumps(manifest))
    (package / "READY").write_text(hashlib.sha256((package / "manifest.json").read_bytes()).hexdigest())
    with pytest.raises(PackageError, match=r"manifest.json: debias_strength lacks scenario 'cart'"):
        Router.load(tmp_path)


def test_nothing_to_serve_is_said(tmp_path):
    (tmp_path / "mscan" / "1").mkdir(parents=True)  # an export that did not finish
    with pytest.raises(PackageError, match=r"holds no complete package"):
        Router.load(tmp_path)
    with pytest.raises(PackageError, match=r"no such folder"):
        Router.load(tmp_path / "nowhere")


# The contract


@settings(max_examples=50)
@given(
    ints=st.lists(st.integers(-(2**63), 2**63 - 1)),
    floats=st.lists(st.floats()),
    lengths=st.lists(st.integers(0, 2**31 - 1)),
    c=st.none() | st.floats(allow_nan=False),
)
def test_the_wire_twins_are_the_public_messages_byte_for_byte(ints, floats, lengths, c):
    column = {"name": "x", "strings": ["a", ""]}
    public = ranking_pb2.ScoreRequest(
        items=[ranking_pb2.Column(**column, ints=ints, floats=floats, lengths=lengths)], debias_strength=c
    )
    packed = {
        "ints": np.array(ints, wire.INTS),
        "floats": np.array(floats, wire.FLOATS),
        "lengths": np.array(lengths, wire.LENGTHS),
    }
    twin = wire.ScoreRequest(
        items=[wire.Column(**column, **{k: v.tobytes() for k, v in packed.items()})], debias_strength=c
    )
    assert public.SerializeToString() == twin.SerializeToString()


@pytest.mark.process
def test_generated_files_are_current(tmp_path):
    root = Path(__file__).resolve().parents[1]
    python, folder = root / ".venv-triton" / "bin" / "python", Path("swrec_prod", "serving", "protocol")
    if not python.exists():
        pytest.skip("make triton makes .venv-triton, which has the compiler")
    recipes = re.findall(
        r"^\t@\$\(TRITON\)/bin/python (-m grpc_tools\.protoc .*)$", (root / "Makefile").read_text(), re.M
    )
    (tmp_path / folder).mkdir(parents=True)
    for recipe in recipes:
        words = [re.sub(r"_out=", f"_out={tmp_path}/", word) for word in shlex.split(recipe)]
        subprocess.run([python, *words], check=True, cwd=root)
    made = sorted((tmp_path / folder).iterdir())
    assert [p.name for p in made] == ["inference.binpb", "ranking_pb2.py", "ranking_pb2.pyi", "ranking_pb2_grpc.py"]
    for path in made:
        assert path.read_bytes() == (root / folder / path.name).read_bytes(), f"{path.name} is stale: run make proto"
