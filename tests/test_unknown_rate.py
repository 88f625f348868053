"""train.unknown_rate: what `auto` decides, what is refused, and that a run's own run.yaml says what was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from prepared_folder import SCHEMA, rows_table, write_prepared

from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.manifest import ALL, MANIFEST
from swrec_prod.errors import ConfigError
from swrec_prod.run_dir import RunDir
from swrec_prod.schema import FeatureSchema
from swrec_prod.strict import parse
from swrec_prod.train.unknown_rate import AUTO, described, with_unknown_rate

DAYS = {"train": "2024-01-01", "valid": "2024-01-02", "test": "2024-01-03.."}
ROWS = 100


def folder(tmp_path: Path, unknown: dict[str, tuple[int, int, int]] | None, dealt: bool = False) -> Path:
    """Three days of 100 rows, or three parts of each of them; unknown: so many values of a feature in each."""
    out = write_prepared(tmp_path / "data", [rows_table(ROWS, ROWS * i) for i in range(3)])
    plain = json.loads((out / MANIFEST).read_text())
    for i, record in enumerate(plain["days"].values() if unknown is not None else ()):
        assert unknown is not None
        parts = {"train": 0, "valid": 1, "test": 2} if dealt else {ALL: i}
        record["values"] = {part: part_values(unknown, at) for part, at in parts.items()}
    (out / MANIFEST).write_text(json.dumps(plain))
    return out


def part_values(unknown: dict[str, tuple[int, int, int]], at: int) -> dict[str, Any]:
    """All of it in one scenario; a bag is never left out."""
    counts = {"genres": (0, 0, 0), **unknown}
    features = {f: {"home": {"values": ROWS, "unknown": n[at], "missing": 0}} for f, n in counts.items()}
    return {"rows": {"home": ROWS}, "features": features}


def run_of(data: Path, rate: Any = "auto", **more: Any) -> RunConfig:
    where = {"path": str(data), "days": DAYS} | more
    return parse(RunConfig, {"data": where, "model": {"name": "dnn"}, "train": {"unknown_rate": rate}}, "run.yaml")


def rate_of(config: RunConfig) -> Any:
    return with_unknown_rate(config).train.unknown_rate


@pytest.mark.parametrize(
    ("movie", "chosen"),
    [
        ((0, 50, 50), True),
        ((0, 5, 5), True),
        ((0, 4, 4), False),
        ((0, 10, 0), True),
        ((1, 50, 50), False),
        ((0, 0, 0), False),
    ],
)
def test_auto_is_on_where_judged_rows_alone_have_unknown_values(
    tmp_path: Path, movie: tuple[int, int, int], chosen: bool
) -> None:
    for dealt in (False, True):
        data = folder(tmp_path / str(dealt), {"movie": movie}, dealt)
        more = {"split": "random", "days": None} if dealt else {}
        assert rate_of(run_of(data, **more)) == ({"movie": AUTO} if chosen else 0)


def test_auto_looks_at_the_features_scenarios_and_days_of_the_run(tmp_path: Path) -> None:
    data = folder(tmp_path, {"movie": (0, 50, 50), "genres": (0, 0, 50), "person": (0, 9, 0)})
    assert rate_of(run_of(data)) == {"movie": AUTO, "genres": AUTO}
    assert rate_of(run_of(data, features=("person", "age"))) == 0
    assert rate_of(run_of(data, scenarios=("cart",))) == 0
    seen = {"train": "2024-01-01..2024-01-02", "valid": "2024-01-03", "test": "2024-01-04.."}
    assert rate_of(run_of(data, days=seen)) == {"genres": AUTO}


def test_auto_is_off_where_nothing_was_counted(tmp_path: Path) -> None:
    assert rate_of(run_of(folder(tmp_path, None))) == 0


def test_one_number_is_for_features_with_a_vocabulary_and_a_mapping_for_those_that_it_names(tmp_path: Path) -> None:
    data = folder(tmp_path, None)
    assert rate_of(run_of(data, 0.1)) == {"person": 0.1, "movie": 0.1, "genres": 0.1}
    assert rate_of(run_of(data, {"movie": 0.2, "person": 0})) == {"movie": 0.2}
    assert rate_of(run_of(data, 0)) == rate_of(run_of(data, {"movie": 0})) == 0


def test_one_number_leaves_hashed_ids_which_are_never_unknown(tmp_path: Path) -> None:
    plain = SCHEMA.model_dump(mode="json")
    plain["features"][0]["encoder"] = {"kind": "hash", "buckets": 49}
    tables = [rows_table(ROWS, ROWS * i) for i in range(3)]
    data = write_prepared(tmp_path / "data", tables, schema=FeatureSchema.model_validate(plain))
    assert rate_of(run_of(data, 0.1)) == {"movie": 0.1, "genres": 0.1}
    assert rate_of(run_of(data, {"person": 0.1})) == {"person": 0.1}


@pytest.mark.parametrize("wrong", [1, -0.1, True, "often", {"movie": 2}, [0.1]])
def test_what_is_no_share_is_refused_in_a_line(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml: train\.unknown_rate: .*expected a share") as caught:
        run_of(tmp_path, wrong)
    assert "\n" not in str(caught.value)


def test_a_feature_without_ids_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    data = folder(tmp_path, None)
    for wrong in ("age", "history", "movies"):
        with pytest.raises(ConfigError, match=rf"train\.unknown_rate: '{wrong}' is no id or bag feature"):
            rate_of(run_of(data, {wrong: 0.1}))
    with pytest.raises(ConfigError, match="'genres' is no id or bag feature"):
        rate_of(run_of(data, {"genres": 0.1}, features=("movie", "age")))


def test_the_log_says_what_was_decided_and_on_what(tmp_path: Path) -> None:
    data = folder(tmp_path, {"movie": (0, 50, 25)})
    said = described(with_unknown_rate(run_of(data)), Catalog.open(data))
    assert f"movie {AUTO:g}" in said and "37.5% of what is judged" in said and "0.0% of training" in said
    assert described(with_unknown_rate(run_of(data, 0)), Catalog.open(data)) == ""


def test_a_run_of_before_had_no_rate(tmp_path: Path) -> None:
    run = run_of(folder(tmp_path, {"movie": (0, 50, 50)}))
    for keys, expected in (({"unknown_rate": {"movie": 0.1}}, {"movie": 0.1}), ({}, 0)):
        plain = run.model_dump(mode="json")
        del plain["train"]["unknown_rate"]
        plain["train"] |= keys
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(plain))
        assert RunDir(tmp_path).config().train.unknown_rate == expected
