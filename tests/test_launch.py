"""The TorchX component: what it makes of a command line, and what two ranks under it leave; the demo's functions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import ROOT, arrays, evaluated, metrics_of_run, predictions
from torchx.cli.main import main as torchx
from torchx.runner import get_runner
from torchx.specs import AppDef
from torchx.specs.finder import get_component
from whole_way import WholeWay

from swrec_prod.launch.demo import main_rank_text

COMPONENT = str(ROOT / "launch" / "components.py") + ":train"


def app_of(*words: str) -> AppDef:
    """What the component makes of these words of a command line."""
    with get_runner() as runner:
        return runner.dryrun_component(COMPONENT, list(words), scheduler="local_cwd")._app  # type: ignore[union-attr,return-value]


def test_the_component_names_the_same_command_for_every_rank() -> None:
    size = ("--nnodes", "2", "--nproc", "4", "--cpu", "8", "--retries", "3")
    app = app_of("--run", "run.yaml", "--out", "build/x", *size, "--", "train.epochs=1")
    [role] = app.roles
    line = " ".join(role.args)
    assert "swrec_prod.cli train run.yaml train.epochs=1 --out build/x" in line
    assert "--nproc_per_node 4" in line and "--nnodes 2" in line
    assert (role.num_replicas, role.max_retries, role.resource.cpu) == (2, 3, 8)
    assert role.env["OMP_WAIT_POLICY"] == "passive" and role.env["OMP_NUM_THREADS"] == "2", "eight cores for four ranks"


@pytest.mark.process
def test_words_variables_and_ports_arrive_whole(tmp_path: Path) -> None:
    """What bash makes of the component's line; its torchrun is one that shows its arguments."""
    words = ("--run", "a run, b=c.yaml", "--out", "$HOME/x y", "--nnodes", "2")
    more = ("--env", "NOTE='a, b=c' OTHER=1", "--rdzv_port", "29777", "--retries", "2", "--", "data.days.train=a, b $c")
    with get_runner() as runner:
        request = runner.dryrun_component(COMPONENT, [*words, *more], "local_cwd").request
    [replicas] = request.role_params.values()
    (tmp_path / "python").write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TORCHX_RANK0_HOST": "localhost"}
    said = subprocess.run(replicas[0].args, env=environment, capture_output=True, text=True, timeout=60).stdout
    given = json.loads(said)
    assert given[:4] == ["-m", "swrec_prod.launch.torchrun", "--max_restarts", "2"]
    assert given[given.index("--rdzv_endpoint") + 1] == "localhost:29777"
    assert given[-5:] == ["train", "a run, b=c.yaml", "data.days.train=a, b $c", "--out", "$HOME/x y"]
    assert (replicas[0].env["NOTE"], replicas[0].env["OTHER"]) == ("a, b=c", "1")


def test_a_variable_without_a_value_is_named() -> None:
    with pytest.raises(ValueError, match="--env: 'NOTE' is not NAME=value"):
        app_of("--run", "x", "--out", "y", "--env", "NOTE")


def test_the_components_help_explains_every_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert get_component(COMPONENT).validation_errors == []
    with pytest.raises(SystemExit, match="0"):
        torchx(["run", COMPONENT, "--help"])
    printed = capsys.readouterr().out
    for argument in ("--run", "--out", "--nproc", "--retries", "key=value", "RUN_DIR to write", "ranks a host"):
        assert argument in printed


def test_two_ranks_under_torchx_leave_one_run(whole_way: WholeWay) -> None:
    metrics, rows = metrics_of_run(whole_way.run), predictions(whole_way.run)["row"]
    assert metrics["rows"] == 3622 and metrics["steps"] == 15
    assert len(rows) == len(set(rows)) == metrics["overall"]["rows"] > 100
    assert "2 rank(s) on cpu" in (whole_way.run / "log.txt").read_text()


def test_one_process_scores_as_the_two_ranks_did(whole_way: WholeWay) -> None:
    table, expected = arrays(evaluated(whole_way.run)[0]), predictions(whole_way.run)
    np.testing.assert_array_equal(table["row"], expected["row"])
    np.testing.assert_allclose(table["score_click"], expected["score_click"], atol=1e-6)


def test_the_second_rank_says_nothing_of_its_own(whole_way: WholeWay) -> None:
    lines = whole_way.trained.splitlines()
    assert sum("valid_auc" in line for line in lines if "best so far" in line) == 1


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("swrec-train/0 [0]:step 13: valid_auc 0.7\n", "step 13: valid_auc 0.7\n"),
        ("swrec-train/0 [0]:rows[0]: 3\n", "rows[0]: 3\n"),
        ("swrec-train/0 [1]:step 13\n", None),
        ("torchx 2026-01-01 INFO  Waiting for the app to finish...\n", None),
    ],
)
def test_the_demo_shows_what_the_main_rank_says(line: str, shown: str | None) -> None:
    assert main_rank_text(line) == shown
