"""A training run as a user sees it: what it leaves, what it learns, and that cutting it off changes nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_folder import rows_table, write_prepared
from runs import DAYS, arrays, config_of, evaluated, history_of, metrics_of_run, predictions, process, run_file
from sklearn.metrics import log_loss, roc_auc_score

from swrec_prod.config import RunConfig
from swrec_prod.data.decode import Decoder
from swrec_prod.errors import CheckpointError, ConfigError, MetricError
from swrec_prod.run_dir import RunDir
from swrec_prod.train.folder import check_free, claim
from swrec_prod.train.loop import Fit
from swrec_prod.train.run import train

pytestmark = pytest.mark.slow  # trains

# Ends itself as a killed machine would, while the tensors of its third checkpoint are written but not yet committed.
KILLED = """
import os, signal, sys
from pathlib import Path
from swrec_prod.checkpoint import writing
from swrec_prod.config import RunConfig
from swrec_prod.train.run import train

save, saved = writing.dcp.save, []

def save_and_die(*args, **options):
    save(*args, **options)
    saved.append(1)
    if len(saved) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

writing.dcp.save = save_and_die
train(RunConfig.load(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module", params=["shared_bottom", "mscan"])
def run(
    request: pytest.FixtureRequest, prepared_age: Path, prepared_genre: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run: shared_bottom over the random split, mscan over the days, two validations an epoch."""
    prepared = prepared_age if request.param == "shared_bottom" else prepared_genre
    out = tmp_path_factory.mktemp("runs") / request.param
    train(config_of(prepared, request.param, evals_per_epoch=2), out)
    return out


def fit(tmp_path: Path, prepared: Path, name: str = "run", **train_keys: Any) -> Path:
    train(config_of(prepared, **train_keys), tmp_path / name)
    return tmp_path / name


def test_a_run_leaves_what_the_next_stage_reads(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "run.yaml", "run_info.json", "checkpoints", "history.jsonl", "metrics.json", "predictions.parquet",
        "tensorboard", "log.txt",
    }  # fmt: skip
    assert RunConfig.load(run / "run.yaml").train.epochs == 2
    assert list((run / "tensorboard").iterdir())
    history = history_of(run)
    assert [record["epoch"] for record in history] == [0, 1, 1, 2], "two validations an epoch, the second at its end"
    metrics = metrics_of_run(run)
    kept = {f"step-{step:08d}" for step in (metrics["best_step"], history[-2]["step"], metrics["steps"])}
    assert {path.name for path in (run / "checkpoints").iterdir()} == kept, "the best and the two last ones are kept"
    assert "best so far" in (run / "log.txt").read_text()


def test_a_run_learns_what_is_in_the_data(run: Path) -> None:
    assert metrics_of_run(run)["overall"]["auc"] > 0.7  # guessing is 0.5; the tiny data hold 0.75 to 0.85


def test_the_metrics_are_those_of_the_predictions(run: Path) -> None:
    table, metrics = predictions(run), metrics_of_run(run)
    labels, probabilities, scenarios = table["label_click"], table["prob_click"].astype(float), table["scenario"]
    assert set(metrics["scenarios"]) == set(scenarios)
    for scenario, told in [(None, metrics["overall"]), *metrics["scenarios"].items()]:
        part = np.full(len(labels), True) if scenario is None else scenarios == scenario
        assert (told["rows"], told["positives"]) == (part.sum(), labels[part].sum())
        assert told["auc"] == pytest.approx(roc_auc_score(labels[part], probabilities[part]), abs=1e-9)
        assert told["logloss"] == pytest.approx(log_loss(labels[part], probabilities[part]), abs=1e-6)
    assert metrics["macro"]["auc"] == pytest.approx(np.mean([m["auc"] for m in metrics["scenarios"].values()]))


def test_every_test_row_is_predicted_once(run: Path) -> None:
    data, wanted = RunConfig.load(run / "run.yaml").data, []
    for file in sorted(Path(data.path).glob("day=*/*.parquet")):
        if data.split == "random":
            split = arrays(pq.read_table(file, columns=["row", "split"], partitioning=None))
            wanted += split["row"][split["split"] == "test"].tolist()
        elif file.parent.name >= "day=2000-12-04":
            wanted += pq.read_table(file, columns=["row"], partitioning=None)["row"].to_pylist()
    assert predictions(run)["row"].tolist() == sorted(wanted)


def test_evaluate_scores_as_the_run_did(run: Path) -> None:
    table, metrics = evaluated(run)
    again, then = arrays(table), predictions(run)
    assert again.keys() == then.keys()
    for name, values in then.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(again[name], values, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(again[name], values, err_msg=name)
    assert metrics["overall"]["auc"] == pytest.approx(metrics_of_run(run)["overall"]["auc"], abs=1e-9)


def test_evaluate_judges_other_rows_where_asked(run: Path) -> None:
    best = max(history_of(run), key=lambda record: record["valid_auc"])
    assert evaluated(run, part="valid")[1]["overall"]["auc"] == pytest.approx(best["valid_auc"], abs=1e-6)
    table, metrics = evaluated(run, days="2000-12-03..2000-12-04")
    assert set(table["day"].to_pylist()) == {"2000-12-03", "2000-12-04"}
    assert metrics["scored_rows"] == metrics["overall"]["rows"] == len(table)
    assert "rows_per_second" not in metrics, "in a run's metrics.json that is the speed of training"


@pytest.fixture
def found_aucs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the validations of a run find the given values, one after the other, instead of their own."""

    def find(*values: float) -> None:
        left = iter(values)
        monkeypatch.setattr(Fit, "validate", lambda fit: {"valid_auc": next(left), "valid_logloss": 0.5})

    return find


def test_the_best_weights_are_restored_though_later_ones_are_worse(
    tmp_path: Path, prepared_age: Path, found_aucs: Callable[..., None]
) -> None:
    found_aucs(0.6, 0.8, 0.7, 0.75)
    run = fit(tmp_path, prepared_age, "four", epochs=4)
    metrics = metrics_of_run(run)
    assert (metrics["best_valid_auc"], metrics["best_epoch"], metrics["best_step"], metrics["steps"]) == (
        0.8,
        2,
        26,
        52,
    )
    found_aucs(0.6, 0.8)
    np.testing.assert_array_equal(
        predictions(fit(tmp_path, prepared_age, "two", epochs=2))["score_click"], predictions(run)["score_click"]
    )
    np.testing.assert_allclose(evaluated(run)[0]["score_click"].to_numpy(), predictions(run)["score_click"], atol=1e-6)


@pytest.mark.parametrize(("patience", "validations"), [(1, 3), (2, 6), (3, 7), (9, 8)])
def test_patience_ends_a_run_that_no_longer_gets_better(
    tmp_path: Path, prepared_age: Path, found_aucs: Callable[..., None], patience: int, validations: int
) -> None:
    found = (0.6, 0.7, 0.6, 0.8, 0.7, 0.8, 0.7, 0.6)  # no better than 0.8 is no better
    found_aucs(*found)
    run = fit(tmp_path, prepared_age, epochs=4, evals_per_epoch=2, patience=patience)
    assert [record["valid_auc"] for record in history_of(run)] == list(found[:validations])
    assert ("stopping early" in (run / "log.txt").read_text()) == (validations < 8)


def test_a_seed_decides_the_whole_history(tmp_path: Path, prepared_age: Path) -> None:
    one, same, other = (fit(tmp_path, prepared_age, f"{i}", epochs=1, seed=seed) for i, seed in enumerate((5, 5, 6)))
    assert history_of(one) == history_of(same)
    np.testing.assert_array_equal(predictions(one)["score_click"], predictions(same)["score_click"])
    assert history_of(one) != history_of(other)


@pytest.mark.process
@pytest.mark.parametrize("name", ["mscan", "shared_bottom"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, prepared_genre: Path, name: str) -> None:
    options = {"mscan": {"dropout": 0.3}, "shared_bottom": {"dropout": 0.3, "norm": "batch", "tower_norm": "batch"}}
    # several windows an epoch
    data = {"path": str(prepared_genre), "split": "days", "days": DAYS, "shuffle_rows": 1000}
    config = config_of(prepared_genre, more={"data": data, "model": {"name": name, **options[name]}}, evals_per_epoch=4)
    file, out, whole = run_file(tmp_path, config), tmp_path / "run", tmp_path / "whole"
    assert process("-c", KILLED, file, out).returncode == -signal.SIGKILL
    assert len(history_of(out)) in (2, 3) and not (out / "metrics.json").exists(), "it may be ahead of the checkpoint"
    train(config, out)
    train(config, whole)
    assert len(history_of(whole)) == 8 and history_of(out) == history_of(whole)
    np.testing.assert_array_equal(predictions(out)["score_click"], predictions(whole)["score_click"])
    assert "resuming from step-" in (out / "log.txt").read_text()
    assert not list((out / "checkpoints").glob(".writing-*")), "what the killed process left is swept away"


def test_a_run_judged_on_rows_of_one_class_goes_by_the_logloss(tmp_path: Path) -> None:
    table = rows_table(600)
    judged = np.array(table["split"].to_pylist()) == "valid"
    for name in ("label_click", "label_buy"):
        labels = np.where(judged, 0, table[name].to_numpy())
        table = table.set_column(table.column_names.index(name), name, pa.array(labels, pa.int8()))
    write_prepared(tmp_path / "data", [table.append_column("user", pa.array(["u"] * 600))])
    run = fit(tmp_path, tmp_path / "data", batch_size=64)
    metrics, found = metrics_of_run(run), [record["valid_logloss"] for record in history_of(run)]
    assert metrics["best_valid_auc"] is None and metrics["best_valid_logloss"] == min(found)
    assert metrics["best_epoch"] == found.index(min(found)) + 1


def test_a_finished_run_is_replaced_only_where_asked(tmp_path: Path, prepared_age: Path) -> None:
    run = fit(tmp_path, prepared_age, epochs=1)
    before = (run / "metrics.json").read_text()
    with pytest.raises(ConfigError, match=r"holds a finished run with another train\.epochs \(1, now 2\)"):
        train(config_of(prepared_age, epochs=2), run)
    assert train(config_of(prepared_age, epochs=1), run) == (metrics_of_run(run), True), "nothing is left to do"
    assert (run / "metrics.json").read_text() == before
    train(config_of(prepared_age, epochs=2), run, overwrite=True)
    assert len(history_of(run)) == 2


def test_a_refused_overwrite_keeps_the_old_run(tmp_path: Path, prepared_age: Path) -> None:
    run = fit(tmp_path, prepared_age, epochs=1)
    wrong = config_of(prepared_age, more={"model": {"name": "shared_bottom", "bottm": [4]}})
    with pytest.raises(ConfigError, match="did you mean bottom"):
        train(wrong, run, overwrite=True)
    assert (run / "metrics.json").exists() and evaluated(run)


def test_an_unfinished_run_of_another_configuration_is_refused(tmp_path: Path, prepared_age: Path) -> None:
    run = fit(tmp_path, prepared_age, epochs=1)
    (run / "metrics.json").unlink()
    with pytest.raises(ConfigError, match=r"another train\.seed \(1, now 2\); choose another --out, .* may change"):
        train(config_of(prepared_age, epochs=1, seed=2), run)
    train(config_of(prepared_age, epochs=1), run)
    assert (run / "metrics.json").exists()


def test_a_run_whose_c_is_to_be_fitted_goes_on_wherever_it_was_cut_off(
    tmp_path: Path, prepared_age: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config_of(prepared_age, more={"debias": {"c": "fit"}}, epochs=1)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("swrec_prod.train.run.fit_c", _stop)
        train(asked, tmp_path / "run")
    with pytest.raises(
        CheckpointError, match="c is not fitted yet; run swrec train again, it goes on where it stopped"
    ):
        evaluated(tmp_path / "run")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RunDir, "write_metrics", _stop)
        train(asked, tmp_path / "run")
    fitted = RunConfig.load(tmp_path / "run" / "run.yaml")
    assert fitted.debias is not None and not fitted.debias.to_fit
    with pytest.raises(ConfigError, match=r"another debias\.alpha \(0\.1, now 0\.5\)"):
        train(config_of(prepared_age, more={"debias": {"c": "fit", "alpha": 0.5}}, epochs=1), tmp_path / "run")
    train(asked, tmp_path / "run")
    assert RunConfig.load(tmp_path / "run" / "run.yaml") == fitted
    np.testing.assert_allclose(
        evaluated(tmp_path / "run")[0]["score_click"].to_numpy(),
        predictions(tmp_path / "run")["score_click"],
        atol=1e-6,
    )


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_run_yaml_is_whole_or_as_it_was(tmp_path: Path, prepared_age: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save_half(config: RunConfig, path: Path) -> None:
        path.write_text("data: {pa")
        raise KeyboardInterrupt

    config, folder = config_of(prepared_age), RunDir(tmp_path / "run")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RunConfig, "save", save_half)
        claim(folder, config, overwrite=False)
    check_free(folder, config, overwrite=False)  # the half that was written is in nobody's way
    claim(folder, config, overwrite=False)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RunConfig, "save", save_half)
        folder.write_config(config)
    assert RunConfig.load(tmp_path / "run" / "run.yaml") == config


def test_a_folder_that_is_no_run_is_never_touched(tmp_path: Path, prepared_age: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="is not empty and holds no run"):
            train(config_of(prepared_age), tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_that_diverges_says_so_and_may_be_started_again(tmp_path: Path, prepared_age: Path) -> None:
    with pytest.raises(MetricError, match=r"diverged before step 13: loss inf; lower train\.lr_dense \(1e\+30\)"):
        fit(tmp_path, prepared_age, lr_dense=1e30)
    assert history_of(fit(tmp_path, prepared_age, epochs=1)), "without a checkpoint there is nothing to protect"


def test_only_the_features_asked_for_are_read(
    tmp_path: Path, prepared_age: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    columns = Decoder.__init__

    def watched(self: Decoder, record: Any, *rest: Any) -> None:
        read.extend(record.layout.columns)
        columns(self, record, *rest)

    monkeypatch.setattr(Decoder, "__init__", watched)
    data = {"path": str(prepared_age), "split": "random", "features": ["user_id", "movie_id"]}
    train(config_of(prepared_age, more={"data": data}, epochs=1), tmp_path / "run")
    assert set(read) == {"user_id", "movie_id"}
    assert evaluated(tmp_path / "run")[1]["overall"]["auc"] > 0.55


@pytest.mark.parametrize("model", ["shared_bottom", "mscan"])
def test_several_tasks_are_learnt_together(tmp_path: Path, model: str) -> None:
    table = rows_table(1200, seed=3)
    person = table["person"].to_numpy()
    columns = {"label_click": person % 2, "label_buy": person // 2 % 2}  # each user clicks or buys always, or never
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.int8()))
    write_prepared(tmp_path / "data", [table.append_column("user", pa.array([f"u{p}" for p in person]))])
    train(config_of(tmp_path / "data", model, epochs=10, batch_size=64), tmp_path / "run")
    judged = predictions(tmp_path / "run")
    for task in ("click", "buy"):
        assert roc_auc_score(judged[f"label_{task}"], judged[f"prob_{task}"]) > 0.9
    assert set(metrics_of_run(tmp_path / "run")["tasks"]) == {"click", "buy"}
