"""The way that a user goes, by real processes: what is served is what was predicted, and stages refuse in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from commands import refused, succeeds, swrec
from runs import arrays, history_of, metrics_of_run, predictions
from whole_way import SOME_FEATURES, Served, WholeWay


def score(way: WholeWay, served: Served, model: str, *more: Any) -> tuple[Any, ...]:
    """The words of `swrec score` for the way's requests, compared with its predictions unless `more` says others."""
    expect = () if "--expect" in more else ("--expect", way.run / "predictions.parquet")
    return ("score", way.data, "--target", served.target, "--model", model, *expect, *more)


def test_the_demo_goes_the_whole_way(whole_way: WholeWay) -> None:
    summary = json.loads((whole_way.folder / "served.json").read_text())
    assert summary["max_abs_diff"] <= 1e-5 and summary["rows"] > 100 and 0 < summary["requests"] <= summary["rows"]
    assert "served = offline" in whole_way.printed and "One request: user" in whole_way.printed
    page = (whole_way.folder / "index.html").read_text()
    assert "<html" in page[:1000] and "</html>" in page
    verdict = json.loads((whole_way.folder / "backfill" / "backfill.json").read_text())["verdict"]
    assert f"{verdict['challenger']} does not take its place" in page or "may take the place" in page
    assert 'href="backfill/backfill.html"' in page and 'href="compare/compare.html"' in page


def test_no_command_warns(whole_way: WholeWay) -> None:
    for text in (whole_way.printed, whole_way.trained):
        assert "Traceback" not in text and "Warning" not in text


def test_what_is_served_is_what_was_predicted(whole_way: WholeWay) -> None:
    served, offline = arrays(pq.read_table(whole_way.folder / "served.parquet")), predictions(whole_way.run)
    at = np.searchsorted(offline["row"], served["row"])
    assert len(at) > 100
    for name in ("prob_click", "score_click", "interest_logit", "scenario_logit"):
        np.testing.assert_allclose(served[name], offline[name][at], atol=1e-5)


def test_a_report_shows_what_was_served(whole_way: WholeWay, tmp_path: Path) -> None:
    words = ("report", whole_way.run, "--served", whole_way.folder / "served.json", "--out", tmp_path / "page.html")
    assert "wrote" in succeeds(*words)
    assert "</html>" in (tmp_path / "page.html").read_text()


def test_coarse_tables_have_a_bound_of_their_own(whole_way: WholeWay, served: Served) -> None:
    outcome = swrec(*score(whole_way, served, "small"))
    assert outcome.code == 2 and outcome.err.startswith("DataError: served scores differ from ")
    assert "allowed are 1e-05" in outcome.err
    difference = json.loads(succeeds(*score(whole_way, served, "small", "--tolerance", "0.05", "--json")))[
        "max_abs_diff"
    ]
    assert 1e-5 < difference < 0.05


def test_score_sends_as_many_rows_as_asked(whole_way: WholeWay, served: Served, tmp_path: Path) -> None:
    words = ("score", whole_way.data, "--target", served.target)
    some = (*words, "--model", "mscan", "--rows", "7", "--json", "--out")
    summary = json.loads(succeeds(*some, tmp_path / "some.parquet"))
    assert 7 <= summary["rows"] == pq.read_metadata(tmp_path / "some.parquet").num_rows and summary["requests"] > 1
    refused(swrec(*some, tmp_path / "some.parquet" / "inside.parquet"), "some.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["some.parquet"]
    refused(swrec(*words), "few, mscan, small")
    refused(swrec(*words, "--model", "mscam"), "did you mean mscan?")


def test_a_model_of_some_features_is_asked_with_those(whole_way: WholeWay, served: Served) -> None:
    words = score(whole_way, served, "few", "--expect", served.few / "predictions.parquet")
    refused(swrec(*words), "unknown feature 'gender'")
    named = [word for name in SOME_FEATURES for word in ("--feature", name)]
    assert json.loads(succeeds(*words, *named, "--json"))["max_abs_diff"] <= 1e-5
    refused(swrec(*words, "--feature", "film"), "no feature 'film'")


def test_evaluate_prints_what_training_measured(whole_way: WholeWay, tmp_path: Path) -> None:
    printed = succeeds("evaluate", whole_way.run, "--json", "--predictions", tmp_path / "again.parquet")
    assert json.loads(printed)["overall"]["auc"] == pytest.approx(metrics_of_run(whole_way.run)["overall"]["auc"])
    again = arrays(pq.read_table(tmp_path / "again.parquet"))
    np.testing.assert_allclose(again["score_click"], predictions(whole_way.run)["score_click"], atol=1e-6)
    printed = succeeds("evaluate", whole_way.run, "--split", "valid")
    assert "suspense" in printed and "AUC" in printed


def test_the_run_file_is_resolved_in_the_run_directory(whole_way: WholeWay) -> None:
    resolved = yaml.safe_load((whole_way.run / "run.yaml").read_text())
    assert resolved["train"]["epochs"] == 1 and len(history_of(whole_way.run)) == 1
    assert resolved["debias"] == {"alpha": 0.1, "form": "joint", "c": 0.25} and resolved["export"]["quantize"] == "none"


def test_export_counts_versions_up_and_publishes_none_twice(whole_way: WholeWay) -> None:
    versions = whole_way.package.parent
    refused(swrec("export", whole_way.run, "--to", whole_way.package), "1")
    refused(swrec("export", whole_way.run, "--to", versions, "--quantize", "int9"), "did you mean int8?")
    assert [path.name for path in versions.iterdir()] == ["1"]


def test_a_run_that_has_not_finished_is_not_exported(served: Served, tmp_path: Path) -> None:
    run = Path(shutil.copytree(served.few, tmp_path / "few"))
    (run / "metrics.json").unlink()
    message = "few: training has not finished: no metrics.json; run swrec train again"
    refused(swrec("export", run, "--to", tmp_path / "m"), message)


def test_a_damaged_package_is_not_served(whole_way: WholeWay, tmp_path: Path) -> None:
    package = Path(shutil.copytree(whole_way.package, tmp_path / "mscan" / "1"))
    schema = package / "schema.yaml"
    schema.write_text(schema.read_text().replace("dim: 16", "dim: 32", 1) + "\n")
    outcome = swrec("serve", "--models", tmp_path, "--port", "0")
    refused(replace(outcome, out=""), "schema.yaml")
    assert outcome.out == "loading mscan/1\n"
