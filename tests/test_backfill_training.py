"""The modes that train: each day's model is the one that hand-made runs give, and a killed backfill goes on."""

from __future__ import annotations

import json
import signal
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import refused, succeeds, swrec
from judged_days import DAYS, config_of, prepared, results, run_file
from runs import process

from swrec_prod import checkpoint
from swrec_prod.config import DayRanges, RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.reader import Reader
from swrec_prod.ranker import resolve_run
from swrec_prod.run_dir import RunDir
from swrec_prod.train.distributed import process_group, seed_masks
from swrec_prod.train.run import make_fit, make_reader, train

pytestmark = pytest.mark.slow  # trains

JUDGED = DAYS[4:7]
SPAN = f"{JUDGED[0]}..{JUDGED[-1]}"

# Ends itself as a killed machine would, at the n-th call of a function of the backfill.
KILLED = """
import os, signal, sys
from importlib import import_module
from swrec_prod.cli import main

module, name, calls, *words = sys.argv[1:]
owner = import_module(module)
function, made = getattr(owner, name), []

def last_call(*args, **options):
    made.append(1)
    if len(made) == int(calls):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **options)

setattr(owner, name, last_call)
sys.argv = ["swrec", *words]
main()
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ and a run file."""
    root = tmp_path_factory.mktemp("world")
    prepared(root / "data", weighted=False)
    run_file(root / "tiny.yaml", root / "data", epochs=2, embedding_dropout=0.2)
    return root


def backfilled(world: Path, out: Path, *words: str) -> Path:
    succeeds("backfill", world / "tiny.yaml", "--days", SPAN, "--out", out, "--predictions", *words)
    return out / "tiny"


@pytest.fixture(scope="module")
def incremental(world: Path) -> Path:
    """A finished one."""
    return backfilled(world, world / "incremental", "--mode", "incremental").parent


def run_by_hand(world: Path, train_days: str, valid: date, out: Path) -> RunConfig:
    """An ordinary run whose last day validates."""
    days = DayRanges(train=train_days, valid=str(valid), test=f"{valid.replace(day=valid.day + 1)}..")
    config = config_of(world / "data", epochs=2, embedding_dropout=0.2)
    config = config.model_copy(update={"data": config.data.model_copy(update={"days": days})})
    train(config, out)
    return RunDir(out).config()


def logits_after_passes(run: Path, config: RunConfig, days: list[date]) -> list[np.ndarray]:
    """From a run's best weights one pass over each of `days` after the other, step by step, and after each the logits
    of the day behind it.
    """
    catalog, logits = Catalog.open(config.data.path), []

    def on(day: date) -> RunConfig:
        ranges = DayRanges.model_construct(train=str(day), valid=str(day), test=str(day))
        return config.model_copy(update={"data": config.data.model_copy(update={"days": ranges})})

    with process_group(1) as ranks:
        resolved = resolve_run(catalog.schema, on(days[0]))
        first = make_reader(catalog, resolved, "train", ranks)
        fit = make_fit(catalog, resolved, {"train": first, "valid": first}, ranks)
        state = checkpoint.restore(checkpoint.best(run, catalog), fit.model, fit.optimizer)
        step = state["fit"]["step"]
        for day in days:
            reader = make_reader(catalog, resolve_run(catalog.schema, on(day)), "train", ranks)
            fit.model.train()
            seed_masks(config.train.seed, step, ranks)
            for batch in reader.epoch(0):
                fit.step(batch)
                step += 1
            logits.append(_logits(fit.model, catalog, on(day.replace(day=day.day + 1)), resolved.layout))
    return logits


def _logits(model, catalog, config, layout) -> np.ndarray:
    reader = Reader(catalog, layout, "test", config.data, 64, shuffle=False)
    model.eval()
    rows = [(batch.row_B.numpy(), model(batch)[1].logit_BT.detach().numpy()[:, 0]) for batch in reader.epoch(0)]
    row, logit = (np.concatenate(column) for column in zip(*rows, strict=True))
    return logit[np.argsort(row)]


