"""`make results`: every model on every protocol of configs/results.yaml,
several seeds, and docs/results.md from what they found.

    python -m benchmarks.results --raw RAW                     all that is missing, then the page
    python -m benchmarks.results movielens_random --seeds 1    one protocol, its first seed
    python -m benchmarks.results --page-only                   the page again, from the runs that are there

A run is a RUN_DIR, build/results/runs/PROTOCOL/VARIANT/seed-K; one that is finished and has the same configuration is
kept, so that the command goes on where it was stopped. First seeds come first: a page can be written at any time.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from swrec_prod.config import DebiasConfig, RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.datasets.simulate import PARAMETERS, resolved
from swrec_prod.datasets.simulated_world import Simulation
from swrec_prod.errors import ConfigError, SwrecError, nearest
from swrec_prod.strict import Strict, load, parse, read_yaml
from swrec_prod.train.distributed import before_torch, quiet_libraries

GRID = Path("configs/results.yaml")
RUNS = Path("build/results/runs")
DATA = Path("build/results/data")
ASKED_FILE, ROWS_FILE = "asked.yaml", "rows.sha256"


class Variant(Strict):
    """One line of a protocol's table: a model with options, and what of the protocol's settings it changes."""

    model: dict[str, Any]
    train: dict[str, Any] = pydantic.Field(default_factory=dict)
    debias: DebiasConfig | None = None
    strategy: dict[str, Any] | None = None
    note: str = ""


class Protocol(Strict):
    """Rows, settings and models that are compared. Exactly one of data_file (prepared from --raw) and simulate.

    raw: the file or folder below --raw that data_file is prepared from. published, public_code: AUC by variant, of the
    papers' tables and of a run of the public benchmark's code on such rows.
    """

    title: str
    text: str = ""
    data_file: Path | None = None
    raw: str = ""
    simulate: dict[str, Any] | None = None
    data: dict[str, Any] = pydantic.Field(default_factory=dict)
    train: dict[str, Any] = pydantic.Field(default_factory=dict)
    seeds: int = pydantic.Field(1, ge=1)
    variants: dict[str, Variant]
    published: dict[str, float] = pydantic.Field(default_factory=dict)
    public_code: dict[str, float] = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Protocol:
        if (self.data_file is None) == (self.simulate is None):
            raise ValueError("give data_file or simulate, and not both")
        return self


class Grid(Strict):
    """configs/results.yaml. shared: what its protocols refer to by YAML anchors."""

    shared: dict[str, Any] = pydantic.Field(default_factory=dict)
    protocols: dict[str, Protocol]


class Run(NamedTuple):
    """One training run of the grid. data: what the prepared rows are known by; "" where they are gone."""

    protocol: str
    variant: str
    seed: int
    config: RunConfig
    data: str = ""

    @property
    def folder(self) -> Path:
        """Its RUN_DIR."""
        return RUNS / self.protocol / self.variant / f"seed-{self.seed}"

    @property
    def name(self) -> str:
        """protocol/variant/seed."""
        return f"{self.protocol} {self.variant} seed {self.seed}"

    def finished(self) -> bool:
        """Whether its folder holds this very run, finished, on the rows that are prepared now."""
        if not (self.folder / "metrics.json").is_file():
            return False
        try:
            same_rows = not self.data or (self.folder / ROWS_FILE).read_text() == self.data
            return same_rows and RunConfig.load(self.folder / ASKED_FILE) == self.config
        except (ConfigError, OSError):
            return False


def main() -> None:
    """Run what is missing and write the page. What the user can mend is told in a line, with exit code 2."""
    try:
        make_results(_options())
    except SwrecError as failure:
        print(f"{type(failure).__name__}: {failure}", file=sys.stderr)
        raise SystemExit(2) from None
    except subprocess.CalledProcessError as failure:
        raise SystemExit(failure.returncode) from None  # its own message is above


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocols", nargs="*", help="default: all")
    parser.add_argument(
        "--raw", type=Path, help="folder of the raw data sets; left out: they are fetched where their licence allows"
    )
    parser.add_argument("--seeds", type=int, help="at most so many seeds of every variant")
    parser.add_argument("--only", action="append", default=[], metavar="VARIANT", help="these variants only")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--page-only", action="store_true", help="train nothing")
    options = parser.parse_args()
    for name in ("seeds", "jobs"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: at least 1")
    return options


def make_results(options: argparse.Namespace) -> None:
    """What `main` does.

    Raises ConfigError for names that the grid does not have, and after the page when a run has failed.
    """
    from benchmarks.results_page import write_page

    grid = load(Grid, GRID)
    chosen = options.protocols or list(grid.protocols)
    _check_names("protocol", chosen, grid.protocols)
    _check_names("variant", options.only, {variant for name in chosen for variant in grid.protocols[name].variants})
    failed: list[str] = []
    if not options.page_only:
        for name in chosen:
            prepare(name, grid.protocols[name], options.raw)
        runs = [run for run in runs_of(grid, chosen, options.seeds) if not options.only or run.variant in options.only]
        failed = fit([run for run in runs if not run.finished()], options.jobs)
    write_page(grid)
    if failed:
        raise ConfigError(f"{len(failed)} runs failed, the first: {failed[0]}")


def _check_names(what: str, given: Sequence[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{name}: no such {what}; {nearest(name, known)}")


def runs_of(grid: Grid, protocols: Sequence[str], seeds: int | None = None) -> list[Run]:
    """The runs of the protocols, first seeds first."""
    found = [run for name in protocols for run in _runs(name, grid.protocols[name])]
    return [run for run in sorted(found, key=lambda run: run.seed) if seeds is None or run.seed <= seeds]


def prepared_folder(name: str, protocol: Protocol) -> Path:
    """Where a protocol's prepared rows lie; protocols with the same data file share it."""
    return DATA / (protocol.data_file.stem if protocol.data_file else name)


