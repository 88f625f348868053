"""The TorchX component: what it makes of a command line, and a real run of two ranks through it;
the demo's own functions.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import arrays, config_of, environment, metrics_of_run, predictions, run_file
from torchx.runner import get_runner
from torchx.specs import AppDef
from torchx.specs.finder import get_component

from swrec_prod.evaluate.run import evaluate
from swrec_prod.launch.demo import main_rank_text

ROOT = Path(__file__).resolve().parents[1]
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


def test_the_components_help_explains_every_argument() -> None:
    component = get_component(COMPONENT)
    assert component.validation_errors == []
    told = subprocess.run(
        ["torchx", "run", COMPONENT, "--help"],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert told.returncode == 0
    for argument in ("--run", "--out", "--nproc", "--retries", "key=value", "RUN_DIR to write", "ranks a host"):
        assert argument in told.stdout


@pytest.fixture(scope="module")
def run(prepared_age: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks as `torchx run` leaves it."""
    folder = tmp_path_factory.mktemp("torchx")
    file = run_file(folder, config_of(prepared_age, batch_size=128))
    words = ["--run", str(file), "--out", str(folder / "run"), "--nproc", "2", "--", "train.epochs=1"]
    command = ["torchx", "run", "-s", "local_cwd", "--wait", COMPONENT, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), cwd=ROOT, check=False, timeout=100
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (folder / "run" / "said.txt").write_text(done.stdout + done.stderr)
    return folder / "run"


def test_two_ranks_under_torchx_leave_one_run(run: Path) -> None:
    metrics = metrics_of_run(run)
    assert metrics["rows"] == 3200 and metrics["steps"] == 13
    assert len(predictions(run)["row"]) == len(set(predictions(run)["row"])) == metrics["overall"]["rows"] == 400
    assert "2 rank(s) on cpu" in (run / "log.txt").read_text()


def test_one_process_scores_as_the_two_ranks_did(run: Path) -> None:
    table = arrays(evaluate(run)[0])
    np.testing.assert_array_equal(table["row"], predictions(run)["row"])
    np.testing.assert_allclose(table["score_click"], predictions(run)["score_click"], atol=1e-6)


def test_the_second_rank_says_nothing_of_its_own(run: Path) -> None:
    said = (run / "said.txt").read_text()
    assert sum("valid_auc" in line for line in said.splitlines() if "best so far" in line) == 1
    assert "Warning" not in said and "Traceback" not in said


def test_the_demo_goes_the_whole_way(raw_movielens: Path, tmp_path: Path) -> None:
    days = ("data.days.valid=2000-12-03", "data.days.test=2000-12-04..")
    command = [
        sys.executable,
        "-m",
        "swrec_prod.launch.demo",
        "--out",
        tmp_path,
        "--raw",
        raw_movielens,
        *days,
        "train.epochs=1",
        "train.batch_size=256",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    served = json.loads((tmp_path / "served.json").read_text())
    assert served["rows"] > 0 and served["max_abs_diff"] <= 1e-5
    assert "served = offline" in done.stdout and "One request: user" in done.stdout
    assert "<html" in (tmp_path / "index.html").read_text()[:1000]


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
