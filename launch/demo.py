"""`make demo`: from a raw log to scored requests on real data, and to whether the model that scores them should, by the
same commands that a user would type.

Everything lands in build/demo; nothing of ours is imported, only command lines are named.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from rich.console import Console
from rich.table import Table

CONSOLE = Console(highlight=False)
SIMPLER = ("model={name: shared_bottom, dropout: 0.2}", "debias=null", "train.epochs=1")  # what makes the champion
DAYS = 7  # that are judged one by one
HOLD = 3  # exit code of a gate that a challenger does not pass
RUN_FILE, DATA_FILE = "movielens_mscan", "movielens_1m_genre"  # shipped, so that the demo runs in any folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code of the first command that fails, else 0."""
    parser = argparse.ArgumentParser(prog="python -m swrec_prod.launch.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for everything that is made")
    parser.add_argument("--raw", type=Path, help="MovieLens-1M on disk; fetched where left out")
    parser.add_argument("overrides", nargs="*", help="key=value for the run file, for example train.epochs=1")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    try:
        _demo(options.out, options.raw, options.overrides)
    except subprocess.CalledProcessError as failure:
        CONSOLE.print(
            f"\nThe demo stopped: `{' '.join(failure.cmd[:6])} ...` ended with {failure.returncode}; "
            "its message is above."
        )
        return failure.returncode
    CONSOLE.print(f"Done in {time.perf_counter() - started:.0f} s. Look at [bold]{options.out / 'index.html'}[/bold]")
    return 0


def _demo(out: Path, raw: Path | None, overrides: Sequence[str]) -> None:
    data, run, models = out / "movielens_1m_genre", out / "run", out / "models"
    champion, backfill, comparison = out / "champion", out / "backfill", out / "compare"
    out.mkdir(parents=True, exist_ok=True)
    for old in (run, models, champion, backfill, comparison):
        shutil.rmtree(old, ignore_errors=True)
    with _stage("Prepare MovieLens-1M: a million ratings, six genre families as scenarios"):
        _swrec("prepare", DATA_FILE, "--out", data, "--overwrite", *(["--raw", raw] if raw else []))
    with _stage("Train M-scan on two ranks under TorchX, on the past; judge it on later days"):
        _torchx(out / "train.log", "--run", RUN_FILE, "--out", run, "--nproc", 2, "--", f"data.path={data}", *overrides)
    with _stage("Evaluate: score the later days again, from the checkpoint, in one process"):
        judged = json.loads(_swrec("evaluate", run, "--predictions", out / "predictions.parquet", "--json"))
        CONSOLE.print(f"AUC {judged['overall']['auc']:.4f} on {judged['overall']['rows']:,} rows")
    with _stage("Export a TorchScript package, refused unless it scores as the trained model does"):
        _swrec("export", run, "--to", models / "mscan")
    with _stage("Serve it over gRPC and score real held-out requests"), _server(models, out) as target:
        expect = ("--expect", out / "predictions.parquet")
        answers = _swrec("score", data, "--target", target, *expect, "--out", out / "served.parquet", "--json")
        (out / "served.json").write_text(answers)
    with _stage("Train a simpler model on the same days: the champion that M-scan has to beat"):
        _swrec("train", RUN_FILE, "--out", champion, f"data.path={data}", *overrides, *SIMPLER)
    both = (f"shared_bottom={champion}", f"mscan={run}")
    with _stage("Compare both on all later days"):
        _swrec("compare", *both, "--out", comparison)
    with _stage("Replay the first of these days one by one, and ask the gate whether M-scan may take over"):
        days = ("--days", first_test_days(run), "--out", backfill)
        verdict = json.loads(_swrec("backfill", *both, *days, "--gate", "gate", "--json", codes=(0, HOLD)))["verdict"]
        CONSOLE.print(f"The gate says: {verdict['verdict']}")
    with _stage("Write the page"):
        pages = ("--backfill", backfill, "--comparison", comparison)
        _swrec("report", run, "--served", out / "served.json", *pages, "--out", out / "index.html")
    served = json.loads(answers)
    CONSOLE.print()
    CONSOLE.print(_summary(json.loads((run / "metrics.json").read_text()), served, verdict))
    CONSOLE.print(_example(data, out / "served.parquet"))


@contextmanager
def _stage(title: str) -> Iterator[None]:
    CONSOLE.print(f"\n[bold cyan]== {title}[/bold cyan]")
    started = time.perf_counter()
    yield
    CONSOLE.print(f"[dim]{time.perf_counter() - started:.0f} s[/dim]")


def first_test_days(run: Path) -> str:
    """The first DAYS days of a run's test range, A..B."""
    test = str(yaml.safe_load((run / "run.yaml").read_text())["data"]["days"]["test"])
    first = date.fromisoformat(test.partition("..")[0])
    return f"{first}..{first + timedelta(DAYS - 1)}"