def prepare(name: str, protocol: Protocol, raw: Path | None) -> None:
    """The protocol's prepared folder; at once where it is up to date."""
    out = prepared_folder(name, protocol)
    if protocol.data_file:
        where = [] if raw is None else ["--raw", raw / protocol.raw]
        return _swrec("prepare", protocol.data_file, "--out", out, "--overwrite", *where)
    log, options = DATA / f"{name}_log", parse(Simulation, protocol.simulate, f"{GRID}: {name}.simulate")
    if not (log / PARAMETERS).is_file() or read_yaml(log / PARAMETERS) != resolved(options):
        words = [
            word for key, value in (protocol.simulate or {}).items() for word in (f"--{key.replace('_', '-')}", value)
        ]
        _swrec("simulate", "--out", log, *words, "--overwrite")
    _swrec("prepare", log / "data.yaml", "--raw", log, "--out", out, "--overwrite")


def identity(folder: Path) -> str:
    """What the rows in a prepared folder are known by: a hash of all its files' hashes; "" where there is none."""
    if not (folder / "manifest.json").is_file():
        return ""
    catalog = Catalog.open(folder)
    return sha256("".join(file.sha256 for file in catalog.records).encode()).hexdigest()


def fit(runs: Sequence[Run], jobs: int) -> list[str]:
    """Train `runs`, some side by side; one that fails is told and the others go on.

    Gives the names of those that failed.
    """
    started, failed = time.perf_counter(), []
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_begin)
    with pool:
        waiting: dict[Future[float], Run] = {pool.submit(_fit_one, run): run for run in runs}
        for done, future in enumerate(as_completed(waiting), 1):
            run, minutes = waiting[future], (time.perf_counter() - started) / 60
            try:
                told = f"AUC {future.result():.4f}"
            except SwrecError as failure:
                failed.append(run.name)
                told = f"{type(failure).__name__}: {failure}"
            print(
                f"[{done} of {len(runs)}, {minutes:.0f} min, "
                f"about {minutes / done * (len(runs) - done):.0f} left] {run.name}: {told}",
                flush=True,
            )
    return failed


def _begin() -> None:
    """What every worker does once."""
    before_torch()
    quiet_libraries()


def _fit_one(run: Run) -> float:
    """Train one run in this process; gives its test AUC."""
    from swrec_prod.train.run import train

    aside = run.folder.with_name(f".{run.folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    with redirect_stdout(io.StringIO()):  # its log.txt has it
        metrics, _ = train(run.config, aside)
    for checkpoints in list(aside.rglob("checkpoints")):  # of hundreds of runs; what is judged is in the predictions
        shutil.rmtree(checkpoints)
    run.config.save(aside / ASKED_FILE)
    (aside / ROWS_FILE).write_text(run.data)
    shutil.rmtree(run.folder, ignore_errors=True)
    aside.rename(run.folder)
    return metrics["overall"]["auc"]


def _runs(name: str, protocol: Protocol) -> Iterator[Run]:
    folder = prepared_folder(name, protocol)
    path, rows = str(folder), identity(folder)
    for variant, changed in protocol.variants.items():
        for seed in range(1, protocol.seeds + 1):
            found: dict[str, Any] = {
                "data": {"path": path, **protocol.data},
                "model": changed.model,
                "train": {"threads": 1, **protocol.train, **changed.train, "seed": seed},
            }
            if "debias" in changed.model_fields_set:
                found["debias"] = changed.debias
            if changed.strategy:
                found["strategy"] = changed.strategy
            yield Run(name, variant, seed, parse(RunConfig, found, f"{GRID}: {name}.{variant}"), rows)


def _swrec(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "swrec_prod.cli", *map(str, words)], check=True)


if __name__ == "__main__":
    main()
