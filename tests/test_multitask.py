"""Tasks that follow others: the entire-space chain against naive float64,
from the loss to served scores and the predictions file.
"""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal, localcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from batches import dims, sorted_rows
from dated_log import data_file, rows_of_day, write_day, write_users
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score
from tiny_world import SCHEMA, STRENGTHS, catalog_of, eager_logits, make_config, make_ranker
from tiny_world import prepare as prepare_tiny

from swrec_prod.blocks.debias import ScenarioBiasEliminator, Scorer, Scores, ranking_score
from swrec_prod.blocks.entire_space import EntireSpace, both, chained
from swrec_prod.config import RunConfig
from swrec_prod.errors import DataError, SchemaError
from swrec_prod.evaluate.judging import metrics_of
from swrec_prod.evaluate.predictions import (
    first_of,
    logit_of,
    predictions_table,
    read_predictions,
    split_of,
    write_predictions,
)
from swrec_prod.export.run import export_package
from swrec_prod.losses import bce
from swrec_prod.models import build
from swrec_prod.pages.run_page import write_report
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
from swrec_prod.schema import FeatureSchema
from swrec_prod.serving.callers.rows import requests_from_table
from swrec_prod.serving.protocol.call import call_of
from swrec_prod.serving.scoring.predictor import Predictor
from swrec_prod.simulation.simulate import simulate
from swrec_prod.simulation.world import Simulation
from swrec_prod.strict import parse
from swrec_prod.train.run import train

LABELS = [{"name": "click", "column": "click"}, {"name": "buy", "column": "buy", "after": "click"}]
TASKS = ("click", "cart", "buy")
AFTER = st.integers(1, 3).flatmap(lambda tasks: st.tuples(*(st.integers(-1, t - 1) for t in range(tasks))))


def sigma(z: Any) -> Any:
    return 1 / (1 + (-z).exp()) if isinstance(z, torch.Tensor | Decimal) else 1 / (1 + np.exp(-z))


def naive(logit_NT: Any, after: tuple[int, ...]) -> Any:
    """The probabilities of the labels: for each column the product along its chain."""
    columns: list[Any] = []
    for t, first in enumerate(after):
        columns.append(sigma(logit_NT[:, t]) * (columns[first] if first >= 0 else 1))
    return torch.stack(columns, 1) if isinstance(logit_NT, torch.Tensor) else np.stack(columns, 1)


def random_logits(after: tuple[int, ...], seed: int, rows: int = 8, spread: float = 4.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (rows, len(after))).clip(-12, 12)


# The chain


