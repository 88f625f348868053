"""Rows are scored, written and judged a window at a time, by models that are loaded once: it changes no figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_folder import SCHEMA, days_of_sizes, rows_table, write_prepared
from runs import config_of, evaluated

from swrec_prod.config import DataConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.reader import Reader
from swrec_prod.errors import DataError
from swrec_prod.evaluate.judging import Judging, metrics_of
from swrec_prod.evaluate.models import Models, groups_of
from swrec_prod.evaluate.predictions import read_predictions
from swrec_prod.evaluate.run import judge, judge_days
from swrec_prod.schema.layout import Layout
from swrec_prod.train.run import train

TEST_DAYS = ("2000-12-04", "2000-12-05")
SCORES = ["prob_click", "score_click"]


@pytest.fixture(scope="module")
def run(prepared_genre: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("windows") / "run"
    train(config_of(prepared_genre, epochs=1), out)
    return out


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The runs that were loaded."""
    from swrec_prod.checkpoint import load_run

    loaded: list[Path] = []

    def noted(path: Path, data: Path, load: Callable = load_run):
        loaded.append(path)
        return load(path, data)

    monkeypatch.setattr("swrec_prod.evaluate.models.load_run", noted)
    return loaded


def known_of(metrics: dict[str, Any]) -> dict[str, Any]:
    """The overall figures without novelty, which is of counts of training rows, and of no predictions."""
    return {name: value for name, value in metrics["overall"].items() if name != "novelty"}


def test_many_windows_are_judged_as_one(run: Path, tmp_path: Path) -> None:
    table, expected = evaluated(run, part="train")
    models = Models(run)
    rows = models.rows.model_copy(update={"shuffle_rows": 400})
    windows = [window.table for window in models.predictions(rows, "train")]
    assert len(windows) > 3 and max(map(len, windows)) < len(table) / 2, "nobody holds all rows"
    found = judge(models, rows, "train", predictions=tmp_path / "p.parquet")
    read = read_predictions(tmp_path / "p.parquet")
    assert read.equals(pa.concat_tables(windows))
    read = read.sort_by("row")
    assert read.drop_columns(SCORES).equals(table.drop_columns(SCORES))
    np.testing.assert_allclose(read["score_click"], table["score_click"], atol=1e-6)  # other batches, other rounding
    assert found["overall"] == pytest.approx(expected["overall"], abs=1e-5)
    assert known_of(found) == pytest.approx(metrics_of(read)["overall"], abs=1e-12)
    assert found["scored_rows"] == expected["scored_rows"] == len(table) and expected["peak_memory_gb"] > 0


def test_a_model_is_loaded_once_for_many_days(run: Path, loads: list[Path], tmp_path: Path) -> None:
    models = Models(run)
    days = {day: judge_days(models, day, predictions=tmp_path / f"{day}.parquet") for day in TEST_DAYS}
    assert loads == [run]
    together = judge_days(models, "..".join(TEST_DAYS))
    assert sum(of["overall"]["rows"] for of in days.values()) == together["overall"]["rows"]
    for day, metrics in days.items():
        table = read_predictions(tmp_path / f"{day}.parquet")
        assert set(table["day"].to_pylist()) == {day}
        assert known_of(metrics) == metrics_of(table)["overall"]
    whole = models.table(models.rows, "test")
    assert whole["row"].to_pylist() == sorted(whole["row"].to_pylist()) and len(whole) == together["scored_rows"]
    assert judge(models, models.rows, "test")["overall"] == together["overall"]


def test_what_cannot_be_judged_is_said_before_anything_is_scored(run: Path, loads: list[Path]) -> None:
    models = Models(run)
    with pytest.raises(DataError, match="no column 'usr' to group rows by; did you mean user"):
        judge(models, models.rows, "test", judging=Judging(group_by="usr"))
    with pytest.raises(DataError, match=r"no day in data\.days\.train 2030-01-01"):
        judge_days(models, "2030-01-01")
    assert loads == []


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("limit", [150, 10_000])
def test_sections_say_where_the_rows_of_each_window_lie(tmp_path: Path, world_size: int, limit: int) -> None:
    catalog = Catalog.open(days_of_sizes(tmp_path / "data", [220, 90, 310], row_group=60))
    assert rows_by_sections(catalog, world_size, limit, "random") == sorted(rows_of(catalog, split="test"))


@pytest.mark.parametrize("world_size", [1, 2])
def test_sections_of_whole_days_name_the_row_groups_of_their_rows_alone(tmp_path: Path, world_size: int) -> None:
    tables = [rows_table(n, 1000 * i).drop_columns(["split"]) for i, n in enumerate((50, 240, 120))]
    catalog = Catalog.open(write_prepared(tmp_path / "data", tables, row_group=40))
    assert rows_by_sections(catalog, world_size, 100, "days") == sorted(rows_of(catalog)[50:])
    reader = reader_of(catalog, 0, world_size, 100, "days")
    groups = [piece.groups for section in reader.sections() for piece in section.pieces]
    assert world_size == 1 or len(groups) < 9, "and none of the other rank's"


def rows_by_sections(catalog: Catalog, world_size: int, limit: int, split: str) -> list[int]:
    """The rows of all ranks, each looked for where its section says that it lies."""
    found = []
    for rank in range(world_size):
        reader = reader_of(catalog, rank, world_size, limit, split)
        batches = [(batch.position.rows, batch.row_B.tolist()) for batch in reader.epoch(0)]
        start = 0
        for stop, pieces in reader.sections():
            rows = {row for end, rows in batches if start < end <= stop for row in rows}
            assert rows and rows <= set(stored(catalog, groups_of(catalog, pieces)))
            found += rows
            start = stop
        assert start == reader.rows
    return sorted(found)


def reader_of(catalog: Catalog, rank: int, world_size: int, limit: int, split: str) -> Reader:
    days = {"train": "2023-12-31", "valid": "2024-01-01", "test": "2024-01-02.."}
    data = {
        "path": str(catalog.root),
        "split": split,
        "shuffle_rows": limit,
        **({"days": days} if split == "days" else {}),
    }
    layout = Layout.of(SCHEMA.select(()), history=False)
    config = DataConfig.model_validate(data)
    return Reader(catalog, layout, "test", config, 16, shuffle=False, rank=rank, world_size=world_size)


def stored(catalog: Catalog, groups: dict[Path, list[int] | None]) -> list[int]:
    """The row ids in some row groups."""
    rows: list[int] = []
    for path, numbers in groups.items():
        with pq.ParquetFile(catalog.root / path) as file:
            chosen = range(file.num_row_groups) if numbers is None else numbers
            assert len(set(chosen)) == len(list(chosen))
            rows += file.read_row_groups(list(chosen), columns=["row"])["row"].to_pylist()
    return rows


def rows_of(catalog: Catalog, split: str | None = None) -> list[int]:
    """Row ids of all files, or of a part of the split column."""
    tables = [pq.read_table(file.path, partitioning=None) for file in catalog.files]
    rows = [row for table in tables for row in table.to_pylist()]
    return [row["row"] for row in rows if split is None or row["split"] == split]
