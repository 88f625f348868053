"""Two real processes train what one does: the same steps, the same weights, each other's checkpoints; and fail together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import tensors_of, train_epochs
from runs import config_of, run_file, torchrun

from swrec_prod.checkpoint import latest, read_state
from swrec_prod.config import RunConfig
from swrec_prod.train.distributed import gather_rows, process_group

MODELS = ("shared_bottom", "mscan")
RANKS_PY = Path(__file__).with_name("ranks.py")

# The second rank fails after two batches, as with a damaged file of its own.
FAILS_ON_ONE_RANK = """
import os
from swrec_prod.cli import main
from swrec_prod.data.reader import Reader
from swrec_prod.errors import DataError

def batch(self, window, picked, position, make=Reader._batch):
    if os.environ["RANK"] == "1" and position.rows > 1000:
        raise DataError("day=2000-11-25/part-00000.parquet: 7 bytes, expected 9")
    return make(self, window, picked, position)

Reader._batch = batch
main()
"""


def config_for(prepared: Path, model: str, ranks: int) -> RunConfig:
    """The same batches whatever the ranks: 500 rows a step at most, which the ranks share unevenly (227 and 226).

    Every table is placed on a rank for shared_bottom; for mscan the smaller ones are on both.
    """
    return config_of(prepared, model, batch_size=500 // ranks, replicate_kib={"shared_bottom": 0, "mscan": 2}[model])


@pytest.fixture(scope="module")
def trained(prepared_genre: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER/MODEL/ one, two: two epochs by so many ranks; one_two, two_one: the second epoch by the others."""
    folder, jobs = tmp_path_factory.mktemp("ranks"), []
    for model in MODELS:
        config = config_for(prepared_genre, model, 1)
        with process_group(1) as ranks:
            train_epochs(config, ranks, folder / model / "one", epochs=2)
        first = min((folder / model / "one").iterdir())
        twice = config_for(prepared_genre, model, 2).model_dump(mode="json", exclude_unset=True)
        jobs.append({"config": twice, "begin": None, "epochs": 2, "out": str(folder / model / "two")})
        jobs.append({"config": twice, "begin": str(first), "epochs": 1, "out": str(folder / model / "one_two")})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = torchrun(RANKS_PY, folder / "jobs.json")
    assert done.returncode == 0, done.stderr[-3000:]
    for model in MODELS:
        first = min((folder / model / "two").iterdir())
        with process_group(1) as ranks:
            train_epochs(config_for(prepared_genre, model, 1), ranks, folder / model / "two_one", first)
    return folder


def end_of(folder: Path) -> Path:
    found = latest(folder)
    assert found is not None
    return found


def fit_state(folder: Path) -> dict[str, Any]:
    return read_state(end_of(folder))["fit"]


def test_the_tables_were_really_spread_over_the_ranks(trained: Path) -> None:
    for model in MODELS:
        assert len(list(end_of(trained / model / "two").glob("__1_*.distcp"))) > 0
        assert not list(end_of(trained / model / "one").glob("__1_*.distcp"))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("other", ["two", "one_two", "two_one"])
def test_any_ranks_come_to_the_same_weights_and_optimiser_state(trained: Path, prepared_genre: Path, model: str, other: str) -> None:
    config = config_for(prepared_genre, model, 1)
    expected, found = (tensors_of(config, end_of(trained / model / name)) for name in ("one", other))
    assert expected.keys() == found.keys()
    states = {"exp_avg_sq", "momentum1"} | ({"sum"} if model == "mscan" else set())
    assert all(any(state in name for name in expected) for state in states), sorted(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_replicated_tables_learn_as_placed_ones_do(prepared_genre: Path, tmp_path: Path) -> None:
    weights = []
    for kib in (0, 1024):
        config = config_of(prepared_genre, "shared_bottom", replicate_kib=kib)
        with process_group(1) as ranks:
            train_epochs(config, ranks, tmp_path / str(kib))
        weights.append({k: v for k, v in tensors_of(config, end_of(tmp_path / str(kib))).items() if k.startswith("/model/")})
    placed, replicated = weights
    assert {name.removesuffix("/0") for name in placed} == set(replicated)
    for name, tensor in placed.items():
        torch.testing.assert_close(
            replicated[name.removesuffix("/0")], tensor, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("model", MODELS)
def test_any_ranks_validate_alike(trained: Path, model: str) -> None:
    expected = fit_state(trained / model / "one")
    assert (expected["step"], expected["epoch"], expected["rows"]) == (16, 2, 2 * 3622)
    for other in ("two", "one_two", "two_one"):
        found = fit_state(trained / model / other)
        assert all(found[name] == expected[name] for name in ("step", "epoch", "rows", "best_step")), other
        for one, two in zip(expected["history"], found["history"], strict=True):
            assert two["valid_auc"] == pytest.approx(one["valid_auc"], abs=1e-3)  # a near tie of two rows may turn
            assert two["valid_logloss"] == pytest.approx(one["valid_logloss"], abs=1e-5)


def test_an_error_of_one_rank_ends_all_of_them(prepared_genre: Path, tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(FAILS_ON_ONE_RANK)
    file = run_file(tmp_path, config_of(prepared_genre, batch_size=250))
    ended = torchrun(tmp_path / "fails.py", "train", file, "--out", tmp_path / "run", timeout=60)  # gloo alone waits for half an hour
    assert ended.returncode == 1
    lines = [line for line in ended.stderr.splitlines() if line.startswith("DataError: ")]
    assert lines == ["DataError: day=2000-11-25/part-00000.parquet: 7 bytes, expected 9"]
    assert "exitcode  : 2 " in ended.stderr, "torchrun names the exit code of what the user can mend"
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_one_process_is_a_group_of_its_own() -> None:
    with process_group(1) as ranks:
        assert (ranks.rank, ranks.world_size, ranks.is_main) == (0, 1, True)
        rows = {"row": torch.arange(3).numpy()}
        assert gather_rows(rows, ranks) is rows