@settings(deadline=None)
@given(after=AFTER, seed=st.integers(0, 10_000))
def test_a_chained_logit_is_that_of_the_product_of_probabilities(after: tuple[int, ...], seed: int) -> None:
    z_NT = random_logits(after, seed)
    p_NT = naive(z_NT, after)
    got = chained(torch.from_numpy(z_NT), list(after))
    np.testing.assert_allclose(got.numpy(), np.log(p_NT / (1 - p_NT)), rtol=1e-8, atol=1e-8)
    single = chained(torch.from_numpy(z_NT).float(), list(after))
    np.testing.assert_allclose(single.numpy(), got.numpy(), rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(after=AFTER, seed=st.integers(0, 10_000))
def test_its_gradient_is_that_of_the_naive_form(after: tuple[int, ...], seed: int) -> None:
    leaves = [torch.from_numpy(random_logits(after, seed)).requires_grad_() for _ in range(2)]
    weights = torch.from_numpy(random_logits(after, seed + 1))
    (chained(leaves[0], list(after)) * weights).sum().backward()
    p_NT = naive(leaves[1], after)
    (torch.log(p_NT / (1 - p_NT)) * weights).sum().backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(a=st.integers(-80, 80), b=st.integers(-80, 80))
def test_extreme_logits_have_exact_values_and_bounded_gradients(a: int, b: int) -> None:
    first, then = (torch.tensor(float(z), requires_grad=True) for z in (a, b))
    got = both(first, then)
    got.backward()
    with localcontext() as context:
        context.prec = 120
        p = sigma(Decimal(a)) * sigma(Decimal(b))
        expected = float((p / (1 - p)).ln())
    assert got.item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert got <= min(a, b)
    for leaf in (first, then):
        assert leaf.grad is not None and 0 <= leaf.grad.item() <= 1 + 1e-6


@pytest.mark.parametrize("size", [80.0, 1e4])
def test_loss_and_gradient_are_finite_at_extreme_logits(size: float) -> None:
    z_BT = torch.tensor(
        [[x, y, z] for x in (size, -size) for y in (size, -size) for z in (size, -size)], requires_grad=True
    )
    for label in (0.0, 1.0):
        logit_BT = chained(z_BT, [-1, 0, 1])
        loss = bce(Scores(logit_BT, z_BT, z_BT[:, :0]), torch.full((8, 3), label))
        loss.backward()
        assert loss.isfinite() and z_BT.grad is not None and z_BT.grad.isfinite().all()


def test_tasks_that_follow_none_are_left_alone() -> None:
    z_BT = torch.randn(5, 3)
    for after in ((), (-1, -1, -1)):
        assert chained(z_BT, list(after)) is z_BT
    assert torch.equal(EntireSpace((-1, 0, -1))(z_BT)[:, [0, 2]], z_BT[:, [0, 2]])


@settings(deadline=None)
@given(tasks=st.integers(1, 3), weighted=st.booleans(), seed=st.integers(0, 1000))
def test_the_loss_is_esmms(tasks: int, weighted: bool, seed: int) -> None:
    """L(pCTR) + L(pCTR pCVR) + ..., all over every row (Ma et al., eq. 4)."""
    after, draw = tuple(range(-1, tasks - 1)), np.random.default_rng(seed)
    z_NT, happened = random_logits(after, seed, 20), np.ones(20, bool)
    p_NT = naive(z_NT, after)
    weight_N, labels, expected = draw.random(20) + 0.1 if weighted else None, [], 0.0
    for t in range(tasks):
        happened = happened & (draw.random(20) < 0.6)
        labels.append(happened)
        expected += log_loss(happened, p_NT[:, t], sample_weight=weight_N, labels=[False, True])
    logit_BT = EntireSpace(after)(torch.from_numpy(z_NT))
    labels_BT = torch.from_numpy(np.stack(labels, 1)).double()
    got = bce(
        Scores(logit_BT, logit_BT, logit_BT[:, :0]), labels_BT, None if weight_N is None else torch.from_numpy(weight_N)
    )
    assert got.item() == pytest.approx(expected, rel=1e-6)


# The scorer


def test_with_the_eliminator_every_column_is_debiased_and_then_chained() -> None:
    torch.manual_seed(0)
    scorer, inputs = (
        Scorer(build("shared_bottom", {}, dims()), ScenarioBiasEliminator(3, 2), (-1, 0)).eval(),
        sorted_rows(20).inputs(3),
    )
    scores = scorer(inputs)
    torch.testing.assert_close(scores.interest_BT, scorer.model(inputs))
    y_BT, sigma_BT = scores.interest_BT.double(), sigma(scores.scenario_BT.double())
    p_BT = naive(y_BT * sigma_BT, (-1, 0))
    torch.testing.assert_close(scores.logit_BT.sigmoid().double(), p_BT, rtol=1e-5, atol=1e-6)
    p_BT = naive((y_BT - 0.7) * sigma_BT, (-1, 0))
    torch.testing.assert_close(ranking_score(scores, 0.7, (-1, 0)).sigmoid().double(), p_BT, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ranking_score(scores, 0.0, (-1, 0)), scores.logit_BT)


def test_without_eliminator_the_ranking_score_is_the_labels_logit() -> None:
    scores = Scorer(build("shared_bottom", {}, dims()), after=(-1, 0))(sorted_rows(6).inputs(3))
    torch.testing.assert_close(scores.logit_BT, chained(scores.interest_BT, [-1, 0]))
    assert torch.equal(ranking_score(scores, 3.0, (-1, 0)), scores.logit_BT)


# Schema and data


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([LABELS[0], LABELS[1] | {"after": "clik"}], r"label 'buy': after 'clik' is not a label; did you mean click\?"),
        ([LABELS[1], LABELS[0]], r"label 'buy' is after 'click', which has to stand before it in labels"),
        ([LABELS[0] | {"after": "click"}], r"label 'click' is after 'click', which has to stand before it"),
    ],
)
def test_a_label_follows_one_before_it(labels: list[dict[str, str]], said: str) -> None:
    with pytest.raises(SchemaError, match=said) as told:
        parse(FeatureSchema, SCHEMA.model_dump() | {"labels": labels}, "schema.yaml", SchemaError)
    assert "\n" not in str(told.value)


