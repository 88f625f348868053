"""A study from its question to its report, on a tiny simulated log; what is finished is not trained again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import refused, succeeds, swrec
from scipy.stats import false_discovery_control
from sklearn.metrics import roc_auc_score

from swrec_prod.evaluate.predictions import read_predictions
from swrec_prod.studies import runs as study_runs

pytestmark = [pytest.mark.engine, pytest.mark.process, pytest.mark.timeout(200)]
TINY = ["simulate.days=4", "simulate.rows_per_day=1500", "simulate.scenarios=4", "train.epochs=1", "train.threads=1"]
WORDS = ["sparsity", "model.name=dnn,shared_bottom", "rows.share=1,0.2", "train.batch_size=128", *TINY]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """DIR of a study, and what the command said."""
    out = tmp_path_factory.mktemp("study") / "DIR"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_runs, "_train_apart", study_runs.train_one)  # four processes would only take longer
        return out, succeeds("study", *WORDS, "--seeds", "1", "--out", out)


def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "study.json").read_text())


def test_it_says_how_far_it_is_and_what_was_found(finished: tuple[Path, str]) -> None:
    out, said = finished
    assert "[1 of 4, " in said and "left] dnn, share 1, seed 1: AUC 0." in said
    assert (out / "study.md").read_text().strip() in said
    for group in ("dnn", "shared_bottom"):
        assert "<html" in (out / "compare" / group / "compare.html").read_text()


def test_its_figures_are_those_of_the_predictions(finished: tuple[Path, str]) -> None:
    out, _ = finished
    for group, of in result(out)["groups"].items():
        assert of["baseline"] == "share 1" and of["rows"] == 1500
        for variant in of["variants"]:
            folder = out / "runs" / group / variant["name"].replace(" ", "_") / "seed-1"
            table = read_predictions(folder / "predictions.parquet")
            auc = roc_auc_score(table["label_click"].to_numpy(), table["prob_click"].to_numpy())
            assert variant["auc"]["value"] == pytest.approx(auc, abs=1e-12)


def test_marks_hold_the_rate_over_the_whole_study(finished: tuple[Path, str]) -> None:
    variants = [variant for of in result(finished[0])["groups"].values() for variant in of["variants"]]
    overall = [variant["difference"] for variant in variants if variant["difference"]]
    inside = [s["difference"] for v in variants for s in v["scenarios"].values() if s["difference"]]
    for family in (overall, inside):
        adjusted = false_discovery_control([difference["p"] for difference in family])
        assert [difference["significant"] for difference in family] == (adjusted <= 0.05).tolist()
    assert len(overall) == 2 and len(inside) > 2


def test_costs_and_changes_are_told(finished: tuple[Path, str]) -> None:
    out, _ = finished
    costs = {(cost["group"], cost["name"]): cost for cost in result(out)["costs"]}
    assert len(costs) == 4 and all(cost["rows_per_second"] > 0 and cost["peak_mb"] > 50 for cost in costs.values())
    assert len({cost["tables"] for cost in costs.values()}) == 1, "the same vocabularies"
    changes = {(row["group"], row["name"]): row["changes"] for row in result(out)["rows"]}
    assert changes.keys() == {("dnn", "share 0.2"), ("shared_bottom", "share 0.2")}
    assert changes["dnn", "share 0.2"][0]["share"] == 0.2
    assert not list(out.glob("runs/**/checkpoints"))


def test_only_what_is_missing_is_trained(finished: tuple[Path, str], tmp_path: Path) -> None:
    out = tmp_path / "DIR"
    shutil.copytree(finished[0], out)
    gone = out / "runs" / "shared_bottom" / "share_0.2"
    shutil.rmtree(gone / "seed-1")
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/**/metrics.json")}
    said = succeeds("study", *WORDS, "--seeds", "1", "--out", out)
    assert "3 of 4 runs are finished" in said and "[1 of 1, " in said
    after = {path: path.stat().st_mtime_ns for path in out.glob("runs/**/metrics.json")}
    assert before.items() <= after.items() and len(after) == 4
    again, once = (result(of)["groups"]["shared_bottom"]["variants"][1]["auc"]["value"] for of in (out, finished[0]))
    assert again == pytest.approx(once, abs=1e-6), "the same seed, rows and settings"


def test_runs_of_other_settings_are_not_taken_for_these(finished: tuple[Path, str]) -> None:
    words = [word if word != "train.epochs=1" else "train.epochs=2" for word in WORDS]
    outcome = swrec("study", *words, "--seeds", "1", "--out", finished[0])
    assert outcome.code == 2 and "holds a finished run with another train.epochs (1, now 2)" in outcome.err


def test_a_model_that_does_not_fit_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    words = ["grid", "model.name=mmoe", "model.num_experts=2,none", *TINY]
    outcome = swrec("study", *words, "--out", tmp_path / "DIR")
    assert outcome.code == 2 and "model.num_experts" in outcome.err and not list(tmp_path.glob("DIR/runs"))


def test_overlap_is_measured_where_it_is_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_runs, "_train_apart", study_runs.train_one)
    words = ["overlap", "model.name=dnn", "rows.common_users=1,0", "rows.common_items=1", "train.batch_size=128", *TINY]
    found = json.loads(succeeds("study", *words, "--seeds", "1", "--out", tmp_path / "DIR", "--json"))
    assert found["overlap"].keys() == {"users", "items"}
    assert np.shape(found["overlap"]["users"]["jaccard"]) == (4, 4)
    tables = [cost["tables"] for cost in found["costs"]]
    assert tables[1] > tables[0], "users that are kept apart are more users"


def test_bad_places_and_numbers_are_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    refused(swrec("study", *WORDS, "--out", file), "notes.txt: is a file")
    outcome = swrec("study", *WORDS, "simulate.days=2", "--out", tmp_path / "DIR")
    assert outcome.code == 2 and "simulate.days: 2; a study needs 3" in outcome.err and not (tmp_path / "DIR").exists()
