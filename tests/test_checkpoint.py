"""Checkpoints: whole or not there, read back exactly without ranks, and refused where they do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import fit_of, flat
from runs import config_of, evaluated, metrics_of_run, predictions

from swrec_prod.checkpoint import keep_only, latest, load_run, load_weights, parts, read_state, restore, save
from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import CheckpointError, SwrecError
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
from swrec_prod.ranker import build_ranker, resolve_run
from swrec_prod.train.distributed import process_group
from swrec_prod.train.loop import FitState
from swrec_prod.train.run import train


@pytest.fixture(scope="module")
def finished(prepared_genre: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "mscan"
    train(config_of(prepared_genre, "mscan", epochs=1), run)
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "mscan"))


def checkpoint_in(run: Path) -> Path:
    found = latest(run / "checkpoints")
    assert found is not None
    return found


@pytest.mark.parametrize("part", [parts.PART, 100])
def test_weights_saved_from_shards_are_read_without_ranks(
    part: int, prepared_genre: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART", part)
    config, catalog = config_of(prepared_genre, "mscan"), Catalog.open(prepared_genre)
    with process_group(1) as ranks:
        fit = fit_of(catalog, config, ranks, FitState())
        for batch, _ in zip(fit.train.epoch(0), range(3), strict=False):
            fit.step(batch)
        path = save(tmp_path, 3, fit.model, fit.optimizer, {"any": 1})
        shards = {
            n: v.local_shards()[0].tensor if hasattr(v, "local_shards") else v
            for n, v in fit.model.state_dict().items()
        }
        trained = {name: value.clone() for name, value in shards.items()}
        again = fit_of(catalog, config, ranks, FitState())
        restore(path, again.model, again.optimizer)
        before, after = (dict(flat("", f.optimizer.state_dict()["state"])) for f in (fit, again))
        assert before.keys() == after.keys() and all(torch.equal(after[name], before[name]) for name in before)
    ranker = build_ranker(resolve_run(catalog.schema, config))
    load_weights(path, ranker)
    assert ranker.state_dict().keys() == trained.keys()
    assert all(torch.equal(value, trained[name]) for name, value in ranker.state_dict().items())
    assert read_state(path) == {"any": 1, "checksums": "crc32"}


def test_a_checkpoint_tells_where_the_tables_were(tmp_path: Path, prepared_genre: Path) -> None:
    train(config_of(prepared_genre, epochs=1, replicate_kib=0), tmp_path / "run")
    plan = read_state(checkpoint_in(tmp_path / "run"))["plan"]
    assert all(word in plan for word in ("sparse.ebc", "t_movie_id", "fused", "rank:0"))


def test_a_run_is_loaded_with_its_best_weights_ready_to_score(run: Path) -> None:
    ranker, config, catalog = load_run(run)
    assert not ranker.training and config == RunConfig.load(run / "run.yaml") and catalog.root == Path(config.data.path)
    best = metrics_of_run(run)["best_step"]
    again = build_ranker(resolve_run(catalog.schema, config))
    load_weights(run / "checkpoints" / f"step-{best:08d}", again)
    assert all(torch.equal(value, ranker.state_dict()[name]) for name, value in again.state_dict().items())


def test_a_checkpoint_that_was_never_committed_is_not_seen(tmp_path: Path) -> None:
    for name in ("step-00000020", "step-00000003", ".writing-step-00000099"):
        (tmp_path / name).mkdir()
    assert latest(tmp_path) == tmp_path / "step-00000020"
    keep_only(tmp_path, tmp_path / "step-00000003")
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]
    assert latest(tmp_path / "nowhere") is None


@pytest.mark.engine
def test_data_prepared_otherwise_are_refused(tmp_path: Path, raw_movielens: Path) -> None:
    data, config_path = tmp_path / "data", DataFile.load("movielens_1m_genre")
    prepare(config_path, raw_movielens, data)
    config = config_of(data, epochs=1)
    train(config, tmp_path / "run")
    shutil.rmtree(data)
    prepare(config_path, raw_movielens, data)
    assert evaluated(tmp_path / "run")[0]["row"].to_pylist() == predictions(tmp_path / "run")["row"].tolist(), (
        "the same data fit"
    )
    shutil.rmtree(data)
    # other days make other vocabularies
    prepare(config_path.model_copy(update={"fit_until": None}), raw_movielens, data)
    with pytest.raises(CheckpointError, match=r"trained before .* was prepared otherwise \(fingerprint .*, now .*\)"):
        evaluated(tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(CheckpointError, match="was prepared otherwise"):
        train(config, tmp_path / "run")


def change_model(run: Path, **options: Any) -> None:
    config = RunConfig.load(run / "run.yaml")
    config.model_copy(update={"model": config.model.model_copy(update=options)}).save(run / "run.yaml")


def cut_short(run: Path) -> None:
    tensors = next(checkpoint_in(run).glob("*.distcp"))
    tensors.write_bytes(tensors.read_bytes()[:100])


DAMAGES = {
    "no run.yaml": (lambda run: (run / "run.yaml").unlink(), "not a run directory: no run.yaml; `swrec train"),
    "no checkpoint": (lambda run: shutil.rmtree(run / "checkpoints"), "no checkpoint yet; run swrec train again"),
    "no state": (lambda run: (checkpoint_in(run) / "state.json").unlink(), "no checkpoint here"),
    "half a state": (
        lambda run: (checkpoint_in(run) / "state.json").write_text('{"fit": {"st'),
        r"state\.json: damaged",
    ),
    "no tensors": (
        lambda run: next(checkpoint_in(run).glob("*.distcp")).unlink(),
        r"damaged: .*distcp: No such file.*; copy it again",
    ),
    "half the tensors": (cut_short, "damaged: .*; copy it again, or train again with --overwrite"),
    "no metadata": (lambda run: (checkpoint_in(run) / ".metadata").unlink(), "damaged: "),
    "another width": (lambda run: change_model(run, gru=64), "does not fit this model: Size mismatch"),
    "another part": (lambda run: change_model(run, use_saca=False), "does not fit this model"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_told_in_one_line(run: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(run)
    with pytest.raises(SwrecError, match=message) as failure:
        load_run(run)
    assert isinstance(failure.value, CheckpointError) and "\n" not in str(failure.value)
    assert str(run) in str(failure.value)


def test_state_survives_as_json(tmp_path: Path) -> None:
    state = FitState(step=7, epoch=1, best_value=0.71, history=[{"step": 7, "valid_auc": 0.71}])
    assert FitState(**json.loads(json.dumps(state.to_json()))) == state
    fresh = FitState(**json.loads(json.dumps(FitState().to_json())))
    assert np.isneginf(fresh.best_value), "before the first validation nothing is best, also after a resume"
