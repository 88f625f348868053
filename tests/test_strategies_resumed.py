"""Runs that begin where others ended: strategies that were cut off, and weights of another run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepared_folder import SCHEMA
from runs import evaluated, history_of, metrics_of_run, predictions
from strategy_runs import CART, of_scenarios, toy_config

from swrec_prod.checkpoint import Saver
from swrec_prod.config import DebiasConfig, RunConfig
from swrec_prod.errors import CheckpointError, ConfigError
from swrec_prod.train.run import train

pytestmark = pytest.mark.slow  # trains several runs


class Stopped(Exception):
    """As if the machine went away."""


@pytest.mark.parametrize(("name", "saves"), [("single", 5), ("finetune", 2), ("finetune", 9)])
def test_a_strategy_that_was_cut_off_goes_on_as_if_nothing_had_happened(
    tmp_path: Path,
    strategy_data: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    saves: int,
) -> None:
    whole, out, saved, save = request.getfixturevalue(f"{name}_run"), tmp_path / "run", [], Saver.save

    def save_and_stop(*args: Any) -> None:
        if len(saved) == saves:
            raise Stopped
        saved.append(1)
        save(*args)

    config = RunConfig.load(whole / "run.yaml")
    monkeypatch.setattr(Saver, "save", save_and_stop)
    with pytest.raises(Stopped):
        train(config, out)
    monkeypatch.setattr(Saver, "save", save)
    finished = {path: path.stat().st_mtime_ns for path in out.glob("*/**/metrics.json")}
    assert len(finished) == (0 if saves == 2 else 1 if name == "single" else 2) and not (out / "metrics.json").exists()
    with pytest.raises(CheckpointError, match="training has not finished"):
        evaluated(out)
    train(config, out)
    assert all(path.stat().st_mtime_ns == then for path, then in finished.items()), (
        "what was finished is not trained again"
    )
    np.testing.assert_array_equal(predictions(out)["score_click"], predictions(whole)["score_click"])
    assert metrics_of_run(out)["runs"] == metrics_of_run(whole)["runs"]


def test_a_strategy_that_was_cut_off_goes_on_after_its_folder_was_moved(
    tmp_path: Path, strategy_data: Path, finetune_run: Path
) -> None:
    out = Path(shutil.copytree(finetune_run, tmp_path / "elsewhere"))
    for unfinished in (out, out / "scenarios" / CART):
        (unfinished / "metrics.json").unlink()
    train(RunConfig.load(finetune_run / "run.yaml"), out)
    np.testing.assert_array_equal(predictions(out)["score_click"], predictions(finetune_run)["score_click"])
    assert RunConfig.load(out / "scenarios" / CART / "run.yaml").train.begin == str(out / "mix")


def test_an_unfinished_strategy_of_another_configuration_is_refused(
    tmp_path: Path, strategy_data: Path, finetune_run: Path
) -> None:
    out = Path(shutil.copytree(finetune_run, tmp_path / "run"))
    with pytest.raises(ConfigError, match="holds a finished run"):
        train(toy_config(strategy_data, "single"), out)
    (out / "metrics.json").unlink()
    with pytest.raises(ConfigError, match=r"another strategy\.name \('finetune', now 'single'\)"):
        train(toy_config(strategy_data, "single"), out)
    wrong = toy_config(strategy_data, "single").model_copy(
        update={"model": toy_config(strategy_data).model.model_copy(update={"hiden": [4]})}
    )
    with pytest.raises(ConfigError, match="did you mean hidden"):
        train(wrong, out, overwrite=True)
    assert (out / "scenarios").exists(), "a refused overwrite keeps the old run"
    train(of_scenarios(toy_config(strategy_data, "single", epochs=1), CART), out, overwrite=True)
    assert [path.name for path in (out / "scenarios").iterdir()] == [CART] and not (out / "mix").exists()


def test_a_run_may_begin_with_the_weights_of_another(tmp_path: Path, strategy_data: Path, finetune_run: Path) -> None:
    begun = toy_config(strategy_data, begin=str(finetune_run / "mix"), epochs=1)
    train(begun, tmp_path / "run")
    mix = metrics_of_run(finetune_run / "mix")
    assert history_of(tmp_path / "run")[0]["valid_auc"] == pytest.approx(mix["best_valid_auc"], abs=1e-6)


def with_debias(data: Path, form: str | None, **train_keys: Any) -> RunConfig:
    return toy_config(data, **train_keys).model_copy(update={"debias": DebiasConfig(form=form) if form else None})


@pytest.mark.parametrize(("theirs", "ours"), [("joint", None), ("apart", "joint"), (None, "apart")])
def test_weights_of_another_form_of_eliminator_are_refused(
    tmp_path: Path, strategy_data: Path, theirs: str | None, ours: str | None
) -> None:
    train(with_debias(strategy_data, theirs, epochs=1), tmp_path / "theirs")
    with pytest.raises(
        ConfigError, match=rf"train\.begin: .*theirs has another debias.* \(.*{theirs}.*, now .*{ours}.*\); its weights"
    ):
        train(with_debias(strategy_data, ours, begin=str(tmp_path / "theirs")), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(with_debias(strategy_data, theirs, begin=str(tmp_path / "theirs"), epochs=1), tmp_path / "run")


def test_weights_that_mean_something_else_are_refused(tmp_path: Path, strategy_data: Path, finetune_run: Path) -> None:
    begun = toy_config(strategy_data, begin=str(finetune_run / "mix"), epochs=1)
    features = begun.data.model_copy(update={"features": ("person", "movie", "age")})
    for other, message in [
        (
            begun.model_copy(update={"model": begun.model.model_copy(update={"hidden": [32]})}),
            r"model\.hidden \(\[16, 8\], now \[32\]\)",
        ),
        (
            begun.model_copy(update={"data": features}),
            r"data\.features \(\['person', .* now \['person', 'movie', 'age'\]\)",
        ),
    ]:
        with pytest.raises(ConfigError, match=message):
            train(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    every = tuple(reversed([feature.name for feature in SCHEMA.features]))
    train(begun.model_copy(update={"data": begun.data.model_copy(update={"features": every})}), tmp_path / "run")


def test_what_is_not_one_run_cannot_be_begun_with(
    tmp_path: Path, strategy_data: Path, single_run: Path, finetune_run: Path
) -> None:
    for begin, message in [
        (tmp_path / "nowhere", "nowhere: not a run directory: no such folder"),
        (finetune_run / "mix" / "run.yaml", "run.yaml: not a run directory: it is a file"),
        (finetune_run / "scenarios", "scenarios: not a run directory: no run.yaml"),
        (
            finetune_run,
            f"has a model for every scenario; name {finetune_run}/mix, or one of {finetune_run}/scenarios/*",
        ),
        (single_run, f"has a model for every scenario; name one of {single_run}/scenarios/*"),
    ]:
        with pytest.raises(ConfigError, match="train.begin: .*" + re.escape(message)):
            train(toy_config(strategy_data, begin=str(begin)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
