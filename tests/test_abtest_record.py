"""experiment.json: what is written is what is read, and what is not one is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_experiment import EXPERIMENT

from swrec_prod.abtest.record import experiment_of
from swrec_prod.errors import DataError


def test_the_record_is_what_its_file_says(tmp_path: Path) -> None:
    EXPERIMENT.write(tmp_path / "experiment.json")
    assert experiment_of(json.loads((tmp_path / "experiment.json").read_text())) == EXPERIMENT


def test_another_json_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"^x\.json: no experiment of format 1: name: "):
        experiment_of({"auc": 0.7}, "x.json")
