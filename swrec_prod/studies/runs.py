"""Trains the runs of a study, one after the other, each in a process of its own; what is finished is not trained again.

DIR/runs/GROUP/VARIANT/seed-K/        a RUN_DIR, without checkpoints once it is finished
DIR/runs/GROUP/VARIANT/seed-K.json    what it was, and what it cost: the RunRecord below
"""

from __future__ import annotations

import io
import multiprocessing
import resource
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import CheckpointError, ConfigError, SwrecError
from swrec_prod.files import read_json, write_json
from swrec_prod.ranker import build_ranker, resolve_run
from swrec_prod.run_dir import RunDir
from swrec_prod.strict import Strict, parse
from swrec_prod.studies.data import Say, StudyData
from swrec_prod.studies.plan import StudyPlan, StudyVariant
from swrec_prod.train.distributed import before_torch, quiet_libraries
from swrec_prod.train.folder import difference
from swrec_prod.train.run import train


class Cost(Strict):
    """What a run cost. seconds: of its process, reading and judging included. rows_per_second: of training, all ranks.
    tables, dense: trained numbers in tables and above them. peak_mb: the most memory that the process had, MB; the
    training rows that it holds among it.
    """

    seconds: float
    rows_per_second: float
    tables: int
    dense: int
    peak_mb: float


class RunRecord(Strict):
    """A finished run. config: as it was asked for; rows: a hash of the prepared files that it read."""

    model_config = pydantic.ConfigDict(extra="ignore")
    config: dict[str, Any]
    rows: str
    auc: float | None
    cost: Cost


class StudyRun(NamedTuple):
    """One run of a study. folder: its RUN_DIR."""

    variant: StudyVariant
    seed: int
    config: RunConfig
    folder: Path

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.variant.label}, seed {self.seed}"

    @property
    def record_file(self) -> Path:
        """Its RunRecord."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def rows(self) -> str:
        """A hash of the prepared files that it reads."""
        return sha256("".join(file.sha256 for file in Catalog.open(self.config.data.path).records).encode()).hexdigest()

    def record(self) -> RunRecord | None:
        """What is known of the finished run; None where it has not finished.

        Raises ConfigError where its folder has a finished run of another configuration, or on other rows.
        """
        if not (self.record_file.is_file() and RunDir(self.folder).finished):
            return None
        record = parse(RunRecord, read_json(self.record_file), str(self.record_file))
        changed = difference(without_place(record.config), without_place(self.config.model_dump(mode="json")))
        if changed or record.rows != self.rows:
            what = f"another {changed}" if changed else "other rows"
            raise ConfigError(f"{self.folder}: holds a finished run with {what}; choose another --out")
        return record


def runs_of(plan: StudyPlan, data: StudyData) -> list[StudyRun]:
    """The runs, first seeds first; their rows are made. Raises ConfigError for a model that does not fit the data."""
    runs = []
    for number, variant in enumerate(plan.variants, 1):
        data.say(f"rows of {number} of {len(plan.variants)} variants: {variant.label}")
        config = data.config(variant, plan.seeds[0])
        build_ranker(resolve_run(data.rows(variant).schema, config), tables_on="meta")
        folder = data.out / "runs" / variant.folder
        runs += [StudyRun(variant, seed, data.config(variant, seed), folder / f"seed-{seed}") for seed in plan.seeds]
    return sorted(runs, key=lambda run: plan.seeds.index(run.seed))


def train_missing(runs: Sequence[StudyRun], say: Say) -> None:
    """Train the runs that have not finished. Raises what training raises, naming the run."""
    for run in runs:
        _say_where_rows_are(run)
    missing = [run for run in runs if run.record() is None]
    if len(missing) < len(runs):
        say(f"{len(runs) - len(missing)} of {len(runs)} runs are finished")
    started = time.perf_counter()
    for done, run in enumerate(missing, 1):
        record = _train_apart(run)
        minutes = (time.perf_counter() - started) / 60
        left = minutes / done * (len(missing) - done)
        auc = "no AUC" if record.auc is None else f"AUC {record.auc:.4f}"
        say(f"[{done} of {len(missing)}, {minutes:.1f} min, about {left:.1f} left] {run.name}: {auc}")


def _train_apart(run: StudyRun) -> RunRecord:
    """Train a run in a new process, so that its memory is its own and nothing is left of the one before it.

    It is forked from a process that has imported what training needs and done nothing else, which saves it seconds.
    """
    before_torch()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context, initializer=quiet_libraries) as pool:
        try:
            return pool.submit(train_one, run).result()
        except BrokenProcessPool:
            raise CheckpointError(f"{run.name}: its process was killed; is there memory enough? Run it again") from None
        except SwrecError as failure:
            raise type(failure)(f"{run.name}: {failure}") from None


def without_place(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without data.path, which changes where DIR is moved; the rows there are compared instead."""
    return {**config, "data": {key: value for key, value in config["data"].items() if key != "path"}}


def _say_where_rows_are(run: StudyRun) -> None:
    """A run that was begun goes on though DIR was moved: its run.yaml gets the path that its rows have now."""
    folder = RunDir(run.folder)
    if folder.run_file.exists():
        written = folder.config()
        data = written.data.model_copy(update={"path": run.config.data.path})
        folder.write_config(written.model_copy(update={"data": data}))


def train_one(run: StudyRun) -> RunRecord:
    """Train one run in this process, and write its record."""
    started = time.perf_counter()
    with redirect_stdout(io.StringIO()):  # its log.txt has it
        metrics, _ = train(run.config, run.folder)
    seconds, peak_mb = time.perf_counter() - started, peak_memory() / 1e6
    shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)  # what is judged is in its predictions
    tables, dense = parameters(run.config)
    cost = Cost(
        seconds=seconds,
        rows_per_second=metrics["rows_per_second"],
        tables=tables,
        dense=dense,
        peak_mb=peak_mb,
    )
    auc = metrics["overall"]["auc"]
    record = RunRecord(config=run.config.model_dump(mode="json"), rows=run.rows, auc=auc, cost=cost)
    write_json(run.record_file, record.model_dump(mode="json"))
    return record


def parameters(config: RunConfig) -> tuple[int, int]:
    """How many trained numbers a run has in its tables, and above them."""
    ranker = build_ranker(resolve_run(Catalog.open(config.data.path).schema, config), tables_on="meta")
    total = sum(parameter.numel() for parameter in ranker.parameters())
    tables = sum(parameter.numel() for parameter in ranker.sparse.parameters())
    return tables, total - tables


def peak_memory() -> int:
    """The most memory that this process has had, bytes: what it shares with its parent among it."""
    try:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
