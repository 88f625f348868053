"""Speed and memory of `swrec prepare` with the embedded engine, on simulated logs of 1, 3 and 10 M rows, each in a
process of its own.

The log has ten scenarios, ten id features (one of them a bag), two dense ones and a history of 50 clicks (44 on
average), in ten days; users and items are joined to it. Two minutes on two quiet cores.

prepare_rows_per_s    rows/s of the largest log, everything counted: checksums, vocabularies, lists, Parquet, requests
prepare_peak_gb       resident memory of that process at its peak
prepare_growth        seconds a row of the largest log against those of the smallest
prepare_rich_rows_per_s   rows/s of the middle log with two sequences of 50 behaviours, clicked and not, each with
                      three fields and its age
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import yaml

from benchmarks.record import Figure

FOLDER = Path("build/bench/prepare")
SIZES = (1_000_000, 3_000_000, 10_000_000)
DAYS, ROWS_A_USER = 10, 400
WANTED_SPEED, WANTED_RICH_SPEED, WANTED_GB = 150_000, 100_000, 6.0
RICH = {"kind": "sequence", "side": "user", "item": "item_id", "max_length": 50, "age": True}
SEQUENCES = [
    RICH | {"name": "history", "where": "click", "fields": ["category", "brand", "price"]},
    RICH | {"name": "skips", "where": {"click": 0}, "fields": ["category", "brand", "hour"]},
]
MEASURE = """
import json, resource, sys, time
from pathlib import Path
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
file, out, started = Path(sys.argv[1]), Path(sys.argv[2]), time.perf_counter()
rows = prepare(DataFile.load(file), file.parent, out).rows
print(json.dumps([rows, time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


def prepare_figures(rounds: int = 3, sizes: tuple[int, ...] = SIZES) -> list[Figure]:
    """The four figures; speeds are medians of the rounds, logs and results are removed again."""
    try:
        measurements = {rows: [_measure(rows) for _ in range(rounds)] for rows in sizes}
        middle = sorted(sizes)[len(sizes) // 2]
        rich = [_measure(middle, "rich.yaml") for _ in range(rounds)]
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
    seconds = {rows: statistics.median(s for s, _ in measured) for rows, measured in measurements.items()}
    gigabytes = {rows: max(gb for _, gb in measured) for rows, measured in measurements.items()}
    small, large = min(sizes), max(sizes)
    context = {
        "threads": os.cpu_count(),
        "ranks": 1,
        "seconds": seconds,
        "peak_gb": gigabytes,
        "measured": measurements,
    }
    speed, wanted = large / seconds[large], "what is asked for on two cores"
    rich_speed, of_rich = middle / statistics.median(s for s, _ in rich), context | {"measured": rich}
    return [
        Figure("prepare_rows_per_s", speed, "rows/s", wanted, WANTED_SPEED, ">= 1.0", context=context),
        Figure("prepare_rich_rows_per_s", rich_speed, "rows/s", wanted, WANTED_RICH_SPEED, ">= 1.0", context=of_rich),
        Figure("prepare_peak_gb", gigabytes[large], "GB", "what is allowed", WANTED_GB, "<= 1.0", context=context),
        Figure(
            "prepare_growth",
            seconds[large] / large * 1e6,
            "us/row",
            f"{small:,} rows",
            seconds[small] / small * 1e6,
            "<= 1.0",
            context=context,
        ),
    ]


def _measure(rows: int, file: str = "data.yaml") -> tuple[float, float]:
    """Seconds and peak memory in GB of one prepare with a data file of the log."""
    raw, out = FOLDER / f"log-{rows}", FOLDER / "out"
    if not raw.exists():
        _simulate(rows, raw)
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(raw / file), str(out)]
    done, seconds, peak = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    assert done == rows
    print(f"prepare {file}, {rows:,} rows: {rows / seconds:,.0f} rows/s, {peak:.2f} GB", flush=True)
    return seconds, peak


def _simulate(rows: int, out: Path) -> None:
    """In a process of its own, so that its memory is not counted here."""
    command = [
        sys.executable,
        "-m",
        "swrec_prod.cli",
        "simulate",
        "--out",
        str(out),
        "--days",
        str(DAYS),
        "--seed",
        "1",
    ]
    command += [
        "--rows-per-day",
        str(rows // DAYS),
        "--scenarios",
        "10",
        "--users",
        str(rows // ROWS_A_USER),
        "--history-length",
        "50",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    plain = yaml.safe_load((out / "data.yaml").read_text())
    features = [feature for feature in plain["schema"]["features"] if feature["kind"] != "sequence"]
    plain["schema"]["features"] = features + SEQUENCES
    (out / "rich.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
