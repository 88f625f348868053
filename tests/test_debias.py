"""`swrec debias`: what c changes and what it cannot, against loops, scikit-learn and a simulation with known truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulations import simulated
from sklearn.metrics import roc_auc_score

from swrec_prod.config import RunConfig
from swrec_prod.debiasing.causal_rows import CausalRows, read_causal
from swrec_prod.debiasing.curves import Asked, Curve, curves
from swrec_prod.debiasing.strengths import first_places, strengths
from swrec_prod.metrics.probabilities import sigmoid
from swrec_prod.pages.debias_page import debias_page
from tests.commands import refused, succeeds, swrec

SCENARIO_LOGIT = {"cart": -1.5, "feed": 0.0, "mail": 1.0}


def write(path: Path, rows: int = 1500, seed: int = 2, **more: Any) -> pa.Table:
    """Predictions whose clicks follow interest and a direct effect of the scenario."""
    draw = np.random.default_rng(seed)
    scenario = draw.choice(list(SCENARIO_LOGIT), rows, p=[0.5, 0.3, 0.2])
    direct = np.array([SCENARIO_LOGIT[name] for name in scenario])
    interest = draw.normal(0.3, 1.5, rows)
    logit = sigmoid(direct) * interest
    columns = {
        "row": np.arange(rows),
        "day": ["2024-01-03"] * rows,
        "scenario": scenario,
        "user": [f"u{n}" for n in draw.integers(0, 60, rows)],
        "label_click": (draw.random(rows) < sigmoid(logit)).astype(np.float32),
        "prob_click": sigmoid(logit),
        "score_click": logit,
        "interest_logit": interest,
        "scenario_logit": direct,
    }
    table = pa.table(columns | more)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return table


def run(folder: Path, alpha: float, c: Any = 0.0, **more: Any) -> Path:
    """A finished RUN_DIR with such predictions."""
    days = {"train": "..2024-01-01", "valid": "2024-01-02", "test": "2024-01-03.."}
    debias = {"alpha": alpha, "c": c}
    config = {"data": {"path": "data", "days": days}, "model": {"name": "dnn"}, "debias": debias}
    write(folder / "predictions.parquet", **more)
    RunConfig.model_validate(config).save(folder / "run.yaml")
    return folder


def curve_of(path: Path, **asked: Any) -> Curve:
    return curves([str(path)], Asked(**({"grid": (-2.0, 0.0, 3.0)} | asked)))[0]


def test_figures_are_those_of_the_rescored_rows(tmp_path: Path) -> None:
    table = write(tmp_path / "p.parquet").to_pandas()
    for point in curve_of(tmp_path / "p.parquet", k=4).at:
        c = float(point.name)
        score = sigmoid(table.scenario_logit) * (table.interest_logit - c)
        table["score"], table["base"] = score, table.score_click
        pages = table.sort_values("score", ascending=False, kind="stable").groupby("user").head(4)
        before = table.sort_values("base", ascending=False, kind="stable").groupby("user").head(4)
        assert point.auc is not None and point.auc.value == pytest.approx(roc_auc_score(table.label_click, score))
        assert point.page_rate is not None and point.page_rate.value == pytest.approx(pages.label_click.mean())
        assert point.shares == pytest.approx([(pages.scenario == name).mean() for name in sorted(SCENARIO_LOGIT)])
        assert point.moved == pytest.approx(len(set(before.row) - set(pages.row)) / len(before))


def test_intervals_of_users_are_the_jackknife(tmp_path: Path) -> None:
    table = write(tmp_path / "p.parquet")
    rows = CausalRows.of(table)

    def figures(at: np.ndarray) -> list[float]:
        point = strengths(rows.take(at), [1.0], None, 4)[0]
        return [one.value for one in (point.gauc, point.ndcg, point.auc) if one]

    every = np.unique(rows.user_N)
    without = np.array([figures(rows.user_N != one) for one in every])
    jackknife = np.sqrt((len(every) - 1) * without.var(0))
    point = strengths(rows, [1.0], None, 4)[0]
    assert [one.error for one in (point.gauc, point.ndcg, point.auc) if one] == pytest.approx(jackknife, rel=0.06)


def test_inside_a_scenario_c_changes_nothing(tmp_path: Path) -> None:
    table = write(tmp_path / "all.parquet")
    whole = curve_of(tmp_path / "all.parquet")
    for name in SCENARIO_LOGIT:
        pq.write_table(table.filter(pa.compute.equal(table["scenario"], name)), tmp_path / f"{name}.parquet")
        at = curve_of(tmp_path / f"{name}.parquet").at
        assert len({point.auc for point in at}) == len({point.gauc for point in at}) == 1 and at[-1].moved == 0
        assert next(one for one in whole.by_scenario if one.name == name).auc == at[0].auc
    assert len({point.auc for point in whole.at}) == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=40), st.integers(1, 4))
def test_a_page_has_its_highest_scores(rows: list[tuple[int, int]], k: int) -> None:
    page, score = (np.array(column) for column in zip(*rows, strict=True))
    wanted = np.zeros(len(rows), bool)
    for one in np.unique(page):
        at = [i for i in range(len(rows)) if page[i] == one]
        wanted[sorted(at, key=lambda i: (-score[i], i))[:k]] = True
    assert (first_places(page, score, k) == wanted).all()


def test_the_right_c_orders_by_true_interest(tmp_path: Path) -> None:
    """A model that knew everything, split so that each c is the scenario's direct effect: the order is the oracle's."""
    world = simulated(tmp_path / "log", random_exposure=0.3)
    rows, names = len(world["row"]), world["scenario"]
    means = {name: float(world["direct"][names == name].mean()) for name in np.unique(names)}
    factor = {name: sigmoid(np.array(means[name])) for name in means}
    factor_N, direct_N = (np.array([of[name] for name in names], float) for of in (factor, means))
    columns = {
        "row": world["row"],
        "scenario": names,
        "user": world["user_id"].astype(str),
        "label_click": world["click"].astype(np.float32),
        "interest_logit": (world["interest"] + direct_N) / factor_N,
        "scenario_logit": direct_N,
        "is_random": world["is_random"],
    }
    c = {name: means[name] / float(factor[name]) for name in means}
    run(tmp_path / "run", 0.1, c, rows=rows, **columns)
    curve = curve_of(tmp_path / "run", truth=tmp_path / "log", random="is_random")
    zero, own = curve.point("0"), curve.point("own")
    assert zero.liked is not None and own.liked is not None
    oracle = roc_auc_score(
        np.tile([1, 0], rows), np.repeat(world["interest"], 2), sample_weight=_both(world["interest"])
    )
    assert own.liked.value == pytest.approx(oracle, abs=1e-6) and zero.liked.high < own.liked.low
    assert {one.name for one in curve.at_random} == {one.name for one in curve.at}
    assert curve.at_random[0].auc == curve_of_random(tmp_path, columns)


def _both(interest: np.ndarray) -> np.ndarray:
    liked = sigmoid(interest)
    return np.stack([liked, 1 - liked], 1).ravel()


def curve_of_random(folder: Path, columns: dict[str, Any]) -> Any:
    chosen = {name: values[columns["is_random"] == 1] for name, values in columns.items()}
    write(folder / "random.parquet", rows=len(chosen["row"]), **chosen)
    return curve_of(folder / "random.parquet").at[0].auc


def test_runs_are_told_apart_by_alpha(tmp_path: Path) -> None:
    words = [run(tmp_path / name, alpha, c) for name, alpha, c in (("much", 1.0, 2.0), ("little", 0.1, 0.0))]
    record = json.loads(succeeds("debias", *words, "--c", "-1,1", "--out", tmp_path / "out", "--json"))
    assert [(one["name"], one["alpha"], one["c"]) for one in record["curves"]] == [("little", 0.1, 0), ("much", 1, 2)]
    assert [point["name"] for point in record["curves"][1]["at"]] == ["-1", "0", "1", "2"]
    assert record == json.loads((tmp_path / "out" / "debias.json").read_text())
    assert "much: figures by c" in (tmp_path / "out" / "debias.html").read_text()
    text = (tmp_path / "out" / "debias.md").read_text()
    assert "## Runs by alpha" in text and "| 2 (own) |" in text and "\n| feed |" in text
    assert "much: 1,500 rows of 60 users in 3 scenarios, its own c is 2" in succeeds("debias", *words)


def test_exposures_without_labels_are_replayed(tmp_path: Path) -> None:
    table = write(tmp_path / "all.parquet", request=np.arange(1500) // 5)
    labelled = [name for name in table.column_names if name.endswith("_click")]
    pq.write_table(table.drop_columns([*labelled, "day", "user"]), tmp_path / "exposures.parquet")
    one = curve_of(tmp_path / "exposures.parquet", page_by="request", k=2)
    all_known = curve_of(tmp_path / "all.parquet", page_by="request", k=2)
    assert [p.shares for p in one.at] == [p.shares for p in all_known.at] and one.at[0].auc is None
    assert read_causal(tmp_path / "exposures.parquet", "request").label_N is None
    page = debias_page([one])
    assert page.cards == [] and "no labels" in page.sections[0].finding and page.sections[1].figure is not None
    succeeds("debias", tmp_path / "exposures.parquet", "--page-by", "request")


def test_what_cannot_be_replayed_is_said(tmp_path: Path) -> None:
    table = write(tmp_path / "p.parquet")
    words = ("debias", tmp_path / "p.parquet")
    pq.write_table(table.drop_columns("scenario_logit"), tmp_path / "plain.parquet")
    refused(swrec("debias", tmp_path / "plain.parquet"), "plain.parquet: no causal split")
    refused(swrec("debias", tmp_path / "none.parquet"), "none.parquet: no such file or folder")
    refused(swrec(*words, "--page-by", "users"), "no column 'users'; did you mean user")
    refused(swrec(*words, tmp_path / "p.parquet"), "'p' is the name of two tables; give NAME=RUN_DIR")
    refused(swrec(*words, "--c=1,many"), "--c 1,many: expected numbers")
    refused(swrec(*words, "--truth", tmp_path), "no truth of `swrec simulate` here")
    refused(swrec(*words, "--random", "day"), "column 'day' is string, expected 0 and 1")
    pq.write_table(table.append_column("never", pa.array([0] * 1500)), tmp_path / "p.parquet")
    refused(swrec(*words, "--random", "never"), "no row of 1,500 is 1")
    holes = pa.array([None, *range(1499)], pa.float64())
    pq.write_table(table.set_column(7, "interest_logit", holes), tmp_path / "p.parquet")
    refused(swrec(*words), "interest logits: 1 of 1,500 rows have no finite number")
