"""Training runs over the tiny prepared folders: their configurations, run files, command lines and what they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from swrec_prod.config import RunConfig
from swrec_prod.evaluate.predictions import read_predictions

ROOT = Path(__file__).resolve().parents[1]
DAYS = {"train": "..2000-12-02", "valid": "2000-12-03", "test": "2000-12-04.."}
RATES = {"lr_sparse": 0.1, "lr_dense": 0.003, "threads": 1}
TIMES = ("seconds", "rows_per_second")
PATIENCE = 60  # seconds; the machine may be busy


def config_of(
    prepared: Path, model: str = "shared_bottom", more: dict[str, Any] | None = None, **train: Any
) -> RunConfig:
    """A run over a folder of conftest: by its split column where it has one, else by days.

    train: keys of that section.
    """
    has_split = json.loads((prepared / "manifest.json").read_text())["splits"]
    split = {"split": "random"} if has_split else {"split": "days", "days": DAYS}
    train = {"epochs": 2, "batch_size": 256, "patience": 9, **RATES, **train}
    return RunConfig.model_validate(
        {"data": {"path": str(prepared), **split}, "model": {"name": model}, "train": train, **(more or {})}
    )


def run_file(folder: Path, config: RunConfig) -> Path:
    """The configuration as a file for the command line; what it leaves open stays open."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    return path


def environment() -> dict[str, str]:
    """For processes that import this checkout and the tests, and find this Python's commands."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "PATH": path}


def process(*words: Any, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """A command of this Python, run in the checkout to its end: process("-m", "swrec_prod.cli", "datasets")."""
    command = [sys.executable, *map(str, words)]
    options = {"cwd": ROOT, "env": environment(), "text": True, "start_new_session": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as started:
        try:
            out, err = started.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)  # its children too: torchrun's ranks would wait for each other
            raise
    return subprocess.CompletedProcess(command, started.returncode, out, err)


def torchrun(*words: Any, ranks: int = 2, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """A script or module (`-m NAME`) on real processes of one machine."""
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}")
    return process(*launcher, *words, timeout=timeout)


def wait_for(port_file: Path, process: subprocess.Popen[str]) -> str:
    """host:port, once the process serves."""
    while not port_file.exists():
        assert process.poll() is None, "the server ended before it served"
        time.sleep(0.05)
    return f"127.0.0.1:{int(port_file.read_text())}"


def until(holds: Callable[[], Any], what: str) -> Any:
    """What `holds` gives once it is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if outcome := holds():
            return outcome
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE} s: {what}")


def history_of(run_dir: Path) -> list[dict[str, Any]]:
    """history.jsonl without what a clock says."""
    records = [json.loads(line) for line in (run_dir / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name not in TIMES} for record in records]


def metrics_of_run(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "metrics.json").read_text())


def arrays(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns of a table by name."""
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def predictions(run_dir: Path) -> dict[str, np.ndarray]:
    """The columns of predictions.parquet by name, of rows in order."""
    return arrays(read_predictions(run_dir / "predictions.parquet"))


def evaluated(path: Path, **options: Any) -> tuple[pa.Table, dict[str, Any]]:
    """The predictions and the metrics of `evaluate`."""
    from swrec_prod.evaluate.run import evaluate

    with tempfile.TemporaryDirectory() as folder:
        metrics = evaluate(path, predictions=Path(folder) / "predictions.parquet", **options)
        return read_predictions(Path(folder) / "predictions.parquet"), metrics
