"""`swrec evaluate PACKAGE`: a package's programs over prepared days say what the run that it was made of says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from commands import refused, succeeds, swrec
from dated_log import data_file, day, prepare_once, write_log
from runs import RATES, arrays

from swrec_prod.config import RunConfig
from swrec_prod.evaluate.predictions import read_predictions
from swrec_prod.train.run import train

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FEATURES = ("item", "author", "city", "cost", "price", "age", "visits", "seen")
TEST_DAYS = f"{day(4)}..{day(5)}"


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """raw/, prepared/ (keeps the session), and for each model run/MODEL and repo/MODEL/1."""
    root = tmp_path_factory.mktemp("way")
    write_log(root / "raw", 5)
    prepare_once(data_file(keep=("session",)), root / "raw", root / "prepared")
    days = {"train": f"..{day(2)}", "valid": str(day(3)), "test": f"{day(4)}.."}
    options = {"epochs": 1, "batch_size": 64, **RATES}
    data = {"path": str(root / "prepared"), "days": days, "features": FEATURES}
    config = {"data": data, "train": options}
    causal = {"debias": {"c": {"home": 0.5, "cart": -1.0, "search": 0.0}}}
    for model, more in {"shared_bottom": {}, "mscan": causal}.items():
        train(RunConfig.model_validate(config | {"model": {"name": model}} | more), root / "run" / model)
        succeeds("export", root / "run" / model, "--to", root / "repo" / model)
    return root


def scored(way: Path, model: str, out: Path, *words: str) -> pa.Table:
    folder = ("--data", way / "prepared", "--days", TEST_DAYS)
    succeeds("evaluate", way / "repo" / model / "1", *folder, "--predictions", out, *words)
    return read_predictions(out)


@pytest.mark.parametrize("model", ["shared_bottom", "mscan"])
def test_a_package_scores_as_its_run_does(way: Path, tmp_path: Path, model: str) -> None:
    found = scored(way, model, tmp_path / "p.parquet")
    expected = read_predictions(way / "run" / model / "predictions.parquet")
    assert found.schema.equals(expected.schema)
    for name, values in arrays(expected).items():
        if name.startswith(("prob_", "score_", "interest_", "scenario_l")):
            np.testing.assert_allclose(found[name].to_numpy(), values, rtol=1e-5, atol=1e-5)
        else:
            assert found[name].equals(expected[name])


def test_a_package_is_judged_as_its_run_is(way: Path) -> None:
    package, folder = way / "repo" / "mscan" / "1", way / "prepared"
    printed = succeeds("evaluate", package, "--data", folder, "--days", TEST_DAYS, "--group-by", "session", "--json")
    of_run = succeeds("evaluate", way / "run" / "mscan", "--group-by", "session", "--json")
    found, expected = json.loads(printed), json.loads(of_run)
    for name in ("auc", "gauc", "ndcg", "logloss", "ece"):
        assert found["overall"][name] == pytest.approx(expected["overall"][name], abs=1e-5)
    assert found["scored_rows"] == 120


def test_a_random_split_has_parts(way: Path, tmp_path: Path) -> None:
    file = data_file(split={"random": {}})
    prepare_once(file, way / "raw", tmp_path / "prepared")
    config = {"data": {"path": str(tmp_path / "prepared"), "split": "random"}, "model": {"name": "shared_bottom"}}
    train(RunConfig.model_validate(config | {"train": {"epochs": 1, "batch_size": 64, **RATES}}), tmp_path / "run")
    succeeds("export", tmp_path / "run", "--to", tmp_path / "repo" / "m")
    words = ("--data", tmp_path / "prepared", "--split", "valid", "--json")
    of_package = json.loads(succeeds("evaluate", tmp_path / "repo" / "m" / "1", *words))
    of_run = json.loads(succeeds("evaluate", tmp_path / "run", "--split", "valid", "--json"))
    assert of_package["overall"]["auc"] == pytest.approx(of_run["overall"]["auc"], abs=1e-5)


def test_what_a_package_does_not_know_is_asked_for(way: Path, tmp_path: Path) -> None:
    package = way / "repo" / "mscan" / "1"
    refused(swrec("evaluate", package), "a package does not know its data; say where they are with --data FOLDER")
    refused(swrec("evaluate", package, "--data", way / "prepared"), "are for test; give --days A..B")
    prepare_once(data_file(fit_until=day(3)), way / "raw", tmp_path / "other")
    words = ("evaluate", package, "--data", tmp_path / "other", "--days", TEST_DAYS)
    refused(swrec(*words), "score the folder that it was trained on, or prepare with that data file")
    less = Path(shutil.copytree(package, tmp_path / "repo" / "mscan" / "1"))
    (less / "score.pt").write_bytes(b"half")
    refused(swrec("evaluate", less, *words[2:4], *words[4:]), "the file is damaged, copy or export again")
