"""A backfill of a package finds what its run finds, and knows through which day it was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import refused, succeeds, swrec
from dated_log import data_file, day, prepare_once, write_log
from runs import RATES

from swrec_prod.config import RunConfig
from swrec_prod.export.package import Manifest
from swrec_prod.train.run import train

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SPAN = f"{day(4)}..{day(5)}"


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """prepared/, run, and its package repo/model/1."""
    root = tmp_path_factory.mktemp("way")
    write_log(root / "raw", 5)
    prepare_once(data_file(), root / "raw", root / "prepared")
    days = {"train": f"..{day(2)}", "valid": str(day(3)), "test": f"{day(4)}.."}
    data = {"path": str(root / "prepared"), "days": days, "features": ("item", "city", "price", "age")}
    config = {"data": data, "model": {"name": "shared_bottom"}, "train": {"epochs": 1, "batch_size": 64, **RATES}}
    train(RunConfig.model_validate(config), root / "run")
    succeeds("export", root / "run", "--to", root / "repo" / "model")
    return root


def test_a_package_is_judged_as_its_run_is(way: Path, tmp_path: Path) -> None:
    package = way / "repo" / "model" / "1"
    printed = succeeds("backfill", way / "run", package, "--days", SPAN, "--out", tmp_path / "out", "--json")
    of_run, of_package = json.loads(printed)["models"]
    assert (of_package["name"], of_package["kind"]) == ("model-1", "package")
    for one, other in zip(of_run["days"], of_package["days"], strict=True):
        assert other["trained_through"] == one["trained_through"] == str(day(3))
        assert other["unknown_values"] == one["unknown_values"] and other["unknown_values"]["item"] > 0
        for expected, found in zip(one["figures"], other["figures"], strict=True):
            assert found["unknown"] == expected["unknown"]
            known = {name: value for name, value in expected["metrics"].items() if value is not None}
            assert {name: found["metrics"][name] for name in known} == pytest.approx(known, abs=1e-4)
    assert all(contrast["value"] == pytest.approx(0, abs=1e-3) for contrast in json.loads(printed)["differences"])


def test_a_package_alone_needs_to_be_told_its_data(way: Path, tmp_path: Path) -> None:
    words = ("--days", SPAN, "--out", tmp_path / "out")
    refused(swrec("backfill", way / "repo" / "model" / "1", *words), "a package does not know its data")


def test_a_package_is_not_judged_on_days_that_it_has_seen(way: Path, tmp_path: Path) -> None:
    words = ("--data", way / "prepared", "--days", f"{day(3)}..", "--out", tmp_path / "out")
    refused(swrec("backfill", way / "repo" / "model" / "1", *words), f"its weights know the days up to {day(3)}")


def test_a_package_that_does_not_say_is_judged_with_a_warning(
    way: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = way / "repo" / "model" / "1"
    earlier = json.loads((package / "manifest.json").read_text()) | {"trained_through": None}
    monkeypatch.setattr("swrec_prod.judge.leaks.verify_package", lambda _: Manifest.model_validate(earlier))
    words = ("--data", way / "prepared", "--days", SPAN, "--out", tmp_path / "out", "--json")
    outcome = swrec("backfill", package, *words)
    assert outcome.code == 0 and "does not say through which day it was trained" in outcome.err
    assert json.loads(outcome.out)["models"][0]["days"][0]["trained_through"] is None


def test_days_that_the_encoders_have_seen_are_refused(way: Path, tmp_path: Path, monkeypatch) -> None:
    package = way / "repo" / "model" / "1"
    earlier = json.loads((package / "manifest.json").read_text()) | {"trained_through": None}
    monkeypatch.setattr("swrec_prod.judge.leaks.verify_package", lambda _: Manifest.model_validate(earlier))
    words = ("--data", way / "prepared", "--days", f"{day(2)}..", "--out", tmp_path / "out")
    outcome = swrec("backfill", package, *words)
    assert outcome.code == 2 and f"vocabularies and scalers were fitted on days up to {day(2)}" in outcome.err