def test_a_schema_without_the_key_keeps_its_bytes(tmp_path: Path) -> None:
    assert [label.model_dump_json() for label in SCHEMA.labels] == [
        '{"name":"click","column":"click"}',
        '{"name":"buy","column":"buy"}',
    ]
    follows = parse(FeatureSchema, SCHEMA.model_dump() | {"labels": LABELS}, "schema.yaml", SchemaError)
    follows.save(tmp_path / "schema.yaml")
    assert FeatureSchema.load(tmp_path / "schema.yaml") == follows
    assert (SCHEMA.after, follows.after) == ((-1, -1), (-1, 0)) and follows.chained == (
        (follows.labels[1], follows.labels[0]),
    )


@pytest.mark.engine
def test_an_outcome_before_the_one_that_it_follows_is_refused_with_its_file(tmp_path: Path) -> None:
    labels = {"labels": [{"name": "click", "column": "clicked"}, {"name": "buy", "column": "bought", "after": "click"}]}
    raw = tmp_path / "raw"
    write_users(raw)
    for number in (1, 2, 3):
        write_day(raw, number, bought=pa.array(rows_of_day(number)["clicked"].to_numpy() == 1))
    prepare(data_file(schema=labels), raw, tmp_path / "good")
    path = write_day(raw, 2)
    wrong = sum(
        bought and not clicked
        for bought, clicked in zip(*(rows_of_day(2)[c].to_pylist() for c in ("bought", "clicked")), strict=True)
    )
    with pytest.raises(DataError) as told:
        prepare(data_file(schema=labels), raw, tmp_path / "bad")
    said = (
        f"label column 'bought' has {wrong} values of 1 where 'clicked' is 0, "
        "though it is after it; mend these rows, or leave"
    )
    assert wrong and str(told.value).startswith(f"{path}: {said}") and "\n" not in str(told.value)


# Export and serving


@pytest.mark.parametrize("model", ["mscan", "shared_bottom"])
def test_served_scores_are_the_chain(model: str, tmp_path: Path) -> None:
    schema = parse(FeatureSchema, SCHEMA.model_dump() | {"labels": LABELS}, "schema.yaml", SchemaError)
    rows = prepare_tiny(tmp_path, schema)
    ranker = make_ranker(model, tmp_path)
    path = export_package(ranker, make_config(model, tmp_path), catalog_of(tmp_path), tmp_path / "repo" / model, "none")
    logit, interest, scenario = (torch.from_numpy(a).double() for a in eager_logits(ranker, tmp_path, rows))
    c_N1 = torch.tensor([[STRENGTHS[name]] for name in rows["scenario"].to_pylist()])
    own = interest * sigma(scenario) if model == "mscan" else interest
    score = (interest - c_N1) * sigma(scenario) if model == "mscan" else interest
    wanted = [naive(z, (-1, 0)).numpy() for z in (own, score)]
    predictor, served = Predictor.load(path), np.zeros((2, len(rows), 2))
    for asked in requests_from_table(rows, schema):
        call = call_of(asked.request)
        scenario_of_call, _ = predictor.scenario(call.scenario)
        scored = predictor.score(call, scenario_of_call, predictor.strength(call, scenario_of_call))
        served[:, asked.rows] = scored.probability, sigma(scored.score.astype(np.float64))
    np.testing.assert_allclose(served, wanted, atol=1e-5)
    np.testing.assert_allclose(logit.sigmoid().numpy(), wanted[0], atol=1e-6)
    assert not np.allclose(logit[:, 1], own[:, 1], atol=0.1)


