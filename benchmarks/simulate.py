"""Speed and memory of `swrec simulate`, in processes of their own. A minute on two cores.

simulate_rows_per_s     rows/s of a log with 10 scenarios, writing included, median of the rounds
simulate_peak_growth    peak memory of DAYS days against that of two days
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.record import Figure

FOLDER = Path("build/bench/simulated")
WANTED = 1_000_000  # rows/s on two cores
MEASURE = """
import json, resource, sys, time
from pathlib import Path
from swrec_prod.simulation.simulate import simulate
from swrec_prod.simulation.world import Simulation
options, started = Simulation(days=int(sys.argv[1]), rows_per_day=int(sys.argv[2]), scenarios=10, seed=1), \
time.perf_counter()
rows = simulate(options, Path(sys.argv[3]), overwrite=True)["rows"]
print(json.dumps([rows / (time.perf_counter() - started), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


def simulate_figures(days: int = 10, rows_per_day: int = 1_000_000, rounds: int = 3) -> list[Figure]:
    """The two figures; the log is removed again."""
    try:
        speeds, peaks = zip(*(_measure(days, rows_per_day) for _ in range(rounds)), strict=True)
        _, short = _measure(2, rows_per_day)
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
    context = {"days": days, "rows_per_day": rows_per_day, "scenarios": 10, "threads": os.cpu_count()}
    return [
        Figure(
            "simulate_rows_per_s",
            statistics.median(speeds),
            "rows/s",
            "what is asked for on two cores",
            WANTED,
            wanted=">= 1.0",
            context=context | {"measured": speeds},
        ),
        Figure(
            "simulate_peak_growth",
            statistics.median(peaks),
            "GB",
            "two days, same process otherwise",
            short,
            wanted="<= 1.2",
            context=context | {"measured": peaks},
        ),
    ]


def _measure(days: int, rows_per_day: int) -> tuple[float, float]:
    """Rows/s and peak memory in GB of one simulation."""
    command = [sys.executable, "-c", MEASURE, str(days), str(rows_per_day), str(FOLDER)]
    speed, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return speed, peak
