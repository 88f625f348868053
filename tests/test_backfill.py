"""`swrec backfill` as a user sees it: what it finds is what `swrec evaluate` and independent libraries find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import refused, succeeds, swrec
from judged_days import DAYS, config_of, prepared, results, run_file
from sklearn.metrics import log_loss, roc_auc_score

from swrec_prod.train.run import train

pytestmark = pytest.mark.slow  # trains

JUDGED = DAYS[4:]
SPAN = f"{JUDGED[0]}..{JUDGED[-1]}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ and finished runs of two models."""
    root = tmp_path_factory.mktemp("world")
    prepared(root / "data")
    for model in ("shared_bottom", "mmoe"):
        train(config_of(root / "data", model), root / model)
    return root


@pytest.fixture(scope="module")
def frozen(world: Path) -> Path:
    """A finished backfill of both, with predictions."""
    models = (world / "shared_bottom", f"new={world / 'mmoe'}")
    succeeds("backfill", *models, "--days", SPAN, "--out", world / "frozen", "--predictions")
    return world / "frozen"


def record_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "backfill.json").read_text())


def figures(figures: list[dict[str, Any]], task: str, scenario: str | None = None) -> dict[str, Any]:
    part = "overall" if scenario is None else "scenario"
    return next(of for of in figures if (of["task"], of["part"], of["scenario"]) == (task, part, scenario))


def test_a_frozen_backfill_finds_what_evaluate_finds_of_each_day(world: Path, frozen: Path) -> None:
    model = record_of(frozen)["models"][1]
    assert (model["name"], [day["day"] for day in model["days"]]) == ("new", [str(day) for day in JUDGED])
    for day in model["days"]:
        printed = json.loads(succeeds("evaluate", world / "mmoe", "--days", day["day"], "--json"))
        for task in ("click", "buy"):
            expected = printed["tasks"][task]
            for found in (of for of in day["figures"] if of["task"] == task):
                want = expected["scenarios"][found["scenario"]] if found["scenario"] else expected[found["part"]]
                assert found["metrics"] == {name: want[name] for name in found["metrics"]}
                assert (found["rows"], found["positives"]) == (want["rows"], want["positives"])


def test_the_figures_of_a_day_are_a_table_too(frozen: Path) -> None:
    day = record_of(frozen)["models"][0]["days"][2]
    table = pq.read_table(frozen / "shared_bottom" / f"day={day['day']}" / "metrics.parquet", partitioning=None)
    rows = table.to_pylist()
    assert [row["auc"] for row in rows] == [of["metrics"]["auc"] for of in day["figures"]]
    assert {row["part"] for row in rows} == {"overall", "macro", "scenario"}
    overall = rows[0]
    assert overall["auc_low"] < overall["auc"] < overall["auc_high"]
    assert (str(overall["day"]), str(overall["trained_through"])) == (day["day"], str(DAYS[3]))


def test_pooled_figures_are_of_all_rows_together(frozen: Path) -> None:
    parts = sorted((frozen / "new").glob("day=*/predictions.parquet"))
    table = pa.concat_tables([pq.read_table(part, partitioning=None) for part in parts])
    pooled = record_of(frozen)["models"][1]["pooled"]
    for scenario in (None, "home", "cart"):
        keep = np.array([scenario in (None, name) for name in table["scenario"].to_pylist()])
        labels, weights = table["label_click"].to_numpy()[keep], table["weight"].to_numpy()[keep].astype(float)
        found = figures(pooled, "click", scenario)["metrics"]
        scores, chances = (table[name].to_numpy()[keep].astype(float) for name in ("score_click", "prob_click"))
        assert found["auc"] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12)
        assert found["logloss"] == pytest.approx(log_loss(labels, chances, sample_weight=weights), abs=1e-6)


def test_a_day_is_there_once_and_not_judged_again(world: Path, frozen: Path) -> None:
    before = results(frozen)
    models = (world / "shared_bottom", f"new={world / 'mmoe'}")
    again = swrec("backfill", *models, "--days", SPAN, "--out", frozen, "--predictions", "--json")
    assert again.code == 0 and "4 of 4 days were judged before" in again.err
    assert results(frozen) == before and json.loads(again.out) == record_of(frozen)


def test_another_request_in_the_same_folder_is_refused_by_what_differs(world: Path, frozen: Path) -> None:
    models = (world / "shared_bottom", f"new={world / 'mmoe'}")
    other = swrec("backfill", *models, "--days", f"{JUDGED[0]}..{JUDGED[1]}", "--out", frozen, "--predictions")
    assert other.code == 2 and "holds a backfill with another days" in other.err
    assert swrec("backfill", *models, "--days", SPAN, "--out", frozen).err.count("another predictions (True, now") == 1
    (world / "full").mkdir(exist_ok=True)
    (world / "full" / "photo.jpg").touch()
    refused(swrec("backfill", world / "mmoe", "--days", SPAN, "--out", world / "full"), "is not empty")