# Predictions and metrics


def predicted(
    split: bool, after: tuple[int, ...] = (-1, 0, 1), n: int = 600, **more: Any
) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """A table of random rows whose labels follow `after`,
    and y_m and sigmoid(y_s) (1 without split), float64 [N, T].
    """
    draw, tasks = np.random.default_rng(n), TASKS[: len(after)]
    interest, scenario = (draw.normal(1, 1, (n, len(after))).astype(np.float32) for _ in range(2))
    factor = sigma(scenario.astype(np.float64)) if split else np.ones(scenario.shape)
    own = interest * factor
    labels = draw.random((n, len(after))) < sigma(own)
    for t, first in enumerate(after):
        labels[:, t] &= labels[:, first] if first >= 0 else True
    table = predictions_table(
        row=np.arange(n),
        day=["2024-05-01"] * n,
        user=draw.integers(0, 20, n),
        scenario=[["feed", "ads"][i] for i in draw.integers(0, 2, n)],
        labels_NT=labels,
        logit_NT=chained(torch.from_numpy(own), list(after)).numpy(),
        tasks=tasks,
        after=after,
        interest_NT=interest,
        scenario_NT=scenario if split else scenario[:, :0],
        **more,
    )
    return table, interest.astype(np.float64), factor


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("after", [(-1, 0), (-1, 0, 1), (-1, 0, 0), (-1, -1, 0)])
def test_the_file_alone_tells_the_chain(tmp_path: Path, split: bool, after: tuple[int, ...]) -> None:
    table, interest, factor = predicted(split, after, c=0.4)
    write_predictions(table, tmp_path / "predictions.parquet")
    table = read_predictions(tmp_path / "predictions.parquet")
    p_NT, at_c = (naive((interest - c) * factor, after) for c in (0.0, 0.4 * split))
    for t, task in enumerate(TASKS[: len(after)]):
        first = TASKS[after[t]] if after[t] >= 0 else None
        assert first_of(table, task) == first
        np.testing.assert_allclose(sigma(logit_of(table, task)), p_NT[:, t], rtol=1e-5)
        np.testing.assert_allclose(table[f"prob_{task}"], p_NT[:, t], rtol=1e-5)
        np.testing.assert_allclose(sigma(table[f"score_{task}"].to_numpy()), at_c[:, t], rtol=1e-5)
        if first:
            np.testing.assert_allclose(
                table[f"logit_{task}_given_{first}"], interest[:, t] * factor[:, t], rtol=1e-5, atol=1e-6
            )
            assert (table[f"prob_{task}"].to_numpy() <= table[f"prob_{first}"].to_numpy()).all()
        found = split_of(table, task)
        assert (found is not None) == split
        if found is not None:
            other = naive((interest + 1.5) * factor, after)
            np.testing.assert_allclose(sigma(found.rescored(-1.5)), other[:, t], rtol=1e-5)


