"""Single and Finetune: a model for every scenario, made of ordinary runs; never worse than Mix where it counts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from prepared_folder import SCHEMA, write_prepared
from runs import evaluated, history_of, metrics_of_run, predictions, run_file, torchrun
from sklearn.metrics import roc_auc_score
from strategy_runs import CART, HOME, SEARCH, of_scenarios, toy_config, toy_rows, with_values

from swrec_prod.checkpoint import load_run
from swrec_prod.cli import main
from swrec_prod.config import RunConfig, StrategyConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.counts import scenario_counts
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.evaluate.judging import metrics_of
from swrec_prod.evaluate.predictions import read_predictions
from swrec_prod.pages.run_page import write_report
from swrec_prod.run_dir import scenario_folder
from swrec_prod.strict import parse
from swrec_prod.train.loop import Fit
from swrec_prod.train.run import train

pytestmark = pytest.mark.slow  # trains several runs


@pytest.fixture(params=["single", "finetune"])
def run(request: pytest.FixtureRequest, single_run: Path, finetune_run: Path) -> Path:
    return {"single": single_run, "finetune": finetune_run}[request.param]


def test_single_is_what_the_rows_of_one_scenario_give(single_run: Path, tmp_path: Path) -> None:
    for index, value in enumerate(SCHEMA.scenario.values):
        table = toy_rows()
        alone = write_prepared(tmp_path / value / "data", [table.filter(pc.equal(table["scenario"], index))])
        train(toy_config(alone), tmp_path / value / "run")
        assert history_of(single_run / "scenarios" / value) == history_of(tmp_path / value / "run")
        expected, found = predictions(tmp_path / value / "run"), predictions(single_run / "scenarios" / value)
        assert expected.keys() == found.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_every_scenario_has_a_whole_run_that_says_what_was_trained(run: Path) -> None:
    for value in SCHEMA.scenario.values:
        folder = run / "scenarios" / value
        config = RunConfig.load(folder / "run.yaml")
        assert config.data.scenarios == (value,) and config.strategy == StrategyConfig()
        np.testing.assert_allclose(
            evaluated(folder)[0]["score_click"].to_numpy(), predictions(folder)["score_click"], atol=1e-6
        )
    assert {path.name for path in run.iterdir()} >= {
        "run.yaml",
        "log.txt",
        "metrics.json",
        "predictions.parquet",
        "scenarios",
    }
    assert (run / "mix" / "metrics.json").exists() == (run.name == "finetune")


def test_every_test_row_is_scored_by_the_model_of_its_scenario(run: Path) -> None:
    table, metrics = predictions(run), metrics_of_run(run)
    rows = toy_rows()
    assert table["row"].tolist() == rows.filter(pc.equal(rows["split"].cast(pa.string()), "test"))["row"].to_pylist()
    for value in SCHEMA.scenario.values:
        at, own = table["scenario"] == value, predictions(run / "scenarios" / value)
        np.testing.assert_array_equal(table["score_click"][at], own["score_click"])
        auc = roc_auc_score(own["label_click"], own["score_click"], sample_weight=own["weight"])
        assert metrics["scenarios"][value]["auc"] == pytest.approx(auc, abs=1e-9)
        told = metrics_of_run(run / "scenarios" / value)
        assert metrics["runs"][value] == {"folder": f"scenarios/{value}"} | {
            n: told[n] for n in told if n.startswith("best_")
        }
    assert metrics["strategy"] == run.name
    assert metrics["overall"]["auc"] == pytest.approx(
        roc_auc_score(table["label_click"], table["prob_click"], sample_weight=table["weight"]), abs=1e-6
    )
    folders = [*(run / "scenarios").iterdir(), *([run / "mix"] if run.name == "finetune" else [])]
    assert metrics["rows"] == sum(metrics_of_run(folder)["rows"] for folder in folders)


def test_evaluate_scores_each_row_as_its_own_run_does(run: Path) -> None:
    table, metrics = evaluated(run)
    np.testing.assert_allclose(table["score_click"].to_numpy(), predictions(run)["score_click"], atol=1e-6)
    assert table["row"].to_pylist() == predictions(run)["row"].tolist()
    assert metrics["overall"]["auc"] == pytest.approx(metrics_of_run(run)["overall"]["auc"], abs=1e-9)
    assert evaluated(run, days="2024-01-01")[0]["row"].to_pylist() == list(range(900))
    valid = evaluated(run, part="valid")[1]
    for value, told in metrics_of_run(run)["runs"].items():
        assert valid["scenarios"][value]["auc"] == pytest.approx(told["best_valid_auc"], abs=1e-6)


def test_a_report_is_made_of_all_of_them(run: Path, tmp_path: Path) -> None:
    write_report(run, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"name {run.name}" in page and f"{metrics_of_run(run)['overall']['auc']:.4f}" in page


def test_a_package_is_made_of_one_of_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["swrec", "export", str(run), "--to", str(tmp_path / "models" / "all")])
    with pytest.raises(SystemExit) as ended:
        main()
    told = f"strategy {run.name} has a model for every scenario; name one in {run}/scenarios: cart, home, search"
    assert ended.value.code == 2 and told in capsys.readouterr().err
    ranker, config, _ = load_run(run / "scenarios" / CART)
    assert config.data.scenarios == (CART,) and not ranker.training


def test_finetune_is_never_worse_than_mix_on_the_validation_rows(finetune_run: Path) -> None:
    mix = evaluated(finetune_run / "mix", part="valid")[1]["scenarios"]
    better = 0
    for value, told in metrics_of_run(finetune_run)["runs"].items():
        first = history_of(finetune_run / "scenarios" / value)[0]
        assert (first["step"], first["rows"]) == (0, 0)
        assert first["valid_auc"] == pytest.approx(mix[value]["auc"], abs=1e-6), "mix is the first candidate"
        assert told["best_valid_auc"] >= first["valid_auc"]
        better += told["best_step"] > 0
    assert better, "at least one scenario gained from rows of its own"


@pytest.fixture
def found_aucs(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes every validation find an AUC that is so much above the one before."""

    def find(step: float) -> None:
        found = [0.5]

        def validate(fit: Fit) -> dict[str, float]:
            found.append(found[-1] + step)
            return {"valid_auc": found[-1], "valid_logloss": 0.5}

        monkeypatch.setattr(Fit, "validate", validate)

    return find


