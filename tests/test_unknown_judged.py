"""Unknown values in judged rows: the shares are the manifest's, and rows with an unknown id are judged apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_folder import SCHEMA, rows_table, write_prepared
from sklearn.metrics import roc_auc_score

from swrec_prod.config import DataConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.decode import Piece
from swrec_prod.data.familiar import TrainingRows
from swrec_prod.data.manifest import ALL, MANIFEST
from swrec_prod.evaluate.models import Predicted
from swrec_prod.evaluate.predictions import predictions_table
from swrec_prod.evaluate.run import judge_predicted
from swrec_prod.evaluate.unknown import cold_grid, cold_note, unknown_grid, unknown_note

ROWS = 400
DAYS = {"train": "2024-01-01", "valid": "2024-01-02", "test": "2024-01-03..2024-01-04"}
COUNTED = {"home": (100, 40), "cart": (60, 0)}  # values and unknown ones of `movie`, on each of the test days


@pytest.fixture
def tables() -> list[pa.Table]:
    return [by_days(ROWS, i) for i in range(4)]


def by_days(rows: int, number: int) -> pa.Table:
    """The rows of a day."""
    return rows_table(rows, rows * number).drop_columns(["split"])


@pytest.fixture
def folder(tmp_path: Path, tables: list[pa.Table]) -> Path:
    out = write_prepared(tmp_path / "data", tables)
    plain = json.loads((out / MANIFEST).read_text())
    for record in list(plain["days"].values())[2:]:
        movie = {name: {"values": n, "unknown": unknown, "missing": 0} for name, (n, unknown) in COUNTED.items()}
        record["values"] = {ALL: {"rows": {"home": 100, "cart": 60}, "features": {"movie": movie, "genres": {}}}}
    (out / MANIFEST).write_text(json.dumps(plain))
    return out


def judged(folder: Path, tables: list[pa.Table], **more: Any) -> tuple[dict[str, Any], pa.Table, np.ndarray]:
    """What is said of the test rows, with drawn scores; the rows, and their labels and scores."""
    rows = pa.concat_tables(tables[2:]).sort_by([("row", "descending")])
    logits = np.random.default_rng(1).normal(size=(len(rows), 1)).astype(np.float32)
    names = pa.array(SCHEMA.scenario.values)
    table = predictions_table(
        row=rows["row"].to_numpy(),
        day=["2024-01-03"] * len(rows),
        user=[f"u{i % 30}" for i in range(len(rows))],
        scenario=names.take(rows["scenario"].combine_chunks()),
        labels_NT=rows["label_click"].to_numpy()[:, None],
        logit_NT=logits,
        tasks=("click",),
    )
    data = DataConfig.model_validate({"path": str(folder), "days": DAYS, **more})
    catalog = Catalog.open(folder)
    scored = Predicted(table, [Piece(file, file.rows) for file in catalog.files_of(data, "test")], 0.0)
    return judge_predicted([scored], catalog, data, "test"), rows, logits[:, 0]


def test_shares_are_those_of_the_judged_days_and_scenarios(folder: Path, tables: list[pa.Table]) -> None:
    values = judged(folder, tables)[0]["unknown"]["values"]
    assert values == {"movie": {"overall": 40 / 160, "scenarios": {"home": 0.4, "cart": 0.0}}}
    assert judged(folder, tables, scenarios=["cart"])[0]["unknown"]["values"] == {}


def test_rows_with_an_unknown_item_or_user_are_judged_apart(folder: Path, tables: list[pa.Table]) -> None:
    said, rows, logits = judged(folder, tables)
    assert list(said["unknown"]["rows"]) == ["movie", "person"]
    labels = rows["label_click"].to_numpy()
    for name, halves in said["unknown"]["rows"].items():
        unknown = rows[name].to_numpy() == 0
        for half, of in (("unknown", unknown), ("known", ~unknown)):
            assert halves[half]["rows"] == of.sum() > 0
            assert halves[half]["auc"] == pytest.approx(roc_auc_score(labels[of], logits[of]), abs=1e-12)
    assert list(judged(folder, tables, features=["movie", "age"])[0]["unknown"]["rows"]) == ["movie"]


@pytest.mark.parametrize("movie", [0, 3])
def test_where_all_rows_are_unknown_or_none_is_there_is_nothing_to_compare(tmp_path: Path, movie: int) -> None:
    ids = pa.array(np.full(200, movie), pa.int32())
    tables = [by_days(200, i).drop_columns(["movie"]).append_column("movie", ids) for i in range(4)]
    assert list(judged(write_prepared(tmp_path / "data", tables), tables)[0]["unknown"]["rows"]) == ["person"]


def test_rows_of_rare_items_and_users_are_judged_apart_and_novelty_is_of_training_counts(
    folder: Path, tables: list[pa.Table]
) -> None:
    counts = np.arange(20) * 3
    (folder / "vocab").mkdir()
    pq.write_table(pa.table({"id": np.arange(1, 20), "count": counts[1:]}), folder / "vocab" / "movie.parquet")
    said, rows, logits = judged(folder, tables)
    movies, labels = rows["movie"].to_numpy(), rows["label_click"].to_numpy()
    assert list(said["cold"]) == ["movie", "person"] and said["cold_below"] == 10
    for half, of in (("cold", movies < 4), ("warm", movies >= 4)):  # 0 is unknown, 3 is in 9 training rows
        assert said["cold"]["movie"][half]["rows"] == of.sum() > 0
        assert said["cold"]["movie"][half]["auc"] == pytest.approx(roc_auc_score(labels[of], logits[of]), abs=1e-12)
    assert_cold_by_scenario(said, rows, logits, movies < 4)
    assert "rows whose movie is in fewer than 10 training rows" in cold_note(said)
    assert "person" not in cold_note(said) and cold_note({}) == "", "its cold ones are the unknown ones"
    training = TrainingRows(Catalog.open(folder), SCHEMA)
    files = {file.path.relative_to(folder): None for file in Catalog.open(folder).files[2:]}
    familiar = training.knew(files, rows["row"].to_numpy())
    np.testing.assert_array_equal(familiar.times["movie"], counts[movies])
    assert familiar.bits is not None
    np.testing.assert_allclose(familiar.bits, -np.log2((counts[movies] + 1) / (counts.sum() + 1)))


def assert_cold_by_scenario(said: dict[str, Any], rows: pa.Table, logits: np.ndarray, cold: np.ndarray) -> None:
    labels, codes = rows["label_click"].to_numpy(), rows["scenario"].to_numpy()
    grid = cold_grid(said)
    assert grid is not None
    shown = {tuple(line[:2]): line[2:] for line in grid.rows}
    for code, name in enumerate(SCHEMA.scenario.values or ()):
        for half, of in (("cold", cold & (codes == code)), ("warm", ~cold & (codes == code))):
            wanted = roc_auc_score(labels[of], logits[of])
            assert said["cold"]["movie"]["scenarios"][name][half]["auc"] == pytest.approx(wanted, abs=1e-12)
            assert f"{wanted:.4f}" in shown["movie", name]


def test_a_note_and_a_table_say_it(folder: Path, tables: list[pa.Table]) -> None:
    said = judged(folder, tables)[0]
    note, halves = unknown_note(said).splitlines(), said["unknown"]["rows"]["movie"]
    assert note[0] == "Unknown values: movie 25\u202f%."
    assert f"AUC {halves['unknown']['auc']:.4f} on the" in note[1] and "unknown movie" in note[1]
    grid = unknown_grid(said)
    assert grid is not None and grid.rows == [["movie", "25\u202f%", "40\u202f%", "0\u202f%"]]
    assert unknown_note({}) == "" and unknown_grid({}) is None


def test_folders_of_before_say_how_rows_are_ranked_only(tmp_path: Path, tables: list[pa.Table]) -> None:
    said = judged(write_prepared(tmp_path / "old", tables), tables)[0]["unknown"]
    assert said["values"] == {} and list(said["rows"]) == ["movie", "person"]
