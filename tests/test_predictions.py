"""The predictions file: what is in it, that it survives the disk, and that it knows enough to be judged again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swrec_prod.config import DebiasConfig
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.evaluate.bookkeeping import bookkeeping
from swrec_prod.evaluate.judging import Judging, metrics_of
from swrec_prod.evaluate.predictions import (
    Split,
    codes_of,
    logit_of,
    predictions_table,
    read_predictions,
    split_of,
    tasks_of,
    write_predictions,
)
from swrec_prod.evaluate.terminal import requests_note
from swrec_prod.metrics.summary import REQUEST_METRICS, summarise
from swrec_prod.metrics.within_groups import gauc
from swrec_prod.strict import parse

SCENARIOS = ("feed", "ads", "search")


def made(
    n: int = 200, tasks: tuple[str, ...] = ("click",), split: bool = True, **given
) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """A table of random rows, and the arrays that it was made of."""
    rng = np.random.default_rng(n)
    interest_NT, scenario_NT = (rng.normal(size=(n, len(tasks))).astype(np.float32) for _ in range(2))
    logit_NT = (interest_NT / (1 + np.exp(-scenario_NT))).astype(np.float32)
    arrays = {
        "row": np.arange(n)[::-1].copy(),
        "user": rng.integers(0, 9, n),
        "index": rng.integers(0, 3, n),
        "labels_NT": (rng.random((n, len(tasks))) < 1 / (1 + np.exp(-logit_NT))).astype(np.float32),
        "logit_NT": logit_NT,
    }
    halves = {"interest_NT": interest_NT, "scenario_NT": scenario_NT} if split else {}
    inputs = {name: arrays[name] for name in ("row", "user", "labels_NT", "logit_NT")} | halves
    scenario = [SCENARIOS[i] for i in arrays["index"]]
    return predictions_table(day=["2000-05-01"] * n, scenario=scenario, tasks=tasks, **inputs, **given), arrays | halves


def test_columns_are_the_documented_ones():
    plain, _ = made(split=False)
    assert plain.column_names == ["row", "day", "scenario", "user", "label_click", "prob_click", "score_click"]
    two, _ = made(tasks=("click", "buy"))
    assert {"interest_logit_click", "scenario_logit_buy", "label_buy", "prob_buy", "score_buy"} <= set(two.column_names)
    assert tasks_of(two) == ("click", "buy")
    one, _ = made()
    assert {"interest_logit", "scenario_logit"} <= set(one.column_names)


def test_probability_and_score_follow_from_the_logits():
    table, arrays = made(c=0.7)
    y_m, y_s = arrays["interest_NT"][:, 0], arrays["scenario_NT"][:, 0]
    np.testing.assert_allclose(table["prob_click"], 1 / (1 + np.exp(-arrays["logit_NT"][:, 0])), rtol=1e-6)
    np.testing.assert_allclose(table["score_click"], (y_m - 0.7) / (1 + np.exp(-y_s)), rtol=1e-5, atol=1e-6)
    plain, arrays = made(split=False, c=0.7)
    np.testing.assert_array_equal(plain["score_click"], arrays["logit_NT"][:, 0])
    assert split_of(plain, "click") is None


def test_c_may_differ_by_scenario():
    table, arrays = made(c={"feed": 0.0, "ads": 1.0, "search": -2.0})
    c_N = np.array([0.0, 1.0, -2.0])[arrays["index"]]
    expected = (arrays["interest_NT"][:, 0] - c_N) / (1 + np.exp(-arrays["scenario_NT"][:, 0]))
    np.testing.assert_allclose(table["score_click"], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match="no c for scenario 'search'"):
        made(c={"feed": 0.0, "ads": 1.0})


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_c_never_reorders_rows_of_one_scenario(a, b):
    split = Split(np.linspace(-4, 2, 50), np.full(50, -0.3))
    np.testing.assert_array_equal(np.argsort(split.rescored(a)), np.argsort(split.rescored(b)))


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("tasks", [("click",), ("click", "buy")])
def test_metrics_of_the_file_are_those_of_the_logits(tmp_path: Path, tasks, split):
    table, arrays = made(500, tasks, split, c=1.3)
    write_predictions(table, tmp_path / "new" / "predictions.parquet")
    found = metrics_of(read_predictions(tmp_path / "new" / "predictions.parquet"))
    expected = summarise(arrays["labels_NT"], arrays["logit_NT"], arrays["user"], arrays["index"], SCENARIOS, tasks)
    assert list(found["scenarios"]) == sorted(SCENARIOS)
    for name in ("feed", "ads", "search"):
        assert found["scenarios"][name] == pytest.approx(expected["scenarios"][name], rel=1e-6)
    assert found["overall"] == pytest.approx(expected["overall"], rel=1e-6)
    assert found.get("tasks", {}).keys() == expected.get("tasks", {}).keys()
    np.testing.assert_allclose(logit_of(table, tasks[-1]), arrays["logit_NT"][:, -1], rtol=1e-5, atol=1e-6)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch):
    path = tmp_path / "predictions.parquet"
    table, _ = made()
    write_predictions(table, path)

    def torn(_table, where, **_options):
        Path(where).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", torn)
    with pytest.raises(OSError, match="disk full"):
        write_predictions(table.slice(0, 3), path)
    assert read_predictions(path).num_rows == table.num_rows


def test_scores_alone_are_read_without_who_saw_what(tmp_path: Path):
    table, _ = made(tasks=("click", "buy"), more=facts(200))
    write_predictions(table, tmp_path / "p.parquet")
    read = read_predictions(tmp_path / "p.parquet", scores_only=True)
    left_out = {"day", "scenario", "user", "prob_click", "prob_buy", *facts(200)}
    assert set(table.column_names) - set(read.column_names) == left_out
    for task in ("click", "buy"):
        np.testing.assert_array_equal(logit_of(read, task), logit_of(table, task))


def facts(n: int) -> dict[str, pa.Array]:
    """Columns that a prepared folder adds: some rows have no request."""
    draw = np.random.default_rng(1)
    return {
        "request": pa.array([f"r{i}" for i in draw.integers(0, n // 5, n)], mask=draw.random(n) < 0.2),
        "weight": pa.array(draw.choice([0.0, 0.5, 2.0], n).astype(np.float32)),
        "campaign": pa.array(draw.integers(0, 5, n)),
    }


def test_weights_and_groups_are_columns_of_the_file(tmp_path: Path):
    more = facts(400)
    table, arrays = made(400, more=more)
    write_predictions(table, tmp_path / "p.parquet")
    read = read_predictions(tmp_path / "p.parquet")
    inputs = (arrays["labels_NT"], logit_of(table, "click")[:, None])
    scenarios, weights = (arrays["index"], SCENARIOS), more["weight"].to_numpy().astype(np.float64)
    found = metrics_of(read, Judging(group_by="campaign", ndcg_k=3))
    campaign = more["campaign"].to_numpy()
    expected = summarise(*inputs, campaign, *scenarios, ["click"], weights=weights, k=3)
    of_requests = {"request_rows", *REQUEST_METRICS}
    plain = {name: value for name, value in found["overall"].items() if name not in of_requests}
    assert plain == pytest.approx(expected["overall"], rel=1e-9)
    assert (found["weighted"], found["group_by"], found["ndcg_k"]) == (True, "campaign", 3)
    plain = metrics_of(read, Judging(weighted=False))
    assert plain["overall"] == pytest.approx(metrics_of(read.drop_columns(["weight"]))["overall"])
    assert not plain["weighted"] and plain["overall"]["auc"] != found["overall"]["auc"]


def test_rows_without_a_value_are_in_no_group():
    table, arrays = made(400, split=False, more=facts(400))
    found = metrics_of(table, Judging(group_by="request", weighted=False))["overall"]
    known = table["request"].is_valid().to_numpy()
    request = table["request"].to_pandas()[known]
    expected = gauc(arrays["labels_NT"][known, 0], arrays["logit_NT"][known, 0], request.to_numpy(str))
    assert found["gauc"] == pytest.approx(expected.value) and found["grouped_rows"] == expected.rows < known.sum()


def test_what_is_shown_together_is_said_in_a_line():
    items = {"item": pa.array([f"i{i % 30}" for i in range(400)])}
    metrics = metrics_of(made(400, more=facts(400) | items)[0], Judging(ndcg_k=2))
    overall, note = metrics["overall"], requests_note(metrics)
    assert note.startswith(f"Inside a request: S-GAUC {overall['sgauc']:.4f}, recall@2 {overall['recall']:.4f}, hit")
    assert "of the items in first places" in note and "bits" not in note, "no counts of training are known"
    assert requests_note(metrics_of(made(400)[0])) == ""


def test_without_requests_the_first_places_are_those_of_a_user():
    table, _ = made(400, split=False, more={"item": pa.array([f"i{i % 90}" for i in range(400)])})
    metrics = metrics_of(table, Judging(ndcg_k=2))
    rows = table.select(["user", "item", "score_click", "row"]).to_pandas()
    rows = rows.sort_values(["score_click", "row"], ascending=[False, True], kind="stable")
    shown = {item for _, of in rows.groupby("user") for item in of.item[:2]}
    assert metrics["overall"]["coverage"] == pytest.approx(len(shown) / 90) and len(shown) < 90
    assert "recall" not in metrics["overall"] and requests_note(metrics).startswith("With 2 places for each user: ")


@pytest.mark.parametrize("column", ["reqest", "score_click"])
def test_a_column_that_is_none_or_a_score_is_no_group(column: str):
    table, _ = made(more=facts(200))
    with pytest.raises(DataError, match=f"no column '{column}' to group rows by; "):
        metrics_of(table, Judging(group_by=column))


def test_unreadable_predictions_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"no such predictions file; `swrec evaluate"):
        read_predictions(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("rows")
    with pytest.raises(DataError, match=r"text\.parquet: not a Parquet file"):
        read_predictions(tmp_path / "text.parquet")
    table, _ = made()
    write_predictions(table.drop_columns(["prob_click"]), tmp_path / "less.parquet")
    with pytest.raises(DataError, match="lack column 'prob_click'"):
        read_predictions(tmp_path / "less.parquet")


@pytest.mark.parametrize(
    ("change", "message"), [({"labels_NT": np.zeros((3, 1))}, "labels"), ({"scenario_NT": None}, "only one")]
)
def test_inputs_that_do_not_fit_are_refused(change, message):
    column = np.zeros((4, 1))
    inputs = {"labels_NT": column, "logit_NT": column, "interest_NT": column, "scenario_NT": column} | change
    with pytest.raises(DataError, match=message):
        predictions_table(
            row=np.arange(4), day=["d"] * 4, user=[1] * 4, scenario=["feed"] * 4, tasks=["click"], **inputs
        )


def test_codes_are_sorted_and_keep_nulls_apart():
    codes, values = codes_of(pa.table({"scenario": pa.chunked_array([["b", None], ["a", "b"]])}), "scenario")
    assert values == ["a", "b", "null"]
    np.testing.assert_array_equal(codes, [1, 2, 0, 1])


def prepared(folder: Path, scenario: pa.Array) -> list[str]:
    """Two days of three rows each, as `swrec prepare` lays them out; row ids are 10 times the position."""
    files = []
    for i, day in enumerate(("2000-05-01", "2000-05-02")):
        part = slice(3 * i, 3 * i + 3)
        columns = {
            "row": 10 * np.arange(6)[part],
            "user": [f"u{j}" for j in range(6)][part],
            "scenario": scenario[part.start : part.stop],
            "label_click": pa.array(np.arange(6)[part] % 2, pa.int8()),
            "genre": [7] * 3,
        }
        files.append(f"day={day}/part-0.parquet")
        (folder / files[-1]).parent.mkdir(parents=True)
        pq.write_table(pa.table(columns), folder / files[-1])
    return files


def test_bookkeeping_follows_the_order_of_the_rows(tmp_path: Path):
    files = prepared(tmp_path, pa.array(["feed", "ads", "feed", "ads", "feed", "ads"]))
    table = bookkeeping(tmp_path, dict.fromkeys(files), np.array([40, 0, 40, 20]), ["click"])
    assert table.to_pylist() == [
        {"row": 40, "day": "2000-05-02", "user": "u4", "scenario": "feed", "label_click": 0},
        {"row": 0, "day": "2000-05-01", "user": "u0", "scenario": "feed", "label_click": 0},
        {"row": 40, "day": "2000-05-02", "user": "u4", "scenario": "feed", "label_click": 0},
        {"row": 20, "day": "2000-05-01", "user": "u2", "scenario": "feed", "label_click": 0},
    ]


def test_scenario_indices_become_values(tmp_path: Path):
    (tmp_path / "schema.yaml").write_text(
        "{name: shop, time: t, user: u, labels: [{name: click, column: c}],"
        " scenario: {values: [feed, ads], unseen: fallback},"
        " features: [{name: item, kind: id, side: item, encoder: vocab}]}"
    )
    files = prepared(tmp_path, pa.array([0, 1, 2, 1, 0, 1], pa.int32()))
    table = bookkeeping(tmp_path, dict.fromkeys(files), np.array([0, 10, 20]), ["click"])
    assert table["scenario"].to_pylist() == ["feed", "ads", "(unseen)"]


def test_rows_and_columns_that_are_not_there_are_named(tmp_path: Path):
    files = prepared(tmp_path, pa.array(["feed"] * 6))
    with pytest.raises(DataError, match="2 of 3 rows, such as row 15, are in none of 2 files"):
        bookkeeping(tmp_path, dict.fromkeys(files), np.array([10, 15, 99]), ["click"])
    with pytest.raises(DataError, match="no column 'label_clik'; did you mean label_click"):
        bookkeeping(tmp_path, dict.fromkeys(files), np.array([10]), ["clik"])
    with pytest.raises(DataError, match="is day=YYYY-MM-DD"):
        bookkeeping(tmp_path, {"part-0.parquet": None}, np.array([10]), ["click"])


def test_c_is_one_number_or_one_for_every_scenario():
    assert DebiasConfig(c=0.5).strengths(("feed", "ads")) == {"feed": 0.5, "ads": 0.5}
    assert DebiasConfig.model_validate({"c": {1: 0.5}}).strengths(("1",)) == {"1": 0.5}
    for wrong in ("many", None, float("nan"), {"feed": "x"}):
        with pytest.raises(
            ConfigError, match=r"run.yaml: c: expected a finite number, one for every scenario, fit or fit_each, not "
        ):
            parse(DebiasConfig, {"c": wrong}, "run.yaml")
    each = DebiasConfig.model_validate({"c": {"feed": 0, "ads": -1.5}})
    assert each.strengths(("feed", "ads")) == {"feed": 0.0, "ads": -1.5}
    with pytest.raises(ConfigError, match=r"debias.c: scenario 'ads' is not in the data; did you mean ad\?"):
        each.strengths(("feed", "ad"))
    with pytest.raises(ConfigError, match=r"debias.c: no number for scenario 'search'"):
        each.strengths(("feed", "ads", "search"))