def test_a_scenario_that_never_gets_better_keeps_mix(
    tmp_path: Path, strategy_data: Path, found_aucs: Callable[[float], None]
) -> None:
    found_aucs(-0.01)
    train(toy_config(strategy_data, "finetune", epochs=1, patience=1), tmp_path / "run")
    np.testing.assert_array_equal(
        predictions(tmp_path / "run")["score_click"], predictions(tmp_path / "run" / "mix")["score_click"]
    )
    for value, told in metrics_of_run(tmp_path / "run")["runs"].items():
        assert (told["best_step"], told["best_epoch"]) == (0, 0)
        assert len(history_of(tmp_path / "run" / "scenarios" / value)) == 2, "mix, and one epoch that was no better"


@pytest.mark.parametrize("scope", ["all", "dense_only"])
def test_the_scope_says_whether_tables_move(
    tmp_path: Path, strategy_data: Path, found_aucs: Callable[[float], None], scope: str
) -> None:
    found_aucs(0.01)
    train(
        of_scenarios(toy_config(strategy_data, {"name": "finetune", "scope": scope, "epochs": 1}, epochs=1), HOME),
        tmp_path / "run",
    )
    mix, own = (load_run(tmp_path / "run" / name)[0].state_dict() for name in ("mix", "scenarios/home"))
    moved = {name.split(".")[0] for name, value in own.items() if not torch.equal(value, mix[name])}
    assert moved == ({"sparse", "scorer"} if scope == "all" else {"scorer"})


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data whose scenario search has no training rows, and all of whose validation rows in cart are clicks."""
    table = toy_rows()
    scenario, split, click = (np.array(table[name].to_pylist()) for name in ("scenario", "split", "label_click"))
    click[(scenario == 1) & (split == "valid")] = 1
    table = with_values(table, "label_click", pa.array(click, pa.int8())).filter(
        pa.array((scenario != 2) | (split != "train"))
    )
    return write_prepared(tmp_path_factory.mktemp("lacking") / "data", [table])


def test_single_refuses_a_scenario_that_it_cannot_train(tmp_path: Path, lacking: Path) -> None:
    told = (
        r"scenario 'search' cannot have a model of its own: 0 train .*, \d+ valid, "
        r"\d+ test rows, .* data\.scenarios, or use finetune"
    )
    with pytest.raises(DataError, match=told):
        train(toy_config(lacking, "single"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    metrics, _ = train(of_scenarios(toy_config(lacking, "single", epochs=1), HOME, CART), tmp_path / "run")
    assert metrics["runs"][CART]["best_valid_auc"] is None, (
        "validation rows of one class are judged by the logloss, as in any run"
    )
    with pytest.raises(DataError, match=r"no model for \d+ rows of scenario 'search'; known: home, cart"):
        config = RunConfig.load(tmp_path / "run" / "run.yaml")
        config.model_copy(update={"data": config.data.model_copy(update={"scenarios": None})}).save(
            tmp_path / "run" / "run.yaml"
        )
        evaluated(tmp_path / "run")


def test_finetune_keeps_mix_for_a_scenario_that_it_cannot_train(tmp_path: Path, lacking: Path) -> None:
    metrics, _ = train(toy_config(lacking, "finetune", epochs=1), tmp_path / "run")
    folders = {value: told["folder"] for value, told in metrics["runs"].items()}
    assert folders == {HOME: "scenarios/home", CART: "mix", SEARCH: "mix"}
    assert (
        metrics["runs"][SEARCH]["reason"].startswith("0 train (of weight above 0), ")
        and "all" in metrics["runs"][CART]["reason"]
    )
    assert "scenario search keeps mix: 0 train (of weight above 0), " in (tmp_path / "run" / "log.txt").read_text()
    table, mix = predictions(tmp_path / "run"), predictions(tmp_path / "run" / "mix")
    kept = table["scenario"] != HOME
    np.testing.assert_array_equal(table["score_click"][kept], mix["score_click"][kept])
    np.testing.assert_allclose(
        evaluated(tmp_path / "run")[0]["score_click"].to_numpy(), table["score_click"], atol=1e-6
    )


def test_counts_are_those_of_a_plain_loop(lacking: Path) -> None:
    catalog, config = Catalog.open(lacking), of_scenarios(toy_config(lacking), CART, HOME)
    raw = [row for file in catalog.files for row in pa.parquet.ParquetFile(file.path).read().to_pylist()]
    for part in ("train", "valid", "test"):
        clicks = {
            v: [r["label_click"] for r in raw if r["scenario"] == i and r["split"] == part]
            for i, v in enumerate((HOME, CART))
        }
        expected = {value: (len(found), sum(found)) for value, found in clicks.items()}
        assert scenario_counts(catalog, config.data, part) == expected | {SEARCH: (0, 0)}


def test_rows_of_weight_0_train_no_model(tmp_path: Path) -> None:
    table = toy_rows()
    weights = np.where(table["scenario"].to_numpy() == 2, 0, table["weight"].to_numpy())
    data = write_prepared(tmp_path / "data", [with_values(table, "weight", pa.array(weights, pa.float32()))])
    catalog, config = Catalog.open(data), toy_config(data, "single", epochs=1)
    every, weighed = (scenario_counts(catalog, config.data, "train", weighed=weighed) for weighed in (False, True))
    assert every[SEARCH][0] > 0 and weighed == every | {SEARCH: (0, 0)}
    counts = r"0 train \(of weight above 0\), \d+ valid, \d+ test rows"
    with pytest.raises(DataError, match=f"scenario 'search' cannot have a model of its own: {counts}"):
        train(config, tmp_path / "run")
    metrics, _ = train(toy_config(data, "finetune", epochs=1), tmp_path / "run")
    assert metrics["runs"][SEARCH]["folder"] == "mix"
    assert evaluated(tmp_path / "run", part="train")[1]["scenarios"][SEARCH]["rows"] == every[SEARCH][0], (
        "they are scored as any others"
    )


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "fine_tune"}, "name: input should be 'mix', 'single' or 'finetune', not 'fine_tune'"),
        ({"name": "single", "epochs": 5}, "epochs is an option of finetune, not of single"),
        ({"scope": "dense_only"}, "scope is an option of finetune, not of mix"),
        ({"name": "finetune", "lr_factor": 0}, "lr_factor: input should be greater than 0, not 0"),
        ({"nam": "single"}, "nam: unknown key; did you mean name?"),
    ],
)
def test_options_of_another_strategy_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(StrategyConfig, section, "strategy")
    assert message in str(caught.value)


def test_a_value_becomes_the_name_of_one_folder() -> None:
    values = ["home", "a/b", "a%2Fb", "..", ".", "", "%", "(unseen)", "Über uns", "a:b", "-1"]
    folders = [scenario_folder(value) for value in values]
    assert len(set(folders)) == len(values)
    assert all(Path(folder).parent == Path("scenarios") and not Path(folder).name.startswith(".") for folder in folders)
    assert folders[0] == "scenarios/home" and folders[8] == "scenarios/Über uns"


@pytest.mark.process
def test_two_ranks_come_to_the_same_models(tmp_path: Path, strategy_data: Path, finetune_run: Path) -> None:
    config = toy_config(strategy_data, {"name": "finetune", "lr_factor": 0.3}, batch_size=25)
    done = torchrun("-m", "swrec_prod.cli", "train", run_file(tmp_path, config), "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr[-3000:]
    np.testing.assert_allclose(
        predictions(tmp_path / "run")["score_click"], predictions(finetune_run)["score_click"], atol=1e-4
    )
    for folder in (tmp_path / "run", tmp_path / "run" / "mix"):
        parts = sorted(file.name for file in (folder / "predictions.parquet").iterdir())
        assert parts == ["part-00000.parquet", "part-00001.parquet"], "every rank has written its own"
        table, told = read_predictions(folder / "predictions.parquet"), metrics_of_run(folder)
        assert told["overall"] == pytest.approx(metrics_of(table)["overall"], abs=1e-12)
        assert sorted(table["row"].to_pylist()) == predictions(finetune_run)["row"].tolist()
    one, two = (metrics_of_run(folder) for folder in (finetune_run, tmp_path / "run"))
    assert (one["rows"], one["steps"]) == (two["rows"], two["steps"])
    assert {v: told["best_step"] for v, told in one["runs"].items()} == {
        v: told["best_step"] for v, told in two["runs"].items()
    }
