"""A frozen backfill of 30 days against one `swrec evaluate` of the same days, on a simulated log.

backfill_vs_evaluate   rows a second of `swrec backfill`, the whole command: days scored, judged with intervals and
                       committed, then pooled; against those of `swrec evaluate --days A..B`, the whole command too
backfill_peak_mb       the most memory of 30 days, against that of 10 days

The log, its preparation and a short training are made once, in build/bench/backfill.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks.record import Figure

FOLDER = Path("build/bench/backfill")
FIRST, SCENARIOS, SEED = date(2024, 1, 1), 5, 1
TRAINED, VALID, JUDGED, FEWER = 2, 1, 30, 10  # days
ROWS = 50_000  # a day
ROUNDS = 3


class Ran(NamedTuple):
    """What a command took: seconds, and megabytes at most."""

    seconds: float
    peak_mb: float


def figures(quick: bool = False) -> Iterator[Figure]:
    """Commands take turns; the median counts."""
    rows = ROWS // 10 if quick else ROWS
    folder = FOLDER / str(rows)
    run = trained(folder, rows)
    evaluated, judged, fewer = [], [], []
    for number in range(1 if quick else ROUNDS):
        evaluated.append(swrec("evaluate", run, "--days", span(JUDGED), "--json"))
        judged.append(backfilled(folder, run, JUDGED, number))
        fewer.append(backfilled(folder, run, FEWER, number))
    ours, theirs = (JUDGED * rows / median([ran.seconds for ran in runs]) for runs in (judged, evaluated))
    context = {"rows": JUDGED * rows, "days": JUDGED, "evaluate_peak_mb": median([ran.peak_mb for ran in evaluated])}
    wanted = {} if quick else {"wanted": ">= 0.8"}
    yield Figure("backfill_vs_evaluate", ours, "rows/s", "swrec evaluate", theirs, context=context, **wanted)
    most, least = (median([ran.peak_mb for ran in runs]) for runs in (judged, fewer))
    held = {} if quick else {"wanted": "<= 1.1"}
    yield Figure("backfill_peak_mb", most, "MB", f"of {FEWER} days", least, context=context, **held)


def trained(folder: Path, rows: int) -> Path:
    """The RUN_DIR of a short training on the first days of a simulated log."""
    run = folder / "run"
    if (run / "metrics.json").exists():
        return run
    shutil.rmtree(folder, ignore_errors=True)
    raw, data = folder / "raw", folder / "data"
    options = ("--days", TRAINED + VALID + JUDGED, "--rows-per-day", rows, "--scenarios", SCENARIOS, "--seed", SEED)
    swrec("simulate", "--out", raw, *options)
    file = yaml.safe_load((raw / "data.yaml").read_text()) | {"fit_until": str(day(TRAINED - 1))}
    (raw / "data.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    swrec("prepare", raw / "data.yaml", "--raw", raw, "--out", data)
    days = f"data.days={{train: ..{day(TRAINED - 1)}, valid: {day(TRAINED)}, test: {day(TRAINED + VALID)}}}"
    swrec(
        "train", "movielens_shared_bottom", f"data.path={data}", "data.split=days", days, "train.epochs=1", "--out", run
    )
    return run


def backfilled(folder: Path, run: Path, days: int, number: int) -> Ran:
    """A backfill into a folder that is not there."""
    out = folder / f"days-{days}-{number}"
    shutil.rmtree(out, ignore_errors=True)
    return swrec("backfill", run, "--days", span(days), "--out", out, "--json")


def span(days: int) -> str:
    """The first so many days that the model has not seen."""
    return f"{day(TRAINED + VALID)}..{day(TRAINED + VALID + days - 1)}"


def day(number: int) -> date:
    """Of the log, from 0."""
    return FIRST + timedelta(days=number)


def swrec(*words: object) -> Ran:
    """A command in a process of its own. Raises RuntimeError where it fails."""
    command = [sys.executable, "-m", "swrec_prod.cli", *map(str, words)]
    started = time.perf_counter()
    with open(os.devnull, "w") as nowhere:
        process = os.posix_spawn(
            sys.executable,
            command,
            dict(os.environ),
            file_actions=[(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1), (os.POSIX_SPAWN_DUP2, nowhere.fileno(), 2)],
        )
        _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return Ran(time.perf_counter() - started, usage.ru_maxrss / 1024)


def median(values: list[float]) -> float:
    """The middle one."""
    return sorted(values)[len(values) // 2]
