"""Finished runs of a protocol of configs/results.yaml, and what is known of their rows, for docs/results.md.

Shapes: N test rows.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from benchmarks.results.grid import DATA, Grid, Protocol, prepared_folder, runs_of
from swrec_prod.compare.runs import Scores, SeedRun, TestRows, read_scores
from swrec_prod.config import day_range
from swrec_prod.data.manifest import MANIFEST
from swrec_prod.errors import DataError
from swrec_prod.metrics.probabilities import sigmoid

PARTS = ("train", "valid", "test")


def read_runs(grid: Grid, name: str) -> tuple[TestRows, list[Scores]] | None:
    """The finished runs of a protocol, variants in the grid's order; None when there are none.

    Raises DataError when two runs were not judged by the same rows.
    """
    runs = [run for run in runs_of(grid, [name]) if run.finished()]
    seeds = {
        variant: [SeedRun(run.folder, run.seed) for run in runs if run.variant == variant]
        for variant in grid.protocols[name].variants
    }
    finished = {variant: of for variant, of in seeds.items() if of}
    return read_scores(finished) if finished else None


def rows_by_part(name: str, protocol: Protocol) -> dict[str, int]:
    """Rows of train, valid and test by the manifest of the prepared folder;
    empty when it is gone, or only some scenarios are taken.
    """
    path = prepared_folder(name, protocol) / MANIFEST
    if not path.is_file() or protocol.data.get("scenarios"):
        return {}
    manifest = json.loads(path.read_text())
    if protocol.data.get("split") == "random":
        return {part: int(manifest["splits"][part]) for part in PARTS}
    ranges = {part: tuple(map(str, day_range(protocol.data["days"][part]))) for part in PARTS}
    return {
        part: sum(f["rows"] for f in manifest["files"] if first <= f["day"] <= last)
        for part, (first, last) in ranges.items()
    }


def chance_of_liking(name: str, row_N: np.ndarray) -> np.ndarray:
    """float64 [N]: of the given rows of a simulated protocol,
    the probability sigmoid(interest) of a click without direct effect.

    Raises DataError when the simulation's truth is not there or lacks rows.
    """
    folder = DATA / f"{name}_log" / "truth"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; `python -m benchmarks.results {name}` simulates it")
    wanted = ds.field("row").isin(pa.array(row_N))
    truth = ds.dataset(folder, format="parquet").to_table(columns=["row", "interest"], filter=wanted).sort_by("row")
    at = np.searchsorted(truth["row"].to_numpy(), row_N)
    if len(truth) != len(np.unique(row_N)):
        raise DataError(f"{folder}: truth of {len(truth)} of {len(row_N)} test rows; simulate and prepare again")
    return sigmoid(truth["interest"].to_numpy()[at])
