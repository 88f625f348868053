"""Finished runs of a protocol of configs/results.yaml, read back for docs/results.md:
test rows once, every seed's scores beside them.

Shapes: N test rows, R seeds, S scenarios.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from benchmarks.results_grid import DATA, Grid, Protocol, Run, prepared_folder, runs_of
from swrec_prod.config import day_range
from swrec_prod.data.manifest import MANIFEST
from swrec_prod.errors import DataError
from swrec_prod.evaluate.predictions import Split, codes_of, logit_of, read_predictions, split_of, tasks_of
from swrec_prod.metrics import sigmoid

PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class TestRows:
    """What all runs of a protocol are judged by.

    row_N: ids; scenario_N: indices into scenarios; task: the first of the schema.
    """

    __test__ = False  # to pytest its name says otherwise

    task: str
    row_N: np.ndarray
    labels_N: np.ndarray
    user_N: np.ndarray
    scenario_N: np.ndarray
    scenarios: list[str]

    @classmethod
    def of(cls, table: pa.Table) -> TestRows:
        """Of a predictions table."""
        task = tasks_of(table)[0]
        labels = table[f"label_{task}"].to_numpy().astype(np.float64)
        return cls(task, table["row"].to_numpy(), labels, codes_of(table, "user")[0], *codes_of(table, "scenario"))


@dataclass(frozen=True, eq=False)
class Scores:
    """A variant's finished seeds. logit_RN: of the calibrated probability; score_RN: what ranks, which differs where
    the causal split takes the scenario's part away; splits: that split of every seed, empty without one.
    """

    variant: str
    seeds: tuple[int, ...]
    logit_RN: np.ndarray
    score_RN: np.ndarray
    splits: tuple[Split, ...]


def read_runs(grid: Grid, name: str) -> tuple[TestRows, list[Scores]] | None:
    """The finished runs of a protocol, variants in the grid's order; None when there are none.

    Raises DataError when two runs were not judged by the same rows.
    """
    rows: TestRows | None = None
    found: list[Scores] = []
    runs = [run for run in runs_of(grid, [name]) if run.finished()]
    for variant in grid.protocols[name].variants:
        seeds = [run for run in runs if run.variant == variant]
        if seeds:
            tables = [read_predictions(run.folder / "predictions.parquet") for run in seeds]
            rows = rows or TestRows.of(tables[0])
            _check_rows(rows, seeds, tables)
            found.append(_scores(variant, tuple(run.seed for run in seeds), tables, rows.task))
    return None if rows is None else (rows, found)


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


def _check_rows(rows: TestRows, runs: Sequence[Run], tables: Sequence[pa.Table]) -> None:
    for run, table in zip(runs, tables, strict=True):
        same = f"label_{rows.task}" in table.column_names and np.array_equal(table["row"].to_numpy(), rows.row_N)
        if not (same and np.array_equal(table[f"label_{rows.task}"].to_numpy(), rows.labels_N)):
            raise DataError(
                f"{run.folder}: judged by other test rows than the protocol's first run; delete it and run it again"
            )


def _scores(variant: str, seeds: tuple[int, ...], tables: Sequence[pa.Table], task: str) -> Scores:
    logit_RN = np.stack([logit_of(table, task) for table in tables])
    score_RN = np.stack([table[f"score_{task}"].to_numpy().astype(np.float64) for table in tables])
    splits = tuple(split for table in tables if (split := split_of(table, task)) is not None)
    return Scores(variant, seeds, logit_RN, score_RN, splits)
