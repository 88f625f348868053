"""docs/backfill_kuairand.md: a week of KuaiRand-Pure replayed day by day, with six models in the three modes.

    python -m benchmarks.judging.backfill_report --raw RAW                   all that is missing, then the page
    python -m benchmarks.judging.backfill_report --models mmoe --modes frozen --days 2022-05-02..2022-05-03
    python -m benchmarks.judging.backfill_report --page-only                 the page again, from what is there

Each step is a `swrec` command that goes on where it was cut off, so this one does, too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml

from benchmarks.judging.backfill_page import write_page
from swrec_prod.errors import SwrecError
from swrec_prod.judge.record import Mode
from swrec_prod.run_dir import RunDir

OUT, PAGE = Path("build/backfill_kuairand"), Path("docs/backfill_kuairand.md")
DATA_FILE = "kuairand_pure_tabs"
DAYS, WINDOW = "2022-05-02..2022-05-08", 5
BEFORE = {"train": "..2022-04-30", "valid": "2022-05-01", "test": "2022-05-02.."}
TRAIN = {"epochs": 2, "evals_per_epoch": 2, "patience": 2, "batch_size": 1024, "lr_sparse": 0.05, "lr_dense": 0.001}
MODELS: dict[str, dict[str, Any]] = {  # the champion first; options as in configs/results.yaml
    "shared_bottom": {},
    "mmoe": {},
    "ple": {},
    "star": {},
    "sar_net": {},
    "mscan": {"dropout": 0.2},
}


class Step(NamedTuple):
    """One command. name: for people; words: of `swrec`."""

    name: str
    words: list[str]


def main() -> None:
    """Do what is missing and write the page. What the user can mend is one line, with exit code 2."""
    options = _options()
    try:
        if not options.page_only:
            carry_out(list(steps(options)))
        write_page(options.out, options.modes, options.page, _command(options))
    except SwrecError as failure:
        print(f"{type(failure).__name__}: {failure}", file=sys.stderr)
        raise SystemExit(2) from None
    except subprocess.CalledProcessError as failure:
        raise SystemExit(failure.returncode) from None  # its own message is above


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, help="folder of KuaiRand-Pure; left out: it is fetched")
    parser.add_argument("--models", nargs="*", choices=tuple(MODELS), default=list(MODELS), help="default: all")
    parser.add_argument("--modes", nargs="*", choices=get_args(Mode), default=list(get_args(Mode)), help="default: all")
    parser.add_argument("--days", default=DAYS, help="days to judge, A..B; default: %(default)s")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of runs and backfills; default: %(default)s")
    parser.add_argument("--page", type=Path, default=PAGE, help="file to write; default: %(default)s")
    parser.add_argument("--page-only", action="store_true", help="train and judge nothing")
    return parser.parse_args()


def steps(options: argparse.Namespace) -> Iterator[Step]:
    """The commands in order: the rows, runs for the frozen mode, and a backfill of each mode."""
    raw = [] if options.raw is None else ["--raw", str(options.raw)]
    yield Step("prepare", ["prepare", DATA_FILE, "--out", str(options.out / "data"), *raw])
    files = {name: write_run_file(options.out, name) for name in options.models}
    for name, file in files.items():
        if "frozen" in options.modes and not RunDir(options.out / "runs" / name).finished:
            yield Step(f"train {name}", ["train", str(file), "--out", str(options.out / "runs" / name)])
    for mode in options.modes:
        models = [str(options.out / "runs" / name) if mode == "frozen" else str(file) for name, file in files.items()]
        window = ["--window", str(WINDOW)] if mode == "rolling" else []
        words = ["backfill", *models, "--mode", mode, "--days", options.days, *window, "--out", str(options.out / mode)]
        yield Step(f"backfill, {mode}", words)


def write_run_file(out: Path, name: str) -> Path:
    """The run file of one model."""
    path = out / f"{name}.yaml"
    content = {
        "data": {"path": str(out / "data"), "split": "days", "days": BEFORE},
        "model": {"name": name, **MODELS[name]},
        "train": TRAIN,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def carry_out(todo: Sequence[Step]) -> None:
    """Run the commands one after the other."""
    started = time.perf_counter()
    for number, step in enumerate(todo, 1):
        print(f"[{number} of {len(todo)}, {(time.perf_counter() - started) / 60:.1f} min] {step.name}", flush=True)
        subprocess.run([sys.executable, "-m", "swrec_prod.cli", *step.words], check=True)
    print(f"all {len(todo)} steps in {(time.perf_counter() - started) / 60:.1f} min", flush=True)


def _command(options: argparse.Namespace) -> str:
    """The command that writes the page, for the page."""
    words = ["python -m benchmarks.judging.backfill_report"]
    words += ["--models", *options.models] if options.models != list(MODELS) else []
    words += ["--modes", *options.modes] if options.modes != list(get_args(Mode)) else []
    words += ["--days", options.days] if options.days != DAYS else []
    return " ".join(words)


if __name__ == "__main__":
    main()
