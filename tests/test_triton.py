"""Triton's own client against our server: an independent reading of the Open Inference Protocol.

It pins protobuf 6, and its messages have the names of ours; so it runs in an environment and a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-triton" / "bin" / "python"
SCRIPT = ROOT / "tests" / "triton_script.py"


@pytest.fixture(scope="module")
def said(tiny_server) -> dict:
    """What the script was told."""
    if not PYTHON.exists():
        pytest.skip("make triton makes .venv-triton, which has Triton's client")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([PYTHON, SCRIPT, tiny_server], capture_output=True, text=True, env=environment, timeout=100)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.process
def test_scores_equal_those_of_our_own_client(said):
    assert said["scores"] == said["ours"]
    assert said["aio"] == said["ours"]
    assert said["wanted"] == said["ours"]["score"]
    assert said["answer"] == ["r-7", "2"]


@pytest.mark.process
def test_our_client_and_tritons_share_a_process_with_protobuf_6(said):
    assert said["protobuf"].startswith("6.")


@pytest.mark.process
def test_the_server_says_what_it_serves(said):
    assert (said["live"], said["ready"], said["models"]) == (True, True, {"mscan": True, "nothing": False})
    assert said["server"]["name"] == "swrec"
    assert [(m["name"], m["version"], m["state"]) for m in said["index"]["models"]] == [
        ("mscan", "2", "READY"),
        ("shared_bottom", "1", "READY"),
    ]
    inputs = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in said["metadata"]["inputs"]}
    assert inputs == {
        "user_id": ("BYTES", ["1"]),
        "age": ("INT64", ["1"]),
        "invited_by": ("BYTES", ["1"]),
        "hour": ("FP64", ["1"]),
        "history.item": ("INT64", ["1", "-1"]),
        "history.scenario": ("BYTES", ["1", "-1"]),
        "item_id": ("INT64", ["-1"]),
        "tags": ("BYTES", ["-1", "-1"]),
        "price": ("FP64", ["-1"]),
    }
    outputs = said["metadata"]["outputs"]
    assert [tensor["name"] for tensor in outputs] == ["probability", "score", "interest_logit", "scenario_logit"]
    assert {(tensor["datatype"], *tensor["shape"]) for tensor in outputs} == {("FP32", "-1", "2")}
    config = said["config"]["config"]
    types = {"BYTES": "TYPE_STRING", "INT64": "TYPE_INT64", "FP64": "TYPE_FP64"}
    wanted = {name: (types[datatype], shape) for name, (datatype, shape) in inputs.items()}
    assert {tensor["name"]: (tensor["data_type"], tensor["dims"]) for tensor in config["input"]} == wanted


@pytest.mark.process
def test_the_server_says_what_a_model_has_done(said):
    [model] = said["statistics"]["model_stats"]
    assert (model["name"], model["version"]) == ("mscan", "2")
    assert int(model["inference_count"]) >= 2 and int(model["execution_count"]) >= 2  # ours, and the one before
    for name in ("success", "compute_infer"):
        assert int(model["inference_stats"][name]["count"]) >= 2 and int(model["inference_stats"][name]["ns"]) > 0
    told = [(model["name"], model["version"]) for model in said["all statistics"]["model_stats"]]
    assert told == [("mscan", "2"), ("shared_bottom", "1")]


@pytest.mark.process
@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        ("a text for an integer", "INVALID_ARGUMENT", "feature 'item_id': value '4' is str, expected int64"),
        ("another model", "NOT_FOUND", "model 'mscam' is not served; did you mean mscan?"),
        ("statistics of another model", "NOT_FOUND", "model 'mscam' is not served; did you mean mscan?"),
        ("no scenario", "INVALID_ARGUMENT", "parameter 'scenario' is missing; known: home, cart, search"),
        ("a sequence", "INVALID_ARGUMENT", "sequences of requests are not kept"),
        ("too late", "RESOURCE_EXHAUSTED", "not scored: it could not be answered within its deadline"),
    ],
)
def test_what_is_wrong_is_said(case, code, message, said):
    found, text = said["wrong"][case]
    assert found == f"StatusCode.{code}"
    assert message in text
