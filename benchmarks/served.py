"""What is lost between a trained model and a server's answers."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.record import Figure
from swrec_prod.metrics.ranks import auc

MODELS = Path("build/bench/models")
ROWS = 1000


def served_max_abs_diff(run: Path, data: Path) -> Figure:
    """1,000 held-out rows through gRPC with fp32 tables, against the run's own predictions: any score, any logit."""
    summary = _serve_and_score(run, data, "none", ROWS, run / "served.parquet")
    context = {name: summary[name] for name in ("rows", "requests", "p50_ms", "p99_ms")} | {"threads": 1, "ranks": 1}
    return Figure(
        "served_max_abs_diff", summary["max_abs_diff"], "", "offline predictions", 0.0, "<= 1e-5", "value", context
    )


def int8_auc_loss(run: Path, data: Path) -> Figure:
    """AUC lost when the tables are stored as int8: all held-out rows, served with fp32 tables and with int8 tables."""
    aucs = {}
    for quantize in ("none", "int8"):
        file = run / f"served_{quantize}.parquet"
        _serve_and_score(run, data, quantize, 0, file)
        scored = pq.read_table(file).join(
            pq.read_table(data / "requests.parquet", columns=["row", "label_click"]), "row"
        )
        aucs[quantize] = auc(scored["label_click"].to_numpy(), scored["prob_click"].to_numpy())
    context = {"rows": scored.num_rows, "auc_fp32": aucs["none"], "auc_int8": aucs["int8"], "threads": 1, "ranks": 1}
    return Figure(
        "int8_auc_loss", aucs["none"] - aucs["int8"], "AUC", "fp32 tables", aucs["none"], "<= 0.0005", "value", context
    )


def _serve_and_score(run: Path, data: Path, quantize: str, rows: int, out: Path) -> dict[str, float]:
    shutil.rmtree(MODELS, ignore_errors=True)
    _swrec("export", run, "--to", MODELS / "model", "--quantize", quantize)
    with _server() as target:
        words = ("--expect", run / "predictions.parquet", "--tolerance", "inf", "--rows", rows, "--out", out, "--json")
        return json.loads(_swrec("score", data, "--target", target, *words))


@contextmanager
def _server() -> Iterator[str]:
    port_file = MODELS / "port"
    server = subprocess.Popen(_command("serve", "--models", MODELS, "--port", 0, "--port-file", port_file))
    try:
        while not port_file.exists():
            if server.poll() is not None:
                raise subprocess.CalledProcessError(server.returncode, "swrec serve")
            time.sleep(0.1)
        yield f"127.0.0.1:{port_file.read_text().strip()}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def _swrec(*words: object) -> str:
    return subprocess.run(_command(*words), check=True, text=True, stdout=subprocess.PIPE).stdout


def _command(*words: object) -> list[str]:
    return [sys.executable, "-m", "swrec_prod.cli", *map(str, words)]
