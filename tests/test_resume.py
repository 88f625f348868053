"""Runs that go on: from anywhere, with other ranks, other rates and other budgets; not with other data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import DAYS, config_of, history_of, metrics_of_run, predictions, run_file, torchrun

from swrec_prod.checkpoint import Saver, latest, read_state
from swrec_prod.config import RunConfig
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.run_dir import RunDir
from swrec_prod.train.run import train

pytestmark = pytest.mark.slow  # trains
DROPOUT = {"model": {"name": "shared_bottom", "dropout": 0.3, "norm": "batch"}}

# Trains, and ends as a machine that goes away does: once the checkpoint numbered STOP is whole.
STOPS = """
import os, sys
from pathlib import Path
from swrec_prod.checkpoint import Saver
from swrec_prod.config import RunConfig
from swrec_prod.train.distributed import before_torch

before_torch()
from swrec_prod.train.run import train
save, stop, saved = Saver.save, int(sys.argv[3]), []

def save_and_stop(saver, *args):
    save(saver, *args)
    saved.append(1)
    if len(saved) == stop:
        saver.wait()
        os._exit(0)

Saver.save = save_and_stop
train(RunConfig.load(sys.argv[1]), Path(sys.argv[2]))
"""


class Stopped(Exception):
    """As if the machine went away."""


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunConfig, Path, int], None]:
    """Trains until so many checkpoints are whole."""
    save = Saver.save

    def train_until(config: RunConfig, out: Path, stop: int) -> None:
        saved: list[int] = []

        def save_and_stop(saver: Saver, *args: Any) -> None:
            save(saver, *args)
            saved.append(1)
            if len(saved) == stop:
                saver.wait()
                raise Stopped

        with monkeypatch.context() as patched, pytest.raises(Stopped):
            patched.setattr(Saver, "save", save_and_stop)
            train(config, out)

    return train_until


def often(prepared: Path, more: dict[str, Any] | None = None, **keys: Any) -> RunConfig:
    """Saved every third step, several windows an epoch where it has days."""
    data = {"path": str(prepared), "split": "days", "days": DAYS, "shuffle_rows": 1000}
    return config_of(prepared, more={"data": data, "checkpoint": {"steps": 3}, **(more or {})}, **keys)


@pytest.fixture(scope="module")
def whole(prepared_genre: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never cut off, saved after validations only."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(often(prepared_genre, {**DROPOUT, "checkpoint": {"minutes": 0, "days": False}}), out)
    return out


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_run_goes_on_between_validations_as_if_nothing_had_happened(
    prepared_genre: Path, tmp_path: Path, whole: Path, stop: int, stopping: Callable[..., None]
) -> None:
    config, out = often(prepared_genre, DROPOUT), tmp_path / "run"
    stopping(config, out, stop)
    train(config, out)
    assert history_of(out) == history_of(whole)
    np.testing.assert_array_equal(predictions(out)["score_click"], predictions(whole)["score_click"])
    sessions = json.loads((out / "run_info.json").read_text())["sessions"]
    assert [session["resumed_from"] is None for session in sessions] == [True, False]


def test_the_same_command_on_a_finished_run_says_so(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert train(RunDir(whole).config(), whole) == (metrics_of_run(whole), True)
    assert "finished before, nothing is left to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_what_may_change_does_and_is_recorded(
    prepared_genre: Path, tmp_path: Path, stopping: Callable[..., None]
) -> None:
    out = tmp_path / "run"
    stopping(often(prepared_genre), out, 2)
    changed = often(prepared_genre, epochs=1, lr_dense=0.5, lr_sparse=0.0, batch_size=100, patience=3)
    train(changed, out)
    session = RunDir(out).info().sessions[-1]  # type: ignore[union-attr]
    assert session.rows_a_step == 100 and session.resumed_from == "step-00000006"
    assert set(session.changed) == {
        "train.epochs 2 -> 1", "train.lr_dense 0.003 -> 0.5", "train.lr_sparse 0.1 -> 0.0", "train.patience 9 -> 3",
        "train.batch_size 256 -> 100",
    }  # fmt: skip
    written = RunDir(out).config().train
    assert (written.epochs, written.batch_size, written.lr_dense) == (1, 100, 0.5) and len(history_of(out)) == 1
    assert "changed since: train.lr_dense 0.003 -> 0.5" in (out / "log.txt").read_text()


def test_rates_are_those_of_the_run_file_after_a_resume(
    prepared_genre: Path, tmp_path: Path, stopping: Callable[..., None]
) -> None:
    """With rates of next to nothing, nothing moves any more."""
    config = often(prepared_genre, epochs=1)
    stopping(config, tmp_path / "run", 2)
    from ranks import tensors_of

    saved = tensors_of(config, tmp_path / "run" / "checkpoints" / "step-00000006")
    train(often(prepared_genre, epochs=1, lr_sparse=0.0, lr_dense=1e-30), tmp_path / "run")
    end = latest(tmp_path / "run" / "checkpoints")
    assert end is not None
    weights = {name: value for name, value in tensors_of(config, end).items() if name.startswith("/model")}
    assert weights and all(np.allclose(value, saved[name], atol=1e-7) for name, value in weights.items())


@pytest.mark.parametrize(
    ("keys", "named"),
    [({"seed": 2}, r"train\.seed \(1, now 2\)"), ({"weight_decay": 0.5}, r"train\.weight_decay \(0\.0, now 0\.5\)")],
)
def test_what_may_not_change_is_named(
    prepared_genre: Path, tmp_path: Path, stopping: Callable[..., None], keys: dict[str, Any], named: str
) -> None:
    stopping(often(prepared_genre), tmp_path / "run", 1)
    with pytest.raises(ConfigError, match=f"another {named}; choose another --out.*what may change .*train.epochs"):
        train(often(prepared_genre, **keys), tmp_path / "run")


def late_file(data: Path, day: str) -> None:
    """Another file in a prepared day, as a late raw file would bring."""
    from swrec_prod.data.manifest import DayFileRecord, FileRecord, read_manifest

    first = next(file for file in read_manifest(data).files if str(file.day) == day)
    late = data / f"day={day}" / "part-00009.parquet"
    late.write_bytes((data / first.path).read_bytes())
    manifest = read_manifest(data)
    record = dict(FileRecord.of(data, late))
    manifest.files.append(DayFileRecord(**{**first.model_dump(), **record}))
    (data / "manifest.json").write_text(json.dumps(manifest.to_json()))


@pytest.mark.parametrize(("day", "part"), [("2000-12-01", "train"), ("2000-12-03", "valid")])
def test_a_late_file_in_a_day_that_a_run_uses_is_refused_by_name(
    prepared_genre: Path, tmp_path: Path, stopping: Callable[..., None], day: str, part: str
) -> None:
    import shutil

    data = Path(shutil.copytree(prepared_genre, tmp_path / "data"))
    stopping(often(data), tmp_path / "run", 2)
    late_file(data, day)
    with pytest.raises(
        DataError, match=rf"{day} \({part}\) had .* rows in 1 file\(s\) .* and has .* in 2 file\(s\) now"
    ):
        train(often(data), tmp_path / "run")


@pytest.mark.process
def test_two_ranks_then_one_then_three_train_what_one_does(
    prepared_genre: Path, tmp_path: Path, stopping: Callable[..., None]
) -> None:
    """By a seed of which no weight has a gradient that is zero but for rounding: Adam makes a whole step of one."""
    out, (two, whole) = tmp_path / "run", (often(prepared_genre, batch_size=size, seed=2) for size in (126, 252))
    (tmp_path / "stops.py").write_text(STOPS)
    file = run_file(tmp_path, two)
    assert (done := torchrun(tmp_path / "stops.py", file, out, 2)).returncode == 0, done.stderr[-2000:]
    assert not (out / "history.jsonl").exists() or history_of(out) == []
    stopping(two, out, 3)
    done = torchrun("-m", "swrec_prod.cli", "train", file, "--out", out, ranks=3)
    assert done.returncode == 0, done.stderr[-2000:]
    sessions = RunDir(out).info().sessions  # type: ignore[union-attr]
    assert [(session.ranks, session.rows_a_step) for session in sessions] == [(2, 252), (1, 252), (3, 252)]
    train(whole, tmp_path / "whole")
    ends = [latest(run / "checkpoints") for run in (out, tmp_path / "whole")]
    assert all(ends) and len({read_state(end)["fit"]["step"] for end in ends if end}) == 1
    for name in ("score_click", "row"):
        np.testing.assert_allclose(predictions(out)[name], predictions(tmp_path / "whole")[name], atol=2e-5)
