"""`make results`: every model on every protocol of configs/results.yaml,
several seeds, and docs/results.md from their predictions.

    python -m benchmarks.results --raw RAW                     all that is missing, then the page
    python -m benchmarks.results movielens_random --seeds 1    one protocol, its first seed
    python -m benchmarks.results --page-only                   the page again, from the runs that are there

A run is a RUN_DIR, build/results/runs/PROTOCOL/VARIANT/seed-K. One that is finished and has the same configuration is
not trained again, so that the command goes on where it was stopped. First seeds come first: a page can be written at
any time.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from pathlib import Path

from benchmarks.results.grid import ASKED_FILE, DATA, GRID, ROWS_FILE, Grid, Protocol, Run, prepared_folder, runs_of
from benchmarks.results.page import write_page
from swrec_prod.errors import ConfigError, SwrecError, nearest
from swrec_prod.simulation.simulate import PARAMETERS, resolved
from swrec_prod.simulation.world import Simulation
from swrec_prod.strict import load, parse, read_yaml
from swrec_prod.train.distributed import before_torch, quiet_libraries


def main() -> None:
    """Run what is missing and write the page. What the user can mend is one line, with exit code 2."""
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


def fit(runs: Sequence[Run], jobs: int) -> list[str]:
    """Train `runs`, `jobs` side by side; where one fails the others go on. Gives the names of those that failed."""
    started, failed = time.perf_counter(), []
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_begin)
    with pool:
        waiting: dict[Future[float], Run] = {pool.submit(_fit_one, run): run for run in runs}
        for done, future in enumerate(as_completed(waiting), 1):
            run, minutes = waiting[future], (time.perf_counter() - started) / 60
            try:
                outcome = f"AUC {future.result():.4f}"
            except SwrecError as failure:
                failed.append(run.name)
                outcome = f"{type(failure).__name__}: {failure}"
            print(
                f"[{done} of {len(runs)}, {minutes:.0f} min, "
                f"about {minutes / done * (len(runs) - done):.0f} left] {run.name}: {outcome}",
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


def _swrec(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "swrec_prod.cli", *map(str, words)], check=True)


if __name__ == "__main__":
    main()
