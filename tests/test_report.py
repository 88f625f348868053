"""The report: one page that needs nothing else, says what the data say, and does without what a run lacks."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from swrec_prod.errors import CheckpointError
from swrec_prod.evaluate.judged import Judged
from swrec_prod.evaluate.judging import metrics_of
from swrec_prod.evaluate.predictions import predictions_table, write_predictions
from swrec_prod.evaluate.terminal import judged_note, metrics_table
from swrec_prod.evaluate.text import share
from swrec_prod.metrics.ranks import auc
from swrec_prod.pages.causal import blending, sweep
from swrec_prod.pages.pictures import calibration_curves, learning_curve, ranking_by_scenario
from swrec_prod.pages.run_page import write_report

PICTURES = (
    "Learning curve",
    "How well each",
    "AUC of every scenario on every day",
    "Can the probabilities",
    "What is the scenario",
    "A blended list",
    "Where the predictions",
)
NAMES = ("home feed", "search", "ad slot")


class Page(HTMLParser):
    """What a test needs of a page: its text outside scripts, its tags, and the ids of its pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.words += data

    @property
    def pictures(self) -> int:
        return sum(str(attrs.get("id", "")).startswith("picture-") for _, attrs in self.tags)


def predictions(n: int = 3000, split: bool = True, names: tuple[str, ...] = NAMES, **given):
    """Rows of scenarios with falling traffic and different click rates; y_s is constant in each scenario."""
    rng = np.random.default_rng(5)
    index = np.minimum(rng.geometric(0.6, n) - 1, len(names) - 1)
    scenario_N = np.linspace(1, -1, len(names))[index]
    interest_N = rng.normal(size=n) - 2 + scenario_N
    logit_N = interest_N / (1 + np.exp(-scenario_N))
    labels = given.pop("labels", (rng.random(n) < 1 / (1 + np.exp(-logit_N))).astype(np.float32))
    halves: dict[str, Any] = {"interest_NT": interest_N[:, None], "scenario_NT": scenario_N[:, None]} if split else {}
    return predictions_table(
        row=np.arange(n),
        day=["2000-05-01", "2000-05-03"] * (n // 2),
        user=rng.integers(0, n // 10, n),
        scenario=[names[i] for i in index],
        labels_NT=labels[:, None],
        logit_NT=logit_N[:, None],
        tasks=["click"],
        **halves,
        **given,
    )


def history(*aucs: float) -> list[dict]:
    return [
        {"epoch": i, "rows": 1000 * (i + 1), "train_loss": 0.3 - 0.01 * i, "valid_logloss": 0.3, "valid_auc": value}
        for i, value in enumerate(aucs)
    ]


def run_dir(folder: Path, table, without: tuple[str, ...] = ()) -> Path:
    """A finished run."""
    folder.mkdir()
    texts = {
        "run.yaml": (
            "{data: {path: prepared/shop}, model: {name: mscan, tower: [64, 32]}, "
            "debias: {alpha: 0.1, c: 0.5}, train: {seed: 1}}"
        ),
        "metrics.json": json.dumps({**metrics_of(table), "rows": 90_000, "seconds": 3.0, "rows_per_second": 30_000.0}),
        "history.jsonl": "\n".join(json.dumps(h) for h in history(0.6, 0.7, 0.69)),
    }
    for name in texts.keys() - set(without):
        (folder / name).write_text(texts[name])
    if "predictions.parquet" not in without:
        write_predictions(table, folder / "predictions.parquet")
    return folder


def reported(tmp_path: Path, table, without: tuple[str, ...] = (), served: dict | None = None) -> Page:
    write_report(run_dir(tmp_path / "run", table, without), tmp_path / "out" / "report.html", served)
    return Page(tmp_path / "out" / "report.html")


def test_a_finished_run_shows_every_picture_and_figure(tmp_path: Path):
    table = predictions()
    page = reported(
        tmp_path, table, served={"rows": 500, "max_abs_diff": 3e-7, "requests": 20, "p50_ms": 3.21, "p99_ms": 7.94}
    )
    assert page.pictures == len(PICTURES)
    overall = metrics_of(table)["overall"]
    figures = (
        f"{overall['auc']:.4f}",
        f"{overall['gauc']:.4f}",
        "30,000/s",
        "90,000 rows in 3.0 s",
        "3.0e-07",
        "p99 7.9 ms",
    )
    for expected in (*PICTURES, *NAMES, *figures, "mscan on shop", "2000-05-01 to 2000-05-03", "tower [64, 32]"):
        assert expected in page.words, expected


def test_the_page_fetches_nothing(tmp_path: Path):
    page = reported(tmp_path, predictions(400))
    assert not [
        (tag, attrs)
        for tag, attrs in page.tags
        if attrs.get("src") or attrs.get("href") or tag in ("link", "iframe", "img")
    ]
    css = re.findall(r"<style>.*?</style>", (tmp_path / "out" / "report.html").read_text(encoding="utf-8"), re.S)
    assert css and not any("url(" in sheet or "@import" in sheet for sheet in css)


@pytest.mark.parametrize(
    ("missing", "drawn", "reason"),
    [
        ("history.jsonl", 6, "no history.jsonl"),
        ("predictions.parquet", 1, "no predictions.parquet"),
        ("metrics.json", 7, "How well each"),
        ("run.yaml", 7, "the configuration is unknown"),
    ],
)
def test_what_is_missing_is_left_out_and_said(tmp_path: Path, missing, drawn, reason):
    page = reported(tmp_path, predictions(400), without=(missing,))
    assert page.pictures == drawn
    assert reason in page.words


def test_a_model_without_split_has_no_causal_pictures(tmp_path: Path):
    page = reported(tmp_path, predictions(400, split=False))
    assert page.pictures == 5
    assert "no causal split" in page.words


@pytest.mark.parametrize("positives", [0, 1])
def test_rows_of_one_class_still_make_a_page(tmp_path: Path, positives):
    labels = np.zeros(400, np.float32)
    labels[:positives] = 1
    page = reported(tmp_path, predictions(400, labels=labels))
    assert page.pictures == len(PICTURES) - (positives == 0), "no day has an AUC"
    assert "too few rows of one class" in page.words
    assert "nan" not in page.words.lower()


def test_scenario_names_are_text_not_markup(tmp_path: Path):
    page = reported(tmp_path, predictions(400, names=("</script><img src=x>", "a & b")))
    assert "img" not in [tag for tag, _ in page.tags]
    assert "a & b" in page.words


def test_many_scenarios_are_cut_to_the_busiest(tmp_path: Path):
    page = reported(tmp_path, predictions(4000, names=tuple(f"theme {i}" for i in range(9))))
    assert "Shown are the 6 busiest of 9 scenarios." in page.words


def test_numbers_as_scenario_names_stay_names():
    figure = ranking_by_scenario(Judged.of(predictions(400, names=("10", "2")))).figure
    assert figure is not None and figure.layout.yaxis.type == "category"


def test_damaged_and_missing_runs_are_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"run9: no such run directory; `swrec train"):
        write_report(tmp_path / "run9", tmp_path / "report.html")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"not a run directory: it holds none of run\.yaml"):
        write_report(tmp_path / "empty", tmp_path / "report.html")
    (tmp_path / "empty" / "metrics.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"metrics\.json: damaged: "):
        write_report(tmp_path / "empty", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("aucs", "expected"),
    [
        ((0.7,), "One point makes no curve"),
        ((0.6, 0.7), "more training may still help"),
        ((0.6, 0.7, 0.65), "fell by 0.0500"),
    ],
)
def test_the_learning_curve_says_whether_training_was_long_enough(aucs, expected):
    assert expected in learning_curve(history(*aucs)).finding


def test_captions_follow_the_data():
    """Clicks in the ad slot are made pure chance, and more frequent than predicted;
    elsewhere they stay as predicted.
    """
    table = predictions()
    in_slot = np.array(table["scenario"].to_pylist()) == "ad slot"
    chance = np.random.default_rng(0).random(len(in_slot)) < 0.7
    judged = Judged.of(
        predictions(labels=np.where(in_slot, chance, table["label_click"].to_numpy()).astype(np.float32))
    )
    ranking = ranking_by_scenario(judged).finding
    assert "weakest in ad slot" in ranking and "do not overlap" in ranking
    assert "Furthest off is ad slot" in calibration_curves(judged).finding


def test_the_sweep_over_c_equals_sorting_the_list():
    table = predictions()
    judged = Judged.of(table)
    shares_CS, auc_C = sweep(judged, np.array([0.0, 1.5]))
    assert shares_CS.sum(1) == pytest.approx(1)
    probability, labels = table["prob_click"].to_numpy(), table["label_click"].to_numpy()
    top = np.array(table["scenario"].to_pylist())[np.argsort(-probability)[:300]]
    assert shares_CS[0] == pytest.approx([np.mean(top == name) for name in judged.names])
    rescored = predictions(c=1.5)["score_click"].to_numpy()
    assert auc_C == pytest.approx([auc(labels, probability), auc(labels, rescored)], abs=1e-5)


def test_the_terminal_table_has_a_row_a_scenario_busiest_first():
    metrics = metrics_of(predictions())
    metrics["scenarios"]["search"]["gauc"] = None
    written = io.StringIO()
    Console(width=140, file=written).print(metrics_table(metrics))
    lines = [line for line in written.getvalue().splitlines() if any(letter.isdigit() for letter in line)]
    assert [line.split("  ")[0].strip() for line in lines] == ["all rows", "mean", *NAMES]
    assert f"{metrics['overall']['auc']:.4f}" in lines[0]
    assert "–" in lines[3]


def test_the_terminal_table_fits_80_columns_behind_the_name_of_a_rank():
    metrics = metrics_of(predictions(names=("documentary", "film noir", "sci-fi")))
    metrics["overall"]["rows"] = 1_234_567
    wide, narrow = io.StringIO(), io.StringIO()
    for width, written in ((140, wide), (80 - len("[default0]:  "), narrow)):
        Console(width=width, file=written).print(metrics_table(metrics))
    assert [line.rstrip() for line in narrow.getvalue().splitlines()] == [
        line.rstrip() for line in wide.getvalue().splitlines()
    ]
    assert "…" not in narrow.getvalue() and "calib." in narrow.getvalue()


def test_a_run_with_a_c_for_each_scenario_names_no_single_one():
    found = blending(Judged.of(predictions()), None).finding
    assert "this run has a c for each scenario" in found and "c = 0)." not in found.partition("own.")[0]


@given(st.floats(0, 1))
def test_shares_are_read_back_to_two_digits(value):
    text = share(value)
    assert text.endswith("\u202f%")
    assert float(text[:-2]) / 100 == pytest.approx(value, rel=0.06, abs=1e-6)


def test_it_is_said_how_rows_were_judged() -> None:
    metrics = metrics_of(predictions())
    overall = metrics["overall"]
    assert 0 < overall["grouped_rows"] <= overall["rows"]
    figure = (
        f"GAUC and NDCG@10 {overall['ndcg']:.4f} are of the {overall['grouped_rows']:,} of {overall['rows']:,} rows"
    )
    assert judged_note(metrics) == f"{figure} whose user has both classes."
    assert judged_note(metrics | {"weighted": True}).endswith("both classes. Each row counts by its weight.")
    assert judged_note({"overall": {"rows": 3}}) == "", "files of before do not say"