def scores_of(folder: Path, day: date) -> np.ndarray:
    return pq.read_table(folder / f"day={day}" / "predictions.parquet", partitioning=None)["score_click"].to_numpy()


def test_incremental_judges_what_went_on_through_the_day_before(world: Path, incremental: Path, tmp_path: Path) -> None:
    config = run_by_hand(world, f"..{DAYS[2]}", DAYS[3], tmp_path / "run")
    expected = logits_after_passes(tmp_path / "run", config, DAYS[3:6])
    for day, logits in zip(JUDGED, expected, strict=True):
        np.testing.assert_allclose(scores_of(incremental / "tiny", day), logits, atol=1e-6)


def test_each_day_says_through_which_day_its_model_was_trained(incremental: Path) -> None:
    record = json.loads((incremental / "backfill.json").read_text())
    seen = [day["trained_through"] for day in record["models"][0]["days"]]
    assert seen == [str(day) for day in DAYS[3:6]]


def test_rolling_judges_what_its_window_trained(world: Path, tmp_path: Path) -> None:
    folder = backfilled(world, tmp_path / "out", "--mode", "rolling", "--window", "3")
    config = run_by_hand(world, f"{DAYS[3]}..{DAYS[4]}", DAYS[5], tmp_path / "run")
    (expected,) = logits_after_passes(tmp_path / "run", config, [DAYS[5]])
    np.testing.assert_allclose(scores_of(folder, DAYS[6]), expected, atol=1e-6)
    kept = {path.name for path in (folder / "trained").glob("[!.]*")}
    assert kept == {f"fit={DAYS[5]}", f"through={DAYS[5]}"}, "the models of the last day alone"


def test_the_model_that_is_left_is_a_run_like_any_other(world: Path, incremental: Path) -> None:
    last = incremental / "tiny" / "trained" / f"through={DAYS[5]}"
    printed = json.loads(succeeds("evaluate", last, "--days", str(JUDGED[-1]), "--json"))
    record = json.loads((incremental / "backfill.json").read_text())
    overall = record["models"][0]["days"][-1]["figures"][0]
    assert printed["overall"]["auc"] == overall["metrics"]["auc"]
    again = swrec("backfill", last, "--days", str(DAYS[5]), "--out", world / "seen")
    refused(again, f"its weights know the days up to {DAYS[5]}")


@pytest.mark.process
def test_a_backfill_that_is_killed_again_and_again_finds_the_same(
    world: Path, incremental: Path, tmp_path: Path
) -> None:
    words = ("backfill", world / "tiny.yaml", "--mode", "incremental", "--days", SPAN, "--predictions")
    moments = (
        ("swrec_prod.checkpoint.run", "read_state", 1),  # the first fit is done, its pass begins
        ("swrec_prod.judge.day", "write_json", 2),  # the second day lies there, and is not committed
        ("swrec_prod.judge.record", "write_json", 1),  # all days are judged, nothing is summed up
    )
    out = tmp_path / "out"
    for module, name, calls in moments:
        killed = process("-c", KILLED, module, name, calls, *words, "--out", out)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (out / "backfill.json").exists()
    assert (out / "tiny" / f"day={JUDGED[-1]}").is_dir()
    outcome = swrec(*words, "--out", out)
    assert outcome.code == 0 and "3 of 3 days were judged before" in outcome.err
    assert results(out) == results(incremental)


def test_too_few_days_before_the_first_are_refused(world: Path, tmp_path: Path) -> None:
    words = ("--mode", "rolling", "--window", "5", "--out", tmp_path / "out")
    early = swrec("backfill", world / "tiny.yaml", "--days", f"{DAYS[1]}..", *words)
    refused(early, f"1 of the days {date(2023, 12, 28)}..{DAYS[0]} have rows; one or more train it")


def test_a_model_for_every_scenario_is_not_trained_here(world: Path, tmp_path: Path) -> None:
    words = ("--set", "strategy.name=single", "--mode", "incremental", "--days", SPAN, "--out", tmp_path / "out")
    refused(swrec("backfill", world / "tiny.yaml", *words), "strategy.name: single has a model for every scenario")
