"""The exposure log of a server: every answer by either protocol is in it as it was given, also if a worker dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from exposed import rows_of
from runs import PATIENCE, until
from test_processes import Callers, Server, children, served
from tiny_world import ITEMS, USER

from swrec_prod.experiments.assign import Experiments
from swrec_prod.serving.client import Client
from swrec_prod.serving.protocol import inference

pytestmark = pytest.mark.process
EXPERIMENTS = """
layers: {debias: {}, looks: {}}
experiments:
  sweep:
    layer: debias
    control: today
    variants: {today: {buckets: [[0, 5000]]}, stronger: {buckets: [[5000, 10000]], strength: 0.1}}
  half:
    layer: looks
    traffic: [[0, 5000]]
    control: one
    variants: {one: {buckets: [[0, 5000]]}, other: {buckets: [[5000, 10000]]}}
"""
VARIANTS = (("sweep", "today"), ("sweep", "stronger"), ("half", "one"), ("half", "other"))
ONE_ROW = {"user_id": [b"u1"], "age": [30], "invited_by": [b"u2"], "hour": [5.0]}


@pytest.fixture
def server(tiny_repo: Path, tmp_path: Path) -> Iterator[Server]:
    """One with a log in tmp_path/log."""
    with served(tiny_repo, tmp_path, exposures=tmp_path / "log") as server:
        yield server


def ended(server: Server, folder: Path) -> list[dict]:
    """What is in the log once the server has ended."""
    server.process.terminate()
    assert server.process.wait(PATIENCE) == 0
    return rows_of(folder)


def test_every_answer_is_in_the_log_as_it_was_given(server: Server, tmp_path: Path):
    with Client(server.target, timeout=PATIENCE) as client:
        answers = {}
        for scenario in ("home", "cart", "search"):
            for model in ("mscan", "shared_bottom"):
                name = f"{model} in {scenario}"
                answers[name] = client.score(scenario, USER, ITEMS, model=model, request_id=name, unit="u1")
        with pytest.raises(Exception, match="garden"):
            client.score("garden", USER, ITEMS, model="mscan")
    until(lambda: server.metric("scorer_exposures_logged_total") == 6, "all are logged")
    assert server.metric("scorer_exposures_dropped_total") == server.metric("scorer_exposure_queue") == 0
    rows = ended(server, tmp_path / "log")
    assert {row["request_id"] for row in rows} == answers.keys() and len(rows) == 6
    for row in rows:
        scored = answers[row["request_id"]]
        assert (row["model"], row["model_version"]) == (scored.model, scored.version)
        assert row["debias_strength"] == scored.debias_strength and row["scored_scenario"] == row["scenario"]
        for name in ("score", "probability"):
            assert np.array_equal(np.float32(row[name]), getattr(scored, name).ravel())
        assert len(row["interest_logit"]) == (4 if row["model"] == "mscan" else 0)
        assert (row["unit"], row["experiment"], row["candidates"]) == ("u1", None, 2)
        assert (row["user.age"], row["user.user_id"], row["user.hour"]) == (30, "u1", 5.0)
        assert (row["items.item_id"], row["items.tags"]) == (ITEMS["item_id"], ITEMS["tags"])
        assert row["items.price"] == ITEMS["price"]
    assert {tuple(row["user.history.scenario"] or ()) for row in rows} == {("home", "cart", "home")}
    assert not list((tmp_path / "log" / "wal").iterdir())


def test_exposures_are_answers_times_experiments_and_missing_units_are_none(tiny_repo: Path, tmp_path: Path):
    file = tmp_path / "experiments.yaml"
    file.write_text(EXPERIMENTS)
    with served(tiny_repo, tmp_path, exposures=tmp_path / "log", experiments=file) as server:
        with Client(server.target, timeout=PATIENCE) as client:
            told = {}
            for number in range(60):
                unit = f"u{number}" if number < 50 else ""
                scored = client.score("home", USER, ITEMS, model="mscan", request_id=f"r-{number}", unit=unit)
                told[f"r-{number}"] = (dict(scored.variants), scored.debias_strength)
        until(lambda: server.metric("scorer_exposures_logged_total") == 60, "all are logged")
        counted = sum(server.metric("scorer_assignments_total", experiment=e, variant=v) for e, v in VARIANTS)
        rows = ended(server, tmp_path / "log")
    exposures = [row for row in rows if row["experiment"] is not None]
    assert counted == len(exposures) == sum(len(variants) for variants, _ in told.values()) > 50
    for row in exposures:
        variants, strength = told[row["request_id"]]
        assert variants[row["experiment"]] == row["variant"] and row["debias_strength"] == strength
        assert row["config_version"] == Experiments.load(file).version and row["hash_version"] == 1
    without = {row["request_id"] for row in rows if row["experiment"] is None}
    assert without == {request for request, (variants, _) in told.items() if not variants}
    assert {f"r-{number}" for number in range(50, 60)} <= without


def test_an_answer_of_the_open_inference_protocol_is_logged_as_any_other(server: Server, tmp_path: Path):
    request = inference.ModelInferRequest(model_name="shared_bottom", id="theirs")
    request.parameters["scenario"].string_param = "home"
    for name, values in {**ONE_ROW, "item_id": [4, 5], "price": [1.5, 2.5]}.items():
        kind, field = {
            bytes: ("BYTES", "bytes_contents"), int: ("INT64", "int64_contents"), float: ("FP64", "fp64_contents")
        }[type(values[0])]  # fmt: skip
        tensor = request.inputs.add(name=name, datatype=kind, shape=[len(values)])
        getattr(tensor.contents, field).extend(values)
    tensor = request.inputs.add(name="tags", datatype="BYTES", shape=[2, 1])
    tensor.contents.bytes_contents.extend([b"t1", b"t2"])
    with grpc.insecure_channel(server.target) as channel:
        channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(request.SerializeToString(), timeout=PATIENCE)
    [row] = ended(server, tmp_path / "log")
    assert (row["request_id"], row["user.user_id"], row["user.age"], row["user.hour"]) == ("theirs", "u1", 30, 5.0)
    assert (row["items.item_id"], row["items.tags"], row["items.price"]) == ([4, 5], [["t1"], ["t2"]], [1.5, 2.5])


def test_a_killed_worker_loses_little_and_nothing_is_logged_twice(server: Server, tmp_path: Path):
    generation = next(child for child in children(server.process.pid) if children(child))
    with Callers(server.target, threads=4) as callers:
        os.kill(children(generation)[0], signal.SIGKILL)
        killed = {"cause": "signal 9 (SIGKILL)"}  # how many workers there are may be as before at the next look
        until(lambda: server.metric("scorer_worker_restarts_total", **killed) == 1, "the worker is gone")
        until(lambda: server.metric("scorer_workers") == 2, "it is back")
        before = callers.codes["OK"]
        until(lambda: callers.codes["OK"] > before + 100, "calls are answered")
    rows = ended(server, tmp_path / "log")
    assert len({row["event_id"] for row in rows}) == len(rows)
    assert callers.codes["OK"] * 0.5 < len(rows) <= callers.codes["OK"] + 4


def test_a_server_that_is_killed_leaves_segments_that_the_next_one_converts(tiny_repo: Path, tmp_path: Path):
    log = tmp_path / "log"
    with served(tiny_repo, tmp_path, exposures=log) as server:
        with Callers(server.target, threads=2):
            pass
        logged = until(lambda: server.metric("scorer_exposures_logged_total"), "some are logged")
        generation = next(child for child in children(server.process.pid) if children(child))
        workers = children(generation)
        for process in (server.process.pid, generation, *workers):
            os.kill(process, signal.SIGKILL)
        server.process.wait(PATIENCE)
    (tmp_path / "port").unlink()
    with served(tiny_repo, tmp_path, exposures=log) as server:
        until(lambda: not [p for p in (log / "wal").glob("*.arrow") if p.stat().st_size > 4096], "they are converted")
        rows = ended(server, log)
    assert len({row["event_id"] for row in rows}) == len(rows) >= logged


def test_the_log_of_a_share_keeps_all_answers_and_some_requests(tiny_repo: Path, tmp_path: Path):
    with served(tiny_repo, tmp_path, exposures=tmp_path / "log", exposures_features=0.5) as server:
        with Client(server.target, timeout=PATIENCE) as client:
            for _ in range(40):
                client.score("home", USER, ITEMS, model="mscan")
        rows = ended(server, tmp_path / "log")
    kept = [row for row in rows if row["sample_rate"] is not None]
    assert len(rows) == 40 and 0 < len(kept) < 40
    assert all((row["items.item_id"] is not None) == (row["sample_rate"] == 0.5) for row in rows)
