"""Fitting c: what the scenario adds to the logit of the same rows is found, and taken out of the ranking score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from commands import succeeds
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from tiny_world import SCHEMA
from torch import Tensor, nn

from swrec_prod.blocks.debias import Scores
from swrec_prod.config import DebiasConfig, RunConfig
from swrec_prod.data.batch import Batch
from swrec_prod.errors import ConfigError
from swrec_prod.evaluate.predictions import read_predictions, split_of
from swrec_prod.metrics.probabilities import sigmoid
from swrec_prod.metrics.ranks import auc
from swrec_prod.peers import Alone
from swrec_prod.ranker import build_ranker, resolve_run
from swrec_prod.simulation.simulate import simulate
from swrec_prod.simulation.world import Simulation
from swrec_prod.statistics.paired import auc_difference
from swrec_prod.strict import parse
from swrec_prod.train.counterfactual import CounterfactualSums, fitted, score_in_every_scenario, spacing

NAMES = ("feed", "cart", "search")


class KnownRanker(nn.Module):
    """Says interest + direct_s of a row whose dense column is the interest, with sigmoid(y_s) = factor_s."""

    def __init__(self, direct_S: list[float], factor_S: list[float]) -> None:
        super().__init__()
        self.direct_S, self.factor_S = torch.tensor(direct_S), torch.tensor(factor_S)

    def forward(self, batch: Batch) -> tuple[Tensor, Scores]:
        factor_B1 = self.factor_S[batch.scenario_B][:, None]
        logit_B1 = batch.dense_BF + self.direct_S[batch.scenario_B][:, None]
        return logit_B1.mean(), Scores(logit_B1, logit_B1 / factor_B1, factor_B1.logit())


def batch_of(interest: np.ndarray, scenario: np.ndarray) -> Batch:
    order = np.argsort(scenario, kind="stable")
    ids, counts, numbers = (torch.zeros(0, dtype=kind) for kind in (torch.int64, torch.int32, torch.float32))
    rows = torch.from_numpy(interest[order].astype(np.float32))[:, None]
    where = torch.from_numpy(scenario[order].astype(np.int64))
    return Batch(
        ids=None, sequence_values=ids, sequence_lengths=counts, behaviour_scenario=ids, bag_lengths=counts,
        behaviour_numbers=numbers, weights=numbers, dense_BF=rows, scenario_B=where, labels_BT=torch.zeros_like(rows),
        weight_B=None, row_B=where,
    )  # fmt: skip


def seen(direct_S: list[float], factor_S: list[float], rows: int = 300) -> CounterfactualSums:
    draw = np.random.default_rng(0)
    scenario = draw.choice(3, rows, p=[0.6, 0.3, 0.1])
    # who likes more is not evenly spread: no influence of the scenario
    interest = draw.normal(size=rows) + 2 * (scenario == 1)
    batches = [batch_of(interest[at::4], scenario[at::4]) for at in range(4)]
    return score_in_every_scenario(KnownRanker(direct_S, factor_S), batches, 3, 1, "cpu")


numbers = st.lists(st.floats(-3, 3), min_size=3, max_size=3)
shares = st.lists(st.floats(0.05, 0.9), min_size=3, max_size=3)


@settings(deadline=None)
@given(numbers, shares)
def test_c_of_each_scenario_takes_its_direct_influence_out(direct_S: list[float], factor_S: list[float]) -> None:
    c_S = seen(direct_S, factor_S).each()
    left = np.array(direct_S) - c_S * factor_S
    np.testing.assert_allclose(left, left[0], atol=1e-4)


@settings(deadline=None)
@given(numbers, shares)
def test_one_c_is_the_least_squares_of_the_direct_influence(direct_S: list[float], factor_S: list[float]) -> None:
    sums = seen(direct_S, factor_S)
    spread = np.average(
        (np.array(factor_S) - np.average(factor_S, weights=sums.traffic_S)) ** 2, weights=sums.traffic_S
    )
    if spread < 1e-4:
        return
    line = LinearRegression().fit(np.array(factor_S)[:, None], direct_S, sample_weight=sums.traffic_S)
    assert sums.one() == pytest.approx(max(line.coef_[0], 0), abs=1e-3 / spread**0.5)


def test_without_direct_influence_nothing_is_taken() -> None:
    sums = seen([0.7, 0.7, 0.7], [0.2, 0.5, 0.3])
    assert sums.one() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(sums.each(), 0, atol=1e-5)
    assert seen([1.0, 2.0, 3.0], [0.4, 0.4, 0.4]).one() == 0, "where no scenario differs, no c is better than another"


def test_what_was_asked_for_becomes_numbers() -> None:
    direct_S, factor_S = np.array([4.0, 0.0, -4.0]), np.array([0.5, 0.4, 0.2])
    sums = seen(direct_S.tolist(), factor_S.tolist())
    mean = np.average(direct_S, weights=sums.traffic_S)
    share = 1 - 0.25**2 / np.average((direct_S - mean) ** 2, weights=sums.traffic_S)
    one, taken = fitted(DebiasConfig(c="fit"), sums, NAMES)
    assert one.strengths(NAMES) == pytest.approx(dict.fromkeys(NAMES, share * sums.one()), abs=1e-3)
    line = LinearRegression().fit(factor_S[:, None], direct_S, sample_weight=sums.traffic_S)
    explained = line.score(factor_S[:, None], direct_S, sums.traffic_S)
    assert taken == pytest.approx(explained * (1 - (1 - share) ** 2), abs=1e-4)
    each, taken = fitted(DebiasConfig(c="fit_each"), sums, NAMES)
    np.testing.assert_allclose(list(each.strengths(NAMES).values()), share * sums.each(), atol=1e-3)
    assert taken == pytest.approx(1 - (1 - share) ** 2, abs=1e-4)
    with pytest.raises(ConfigError, match=r"c: .*fit or fit_each, not 'fits'"):
        parse(DebiasConfig, {"c": "fits"}, "run.yaml")
    with pytest.raises(ConfigError, match="alpha: 0 never trains y_s where form is apart"):
        parse(DebiasConfig, {"alpha": 0, "form": "apart"}, "run.yaml")


def test_what_interest_may_explain_is_left() -> None:
    sums = seen([0.2, -0.1, 0.3], [0.5, 0.4, 0.2])
    assert fitted(DebiasConfig(c="fit"), sums, NAMES)[0].c == 0
    assert set(fitted(DebiasConfig(c="fit_each"), sums, NAMES)[0].strengths(NAMES).values()) == {0.0}


def test_c_never_favours_scenarios_that_get_clicks_anyway() -> None:
    assert seen([-1.0, 0.0, 1.0], [0.5, 0.4, 0.2]).one() == 0


def test_rare_outcomes_are_debiased_too() -> None:
    sums = seen([1.0, 2.0, -0.7], [2e-5, 4e-5, 1e-5])
    line = LinearRegression().fit(np.array([2e-5, 4e-5, 1e-5])[:, None], [1.0, 2.0, -0.7], sample_weight=sums.traffic_S)
    assert sums.one() == pytest.approx(line.coef_[0], rel=1e-2)


def test_ranks_add_up() -> None:
    whole = seen([1.0, 0.0, -1.0], [0.5, 0.4, 0.2])
    part, rest = (
        CounterfactualSums(whole.logit_S * f, whole.factor_S * f, whole.traffic_S * f, whole.rows * f)
        for f in (0.25, 0.75)
    )

    class Two(Alone):
        def to_all(self, value):
            return [value, rest]

    together = part.over_ranks(Two())
    assert together.one() == pytest.approx(whole.one()) and together.rows == pytest.approx(whole.rows)
    np.testing.assert_allclose(together.logit_S, whole.logit_S)
    np.testing.assert_allclose(together.traffic_S, whole.traffic_S)


def test_c_is_not_fitted_where_that_has_no_meaning() -> None:
    run = {"data": {"path": "x", "split": "random"}, "model": {"name": "epnet"}, "debias": {"c": "fit"}}
    with pytest.raises(
        ConfigError, match=r"debias.c: fit asks one model about every scenario, and single has a model for each"
    ):
        parse(RunConfig, {**run, "strategy": {"name": "single"}}, "run.yaml")
    with pytest.raises(ConfigError, match=r"debias.c: fit finds a c for one label, and the data have click, buy"):
        build_ranker(resolve_run(SCHEMA, RunConfig.model_validate(run)))


def test_only_part_of_many_rows_is_scored_everywhere() -> None:
    assert spacing(batches=10, batch_size=1000, num_scenarios=3) == 1
    scored = 1000 * 1000 // spacing(batches=1000, batch_size=1000, num_scenarios=10)
    assert 200_000 <= scored <= 400_000
    assert spacing(batches=1000, batch_size=1000, num_scenarios=1000) == 500


@pytest.fixture(scope="module")
def simulated_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A run with c: fit on a simulated log with a strong direct effect, and the interest of its test rows."""
    folder = tmp_path_factory.mktemp("simulated")
    options = {
        "days": 10,
        "rows_per_day": 4000,
        "scenarios": 6,
        "seed": 3,
        "users": 300,
        "items": 120,
        "direct_effect": 2.0,
        "history_length": 5,
    }
    simulate(Simulation(**options), folder / "log")
    succeeds("prepare", folder / "log" / "data.yaml", "--raw", folder / "log", "--out", folder / "data")
    config = {
        "data": {
            "path": str(folder / "data"),
            "days": {"train": "..2024-01-08", "valid": "2024-01-09", "test": "2024-01-10"},
        },
        "model": {"name": "epnet", "hidden": [32]},
        "debias": {"alpha": 0.1, "c": "fit"},
        "train": {"epochs": 4, "patience": 4, "batch_size": 256, "lr_dense": 0.003, "threads": 1},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    succeeds("train", folder / "run.yaml", "--out", folder / "run")
    truth = pa.concat_tables([pq.read_table(path) for path in sorted((folder / "log" / "truth").rglob("*.parquet"))])
    interest = dict(zip(truth["row"].to_pylist(), truth["interest"].to_numpy(), strict=True))
    rows = read_predictions(folder / "run" / "predictions.parquet")["row"].to_pylist()
    return folder / "run", np.array([interest[row] for row in rows])


@pytest.mark.engine
def test_the_fitted_score_is_nearer_to_interest_than_the_probability(simulated_run: tuple[Path, np.ndarray]) -> None:
    run, interest = simulated_run
    table = read_predictions(run / "predictions.parquet")
    liked = sigmoid(interest)
    score, prob = (table[name].to_numpy().astype(float) for name in ("score_click", "prob_click"))
    difference = auc_difference(liked, score, prob, table["user"].to_numpy())
    assert difference.low > 0, difference
    twice = np.concatenate([liked, 1 - liked])
    labels = np.repeat([1, 0], len(liked))
    assert auc(labels, np.tile(score, 2), twice) - auc(labels, np.tile(prob, 2), twice) == pytest.approx(
        difference.value, abs=1e-6
    )


@pytest.mark.engine
def test_the_run_holds_the_numbers(simulated_run: tuple[Path, np.ndarray]) -> None:
    run, _ = simulated_run
    config = RunConfig.load(run / "run.yaml")
    assert config.debias is not None
    assert isinstance(config.debias.c, float)
    table = read_predictions(run / "predictions.parquet")
    split = split_of(table, "click")
    assert split is not None
    np.testing.assert_allclose(table["score_click"].to_numpy(), split.rescored(config.debias.c), atol=1e-5)
    assert "c fitted" in (run / "log.txt").read_text()