def test_days_without_rows_are_said_and_left_out(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data", leave_out=(5,))
    train(config_of(data), tmp_path / "run")
    outcome = swrec("backfill", tmp_path / "run", "--days", SPAN, "--out", tmp_path / "out", "--json")
    assert f"not in the data, and left out: {DAYS[5]}" in outcome.err
    assert json.loads(outcome.out)["skipped"] == [str(DAYS[5])]
    none = swrec("backfill", tmp_path / "run", "--days", "2030-01-01..", "--out", tmp_path / "none")
    refused(none, f"none of these days is in {data}; it has {DAYS[0]}..{DAYS[-1]}")


def test_a_day_without_clicks_has_no_auc_and_says_why(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data", without_clicks=5, weighted=False)
    train(config_of(data), tmp_path / "run")
    outcome = swrec("backfill", tmp_path / "run", "--days", SPAN, "--out", tmp_path / "out", "--json")
    assert f"run {DAYS[5]}: 240 rows, 0 click, no AUC: all 240 labels are 0" in outcome.err
    day = json.loads(outcome.out)["models"][0]["days"][1]
    overall = figures(day["figures"], "click")
    assert overall["metrics"]["auc"] is None and overall["reasons"]["auc"] == "all 240 labels are 0"


def test_a_model_is_not_judged_on_days_that_it_has_seen(world: Path, tmp_path: Path) -> None:
    seen = swrec("backfill", world / "mmoe", "--days", f"{DAYS[3]}..", "--out", tmp_path / "out")
    refused(seen, f"its weights know the days up to {DAYS[3]}, and {DAYS[3]} is one of them; begin with the day after")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mode", "thawed"), "--mode thawed: known: frozen, incremental, rolling"),
        (("--mode", "rolling"), "--window is not given: rolling trains on the window"),
        (("--window", "3"), "--window 3: only --mode rolling has a window, not frozen"),
        (("--mode", "incremental"), "--mode incremental trains, and this is trained already; give its run file"),
        (("--share", "2/2"), "--share 2/2: give AT/OF"),
        (("--champion", "mscan"), "--champion mscan: no such model; known: mmoe"),
        (("--gate", "gate"), "one model has no challenger"),
        (("--gate", "nowhere.yaml"), "nowhere.yaml: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(world: Path, tmp_path: Path, words: tuple[str, ...], message: str):
    refused(swrec("backfill", world / "mmoe", "--days", SPAN, "--out", tmp_path / "out", *words), message)
    assert not (tmp_path / "out").exists()


def test_models_of_one_name_are_refused(world: Path, tmp_path: Path) -> None:
    outcome = swrec("backfill", world / "mmoe", world / "mmoe", "--days", SPAN, "--out", tmp_path / "out")
    refused(outcome, "two models are called mmoe; name them")


def test_models_of_other_labels_or_rows_are_not_compared(world: Path, tmp_path: Path) -> None:
    plain = prepared(tmp_path / "plain", leave_out=(6,))
    train(config_of(plain), tmp_path / "run")
    days = f"{JUDGED[0]}..{DAYS[7]}"
    outcome = swrec("backfill", world / "mmoe", tmp_path / "run", "--days", days, "--out", tmp_path / "out")
    refused(outcome, f"mmoe and run cannot be compared: {DAYS[6]} has 240 and 0 rows for them")
    one = prepared(tmp_path / "one", labels=1)
    train(config_of(one), tmp_path / "clicks")
    outcome = swrec("backfill", world / "mmoe", tmp_path / "clicks", "--days", SPAN, "--out", tmp_path / "out")
    refused(outcome, "mmoe and clicks cannot be compared: 2 labels (click, buy) and 1 (click); judge them apart")


def test_shares_together_find_what_one_process_finds(world: Path, frozen: Path, tmp_path: Path) -> None:
    models = (world / "shared_bottom", f"new={world / 'mmoe'}")
    words = ("backfill", *models, "--days", SPAN, "--out", tmp_path / "out", "--predictions", "--share")
    first = swrec(*words, "0/2")
    assert first.code == 0 and not first.out and "4 days are left to other shares" in first.err
    assert swrec(*words, "1/2").code == 0
    assert results(tmp_path / "out") == results(frozen)


@pytest.mark.process
def test_processes_share_the_days(world: Path, frozen: Path, tmp_path: Path) -> None:
    models = (world / "shared_bottom", f"new={world / 'mmoe'}")
    out = tmp_path / "out"
    succeeds("backfill", *models, "--days", SPAN, "--out", out, "--predictions", "--jobs", "2", "--json")
    assert results(out) == results(frozen)


def test_a_run_file_in_frozen_mode_is_trained_once_before_the_first_day(world: Path, tmp_path: Path) -> None:
    file = run_file(tmp_path / "tiny.yaml", world / "data")
    out = tmp_path / "out"
    printed = succeeds("backfill", file, "--days", SPAN, "--out", out, "--json")
    days = json.loads(printed)["models"][0]["days"]
    assert {day["trained_through"] for day in days} == {str(DAYS[3])}
    assert {path.name for path in (out / "tiny" / "trained").glob("[!.]*")} == {f"fit={DAYS[3]}", f"through={DAYS[3]}"}
