"""`make bench-train`: quality and speed of training, and what serving loses of it. About 15 minutes on 2 cores.

train_sharedbottom_auc         test AUC, mean of 3 seeds, against the published one (Scenario-Wise Rec, table 3)
train_sharedbottom_vs_raw      rows/s from prepared Parquet, against a loop by hand over fbgemm's tables
                               with all rows in memory
train_2ranks_sharedbottom      rows/s of two ranks of one thread, against one such rank
train_2ranks_mscan             the same for M-scan
checkpoint_pause_share         training stands still for a checkpoint of 1 GB of tables, of the time between two of them
checkpoint_save_1gb_s          until it is whole, on the disk and checked; checkpoint_load_1gb_s until it is loaded
served_max_abs_diff            held-out rows through gRPC, against the offline predictions
int8_auc_loss                  AUC of the trained tables, less that of int8 tables, on the served rows' scores
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.checkpoints import checkpoint_figures
from benchmarks.record import Figure, report
from benchmarks.served import int8_auc_loss, served_max_abs_diff

RUNS = Path("build/bench/runs")
AGE, GENRE = Path("build/data/movielens_1m_age"), Path("build/data/movielens_1m_genre")
SHARED_BOTTOM, MSCAN = Path("configs/run/movielens_shared_bottom.yaml"), Path("configs/run/movielens_mscan.yaml")
PUBLISHED_AUC = 0.8095
SHORT_MSCAN = ("data.days.train=2000-11-20..2000-12-02",)  # about 150,000 rows: enough steps to time
# the inputs of the published figure and nothing else
BENCHMARK_INPUTS = "data.features=[user_id,movie_id,gender,occupation,zip,main_genre,age]"
SEEDS = (1, 2, 3)


def main() -> None:
    """Measure what is asked for and report it."""
    parts: dict[str, Callable[[int], list[Figure]]] = {
        "raw": against_raw,
        "ranks": two_ranks,
        "checkpoints": lambda rounds: checkpoint_figures(rounds, RUNS),
        "auc": auc_of_seeds,
        "served": served,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each side of a ratio, taken in turns")
    parser.add_argument("--raw", help="MovieLens-1M on disk; fetched where left out")
    options = parser.parse_args()
    unknown = set(options.parts) - set(parts)
    if unknown:
        parser.error(f"unknown part {min(unknown)}; known: {', '.join(parts)}")
    RUNS.mkdir(parents=True, exist_ok=True)
    if set(options.parts) != {"checkpoints"}:
        prepare(options.raw)
    for name in options.parts or parts:
        report("bench-train", parts[name](options.rounds), {"rounds": options.rounds})


def prepare(raw: str | None) -> None:
    """Both prepared folders; at once where they are up to date."""
    for folder in (AGE, GENRE):
        swrec(
            "prepare",
            f"configs/data/{folder.name}.yaml",
            "--out",
            folder,
            "--overwrite",
            *(["--raw", raw] if raw else []),
        )


def against_raw(rounds: int) -> list[Figure]:
    """Our reader and trainer against the loop by hand, with two threads and with one, reading Parquet once included.

    Ours counts the decoding of the Parquet files, spread over the epochs of the AUC runs; the loop by hand starts from
    memory.
    """
    figures = []
    for threads in (2, 1):
        ours, raw = [], []
        for _ in range(rounds):
            raw.append(throughput("raw", AGE, threads, 4096, "--dropout", "0.2")["rows_per_second"])
            ours.append(throughput("ours", AGE, threads, 4096, "--config", SHARED_BOTTOM, "--set", BENCHMARK_INPUTS))
        reference = statistics.median(raw)
        by_hand = f"loop by hand, {threads} thread(s)"
        context = {"threads": threads, "ranks": 1, "ours": ours, "raw": raw}
        suffix = "" if threads == 2 else "_1thread"
        value = statistics.median(with_loading(measurement) for measurement in ours)
        wanted = ">= 0.85" if threads == 2 else ""
        figures.append(
            Figure(f"train_sharedbottom_vs_raw{suffix}", value, "rows/s", by_hand, reference, wanted, context=context)
        )
    return figures


def with_loading(measurement: dict[str, float], epochs: int = 10) -> float:
    """Rows a second of a run of `epochs` epochs, decoding included."""
    rows = epochs * measurement["rows"]
    return rows / (measurement["load_seconds"] + rows / measurement["rows_per_second"])


def two_ranks(rounds: int) -> list[Figure]:
    """Two ranks of one thread against one rank of one thread."""
    cases = (
        ("sharedbottom", SHARED_BOTTOM, AGE, 16384, (BENCHMARK_INPUTS,), ">= 1.3"),
        ("mscan", MSCAN, GENRE, 4096, SHORT_MSCAN, ">= 1.6"),
    )
    figures = []
    for name, run, data, batch, overrides, wanted in cases:
        words = ("--config", run, "--set", *overrides)
        one, two = [], []
        for _ in range(rounds):
            one.append(throughput("ours", data, 1, batch, *words)["rows_per_second"])
            two.append(throughput("ours", data, 1, batch, *words, ranks=2)["rows_per_second"])
        context = {"threads": 1, "ranks": 2, "batch": batch, "one": one, "two": two}
        value, reference = statistics.median(two), statistics.median(one)
        figures.append(
            Figure(f"train_2ranks_{name}", value, "rows/s", "one rank, 1 thread", reference, wanted, context=context)
        )
    return figures


def auc_of_seeds(_: int) -> list[Figure]:
    """Test AUC of SharedBottom over the random split, mean of three seeds:
    with genres, and with the published inputs alone.
    """
    figures = []
    for name, overrides in (
        ("train_sharedbottom_auc", ()),
        ("train_sharedbottom_auc_published_inputs", (BENCHMARK_INPUTS,)),
    ):
        aucs = [test_auc(seed, *overrides) for seed in SEEDS]
        context = {
            "seeds": SEEDS,
            "auc": aucs,
            "standard_deviation": statistics.stdev(aucs),
            "threads": os.cpu_count(),
            "ranks": 1,
        }
        value = statistics.mean(aucs)
        figures.append(
            Figure(name, value, "AUC", "published SharedBottom", PUBLISHED_AUC, ">= 0.812", "value", context)
        )
    return figures


def test_auc(seed: int, *overrides: str) -> float:
    """AUC of one training run on the test rows."""
    run = RUNS / "shared_bottom"
    swrec("train", SHARED_BOTTOM, f"train.seed={seed}", f"data.path={AGE}", *overrides, "--out", run, "--overwrite")
    return json.loads((run / "metrics.json").read_text())["overall"]["auc"]


def served(_: int) -> list[Figure]:
    """What is lost between the trained model and the server's answers, for M-scan on later days."""
    run = RUNS / "mscan"
    swrec("train", MSCAN, f"data.path={GENRE}", "--out", run, "--overwrite")
    return [served_max_abs_diff(run, GENRE), int8_auc_loss(run, GENRE)]


def throughput(what: str, data: Path, threads: int, batch: int, *words: object, ranks: int = 1) -> dict[str, float]:
    """One measurement, in processes of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, "-W", "ignore", *launcher, "-m", "benchmarks.throughput", what]
    command += ["--data", str(data), "--threads", str(threads), "--batch", str(batch), *map(str, words)]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    measurement = json.loads(done.stdout.strip().splitlines()[-1])
    print(
        f"{what}, batch {batch}, {ranks} rank(s) of {threads} thread(s): {measurement['rows_per_second']:,.0f} rows/s",
        flush=True,
    )
    return measurement


def swrec(*words: object) -> str:
    """Run a command of ours, its output shown."""
    command = [sys.executable, "-m", "swrec_prod.cli", *map(str, words)]
    return subprocess.run(command, check=True, text=True).stdout or ""


if __name__ == "__main__":
    main()
