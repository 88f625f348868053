"""When a run is saved, and what stays of it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from prepared_folder import days_of_sizes
from runs import config_of

from swrec_prod.checkpoint import prune
from swrec_prod.checkpoint_config import CheckpointConfig
from swrec_prod.config import DataConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.reader import Reader
from swrec_prod.ranker import resolve_run
from swrec_prod.train.distributed import Ranks
from swrec_prod.train.due import Due
from swrec_prod.train.loop import FitState

SIZES = (300, 500, 400, 100)
STEP = 50  # rows
ALONE = Ranks(0, 1, 1, torch.device("cpu"))


class Clock:
    """A minute a step."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return Catalog.open(days_of_sizes(tmp_path_factory.mktemp("days") / "data", SIZES, row_group=100))


def reader_of(catalog: Catalog, shuffle_rows: int) -> Reader:
    config = config_of(catalog.root)
    data = DataConfig(path=str(catalog.root), split="random", shuffle_rows=shuffle_rows)
    return Reader(catalog, resolve_run(catalog.schema, config).layout, "train", data, STEP, shuffle=True)


def saved_at(config: CheckpointConfig, reader: Reader, epochs: int = 2) -> list[int]:
    """The steps after which a run of so many epochs is saved, a step taking a minute."""
    clock, state, found = Clock(), FitState(), []
    due = Due(config, reader, ALONE, clock)
    for state.epoch in range(epochs):
        state.epoch_rows = 0
        while state.epoch_rows < reader.rows:
            rows = min(STEP, reader.rows - state.epoch_rows)
            state.step, state.epoch_rows, clock.now = state.step + 1, state.epoch_rows + rows, clock.now + 60
            if state.epoch_rows < reader.rows and due.now(state, rows):
                found.append(state.step)
    return found


def test_every_so_many_steps(catalog: Catalog) -> None:
    assert saved_at(CheckpointConfig(steps=4, minutes=0, days=False), reader_of(catalog, 10_000), 1) == [4, 8, 12]


def test_every_so_many_minutes_as_often_as_the_clock_is_looked_at(catalog: Catalog) -> None:
    reader = reader_of(catalog, 10_000)
    assert saved_at(CheckpointConfig(minutes=10, days=False), reader, 4) == [20, 40, 60]
    assert saved_at(CheckpointConfig(minutes=30, days=False), reader, 4) == [40]
    assert saved_at(CheckpointConfig(minutes=0, days=False), reader, 4) == []


def test_when_days_are_over(catalog: Catalog) -> None:
    reader = reader_of(catalog, 200)
    for epoch in range(3):
        ends = reader.day_ends(epoch)
        assert ends == sorted(set(ends)) and all(0 < end < reader.rows for end in ends), "its end is a validation's"
    ends = reader.day_ends(0)
    assert len(ends) >= 2
    expected = sorted({-(-end // STEP) for end in ends} - {-(-reader.rows // STEP)})
    assert saved_at(CheckpointConfig(minutes=0), reader, 1) == expected
    assert saved_at(CheckpointConfig(minutes=0, days=False), reader, 1) == []
    assert saved_at(CheckpointConfig(minutes=10_000), reader, 1) == [], "not after a moment"


def test_a_day_is_over_with_the_last_window_that_holds_rows_of_it(catalog: Catalog) -> None:
    """Against the rows that are read."""
    reader, day_of = reader_of(catalog, 200), {}
    for file in catalog.files:
        day_of.update(dict.fromkeys(pq.read_table(file.path, columns=["row"])["row"].to_pylist(), file.day))
    for epoch in range(2):
        order = [row for batch in reader.epoch(epoch) for row in batch.row_B.tolist()]
        ends, last = reader.day_ends(epoch), {day_of[row]: at for at, row in enumerate(order)}
        assert 2 <= len(ends) < len(last)
        for before, end in zip([0, *ends], ends, strict=False):
            assert any(before <= at < end for at in last.values()), "the last row of a day came since the end before"


def whole(folder: Path, step: int, best: int) -> Path:
    path = folder / f"step-{step:08d}"
    path.mkdir()
    (path / "state.json").write_text(json.dumps({"fit": {"best_step": best}}))
    return path


def test_the_latest_and_the_best_stay_and_what_was_best_for_each_of_the_latest(tmp_path: Path) -> None:
    for step, best in ((10, 10), (20, 10), (30, 10), (40, 40)):
        whole(tmp_path, step, best)
    (tmp_path / ".writing-step-00000050").mkdir()
    (tmp_path / "damaged-step-00000005").mkdir()
    prune(tmp_path, 2, [40])
    steps = [f"step-{step:08d}" for step in (10, 30, 40)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged-step-00000005", *steps]
    prune(tmp_path, 1, [40])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged-step-00000005", "step-00000040"]


def test_the_best_validations_are_known_by_their_figures() -> None:
    aucs = {10: 0.7, 20: 0.8, 30: 0.75, 40: 0.6}
    state = FitState(best_step=20, history=[{"step": step, "valid_auc": auc} for step, auc in aucs.items()])
    assert set(state.best_steps(1)) == {20} and set(state.best_steps(3)) == {20, 30, 10}
    losses = {10: 0.7, 20: 0.4, 30: 0.5}
    state = FitState(best_step=20, history=[{"step": step, "valid_logloss": loss} for step, loss in losses.items()])
    assert set(state.best_steps(2)) == {20, 30}