@pytest.mark.parametrize("split", [True, False])
def test_a_task_is_judged_on_all_rows_and_given_the_one_before(split: bool) -> None:
    table, interest, factor = predicted(split)
    tasks = metrics_of(table)["tasks"]
    assert not any(key.startswith("given") for key in tasks["click"])
    p_NT = naive(interest * factor, (-1, 0, 1))
    labels = {task: table[f"label_{task}"].to_numpy() for task in TASKS}
    for t, (first, task) in enumerate(pairwise(TASKS), 1):
        assert tasks[task]["overall"]["auc"] == pytest.approx(roc_auc_score(labels[task], p_NT[:, t]))
        assert tasks[task]["overall"]["logloss"] == pytest.approx(log_loss(labels[task], p_NT[:, t]), rel=1e-5)
        rows = labels[first] == 1
        given_first, alone = tasks[task][f"given_{first}"], sigma((interest * factor)[rows, t])
        assert (given_first["overall"]["rows"], given_first["overall"]["positives"]) == (rows.sum(), labels[task].sum())
        assert given_first["overall"]["auc"] == pytest.approx(roc_auc_score(labels[task][rows], alone))
        assert given_first["overall"]["logloss"] == pytest.approx(log_loss(labels[task][rows], alone), rel=1e-5)
        assert given_first.keys() == tasks[task].keys() - {f"given_{first}"}


def test_without_a_click_nothing_is_judged_given_one() -> None:
    table, *_ = predicted(split=False, after=(-1, 0))
    for task in ("click", "cart"):
        table = table.set_column(
            table.column_names.index(f"label_{task}"), f"label_{task}", pa.array(np.zeros(len(table), np.float32))
        )
    record = metrics_of(table)["tasks"]["cart"]["given_click"]["overall"]
    assert record["rows"] == 0 and record["auc"] is None and record["reasons"]["auc"]


def test_a_chain_needs_the_tasks_own_logits() -> None:
    column = np.zeros((2, 2))
    with pytest.raises(DataError, match="a task follows another, and its own logits"):
        predictions_table(
            row=np.arange(2),
            day=["d"] * 2,
            user=[1, 2],
            scenario=["s"] * 2,
            labels_NT=column,
            logit_NT=column,
            tasks=TASKS[:2],
            after=(-1, 0),
        )


@pytest.mark.engine
@pytest.mark.parametrize("debias", [None, {"alpha": 0.1, "c": 0.3}])
def test_a_run_on_a_simulated_log_is_consistent(tmp_path: Path, debias: dict[str, float] | None) -> None:
    simulate(Simulation(days=4, rows_per_day=1500, scenarios=3, seed=1, conversions=True), tmp_path / "log")
    file = DataFile.load(tmp_path / "log" / "data.yaml")
    assert file.features.after == (-1, 0)
    prepare(file.model_copy(update={"fit_until": date(2024, 1, 2)}), tmp_path / "log", tmp_path / "data")
    days = {"train": "..2024-01-02", "valid": "2024-01-03", "test": "2024-01-04"}
    data = {"path": str(tmp_path / "data"), "split": "days", "days": days}
    run = {
        "data": data,
        "model": {"name": "shared_bottom"},
        "debias": debias,
        "train": {"epochs": 1, "batch_size": 512, "threads": 1},
    }
    config = RunConfig.model_validate(run)
    metrics, _ = train(config, tmp_path / "run")
    table = pq.read_table(tmp_path / "run" / "predictions.parquet")
    click, conversion = (table[f"prob_{task}"].to_numpy().astype(np.float64) for task in ("click", "conversion"))
    assert (conversion <= click).all()
    given_click = sigma(table["logit_conversion_given_click"].to_numpy().astype(np.float64))
    np.testing.assert_allclose(conversion, click * given_click, rtol=1e-5)
    judged = metrics["tasks"]["conversion"]
    assert (
        judged["given_click"]["overall"]["rows"]
        == metrics["overall"]["positives"]
        < judged["overall"]["rows"]
        == len(table)
    )
    assert math.isfinite(judged["overall"]["logloss"])
    write_report(tmp_path / "run", tmp_path / "page.html")
    assert "AUC of conversion given click" in (tmp_path / "page.html").read_text()