def _swrec(*words: Any, codes: Sequence[int] = (0,)) -> str:
    """Run a command; its output is shown, or returned where it is JSON. codes: exit codes that are no failure."""
    command = [sys.executable, "-m", "swrec_prod.cli", *map(str, words)]
    CONSOLE.print(f"[dim]$ {' '.join(['swrec', *command[3:]])}[/dim]", soft_wrap=True)
    stdout = subprocess.PIPE if "--json" in words else None
    done = subprocess.run(command, text=True, stdout=stdout, env=_environment())
    if done.returncode not in codes:
        raise subprocess.CalledProcessError(done.returncode, command)
    return done.stdout or ""


def _torchx(log_file: Path, *words: Any) -> None:
    """Run the training component; the main rank's output is shown, that of all ranks is in `log_file`."""
    command = ["torchx", "run", "-s", "local_cwd", "--wait", "swrec.train", *map(str, words)]
    CONSOLE.print(f"[dim]$ {' '.join(command)}[/dim]", soft_wrap=True)
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_environment())
    assert process.stdout is not None
    with open(log_file, "w") as log:
        for line in process.stdout:
            log.write(line)
            text = main_rank_text(line)
            if text is not None:
                print(text, end="", flush=True)
    if process.wait():
        CONSOLE.print(f"The output of all ranks is in {log_file}")
        raise subprocess.CalledProcessError(process.returncode, command)


def main_rank_text(line: str) -> str | None:
    """TorchX marks each line with replica and rank:
    the text of `train/0 [0]:text`, None for other ranks and for TorchX itself.
    """
    _, mark, text = line.partition("[0]:")
    return text if mark else None


@contextmanager
def _server(models: Path, out: Path) -> Iterator[str]:
    """A server on a free port of this machine, for as long as the block runs."""
    port_file = out / "port"
    port_file.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "swrec_prod.cli",
        "serve",
        "--models",
        str(models),
        "--port",
        "0",
        "--port-file",
        str(port_file),
    ]
    CONSOLE.print(f"[dim]$ swrec {' '.join(command[3:])}[/dim]", soft_wrap=True)
    server = subprocess.Popen(command, env=_environment())
    try:
        while not port_file.exists():
            if server.poll() is not None:
                raise subprocess.CalledProcessError(server.returncode, command)
            time.sleep(0.1)
        yield f"127.0.0.1:{port_file.read_text().strip()}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def _environment() -> dict[str, str]:
    """The caller's, with this Python's commands (torchx, torchrun) first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def _summary(metrics: dict[str, Any], served: dict[str, Any], verdict: dict[str, Any]) -> Table:
    table = Table(title="From a raw log to scored requests", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    table.add_row(
        "trained",
        f"{metrics['rows']:,} rows in {metrics['seconds']:.0f} s ({metrics['rows_per_second']:,.0f} rows/s, 2 ranks)",
    )
    overall = metrics["overall"]
    table.add_row(
        "judged",
        f"AUC {overall['auc']:.4f}, log loss {overall['logloss']:.4f} on {overall['rows']:,} rows of later days",
    )
    for scenario, judged in metrics["scenarios"].items():
        table.add_row(
            f"  {scenario}",
            f"AUC {judged['auc']:.4f}, {judged['rows']:,} rows, {judged['positives'] / judged['rows']:.1%} positive",
        )
    latency = f"p50 {served['p50_ms']:.1f} ms, p99 {served['p99_ms']:.1f} ms"
    table.add_row("served", f"{served['rows']:,} rows in {served['requests']:,} requests, {latency}")
    table.add_row("served = offline", f"largest difference of any score {served['max_abs_diff']:.1e}")
    table.add_row("gate", f"{verdict['verdict']}: {verdict['challenger']} against {verdict['champion']}")
    return table


def _example(data: Path, served: Path) -> Table:
    """The held-out request with the most candidates, as the server ranked it."""
    candidates = pq.read_table(
        data / "requests.parquet", columns=["row", "user", "scenario", "time", "movie_id", "label_click"]
    )
    joined = candidates.join(pq.read_table(served), "row", join_type="inner").to_pylist()
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in joined:
        groups.setdefault((row["user"], row["scenario"], row["time"]), []).append(row)
    (user, scenario, when), rows = max(groups.items(), key=lambda item: (len(item[1]), str(item[0])))
    table = Table(title=f"One request: user {user} in scenario {scenario!r}, {when:%Y-%m-%d}", title_justify="left")
    for name in ("movie", "score", "probability", "liked it"):
        table.add_column(name, justify="left" if name == "movie" else "right")
    for row in sorted(rows, key=lambda r: -r["score_click"])[:8]:
        table.add_row(
            str(row["movie_id"]),
            f"{row['score_click']:+.3f}",
            f"{row['prob_click']:.0%}",
            "yes" if row["label_click"] else "no",
        )
    return table


if __name__ == "__main__":
    raise SystemExit(main())
