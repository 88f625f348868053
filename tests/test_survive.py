"""Ranks that are killed, told to leave, or fail: what the run does, with real processes."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_ranks import KILLED_SCRIPT, launched, trained
from ranks import tensors_of
from runs import config_of, history_of, metrics_of_run, run_file, until

from swrec_prod.checkpoint import latest, read_state
from swrec_prod.config import RunConfig
from swrec_prod.errors import CheckpointError, DataError, MetricError
from swrec_prod.files import locked
from swrec_prod.run_dir import RunDir
from swrec_prod.train.loop import Fit
from swrec_prod.train.run import train

STEP = Fit.step
pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def config(prepared_genre: Path) -> RunConfig:
    """32 steps in two epochs, saved every third."""
    more = {"checkpoint": {"steps": 3}, "model": {"name": "shared_bottom", "dropout": 0.1}}
    return config_of(prepared_genre, more=more, batch_size=120, replicate_kib=0)


def test_ranks_killed_twice_end_with_the_weights_of_a_run_left_alone(config: RunConfig, tmp_path: Path) -> None:
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    for folder in (whole, killed):
        folder.mkdir()
    run = run_file(tmp_path, config)
    expected = trained(whole, run, ranks=2)
    found = trained(killed, run, ranks=2, lives=["7:1", "5:0.1"])
    assert (killed / "said.txt").read_text().count("resuming from") == 2
    assert history_of(found) == history_of(expected)
    ends = [latest(path / "checkpoints") for path in (expected, found)]
    assert ends[0] and ends[1] and ends[0].name == ends[1].name
    one, other = (tensors_of(config, end) for end in ends if end)
    assert one.keys() == other.keys() and len(one) > 10
    for name, tensor in one.items():
        assert torch.equal(other[name], tensor), name


def test_an_error_under_our_torchrun_is_one_line_and_the_ranks_own_exit_code(tmp_path: Path) -> None:
    command = ("-m", "swrec_prod.cli", "train", tmp_path / "none.yaml", "--out", tmp_path / "run")
    assert launched(tmp_path, 2, 0, *command).wait(100) == 2
    said = (tmp_path / "said.txt").read_text()
    assert "none.yaml: no such file" in said and "Traceback" not in said
    assert "ended first: exit code 2" in said


def test_ranks_of_which_one_is_told_to_leave_save_and_say_that_they_go_on(config: RunConfig, tmp_path: Path) -> None:
    """SIGTERM before the fifth step of the main rank; no save is due there."""
    longer = config.model_copy(update={"checkpoint": config.checkpoint.model_copy(update={"steps": 0})})
    script = tmp_path / "leaves.py"
    script.write_text(KILLED_SCRIPT.replace("SIGKILL", "SIGTERM"))
    words = (script, "5:0", "train", run_file(tmp_path, longer), "--out", tmp_path / "run")
    assert launched(tmp_path, 2, 0, *words).wait(100) == 75
    [saved] = (tmp_path / "run" / "checkpoints").glob("step-*")
    said = (tmp_path / "said.txt").read_text()
    assert f"saved at step {int(saved.name[5:])}" in said and "run the same command again" in said
    assert read_state(saved)["fit"]["rows"] > 0


def test_a_rank_that_is_stopped_is_named(config: RunConfig, tmp_path: Path) -> None:
    train = config.train.model_copy(update={"hang_minutes": 0.05})
    run, script = run_file(tmp_path, config.model_copy(update={"train": train})), tmp_path / "stops.py"
    script.write_text(KILLED_SCRIPT.replace("SIGKILL", "SIGSTOP"))
    process = launched(tmp_path, 2, 0, script, "5:1", "train", run, "--out", tmp_path / "run")
    said = tmp_path / "said.txt"
    line = until(lambda: [line for line in said.read_text().splitlines() if "no sign of life" in line], "it is named")
    assert "no sign of life of rank 1 (" in line[0] and "for 3 s" in line[0]
    os.kill(int(line[0].partition("process ")[2].partition(")")[0]), signal.SIGKILL)
    assert process.wait(100) == 75


def test_two_runs_on_one_folder_refuse_clearly(config: RunConfig, tmp_path: Path) -> None:
    with locked(tmp_path / ".run.training", "taken"), pytest.raises(DataError, match="another run is at work there"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_line_with_the_path(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunDir, "write_history", full)
    with pytest.raises(CheckpointError, match=r"run: No space left on device; make room"):
        train(config, tmp_path / "run")


class Spoilt:
    """A model's step whose loss explodes from step AT on, at rates above LIMIT."""

    def __init__(self, at: int, limit: float, loss: float) -> None:
        self.at, self.limit, self.loss, self.steps = at, limit, loss, 0

    def __call__(self, fit: Fit, *words: Any) -> torch.Tensor:
        self.steps += 1
        [*_, (_, dense)] = fit.optimizer.optimizers
        is_bad = self.steps >= self.at and dense.param_groups[0]["lr"] > self.limit
        return torch.tensor(self.loss) if is_bad else STEP(fit, *words)


@pytest.mark.parametrize("loss", [float("nan"), 1e6])
def test_a_divergence_ends_within_a_hundred_steps_with_one_line(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: float
) -> None:
    spoilt = Spoilt(30, 0.0, loss)
    monkeypatch.setattr(Fit, "step", lambda *words: spoilt(*words))
    small = config.train.model_copy(update={"batch_size": 10})
    with pytest.raises(MetricError, match=r"diverged before step \d+: loss (inf|1e\+06); lower train.lr_dense"):
        train(config.model_copy(update={"train": small}), tmp_path / "run")
    assert spoilt.steps <= 130


def test_a_divergence_goes_back_to_the_last_checkpoint_with_lower_rates(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = Spoilt(30, 0.6 * config.train.lr_dense, 1e6)
    monkeypatch.setattr(Fit, "step", lambda *words: spoilt(*words))
    rewinding = config.train.model_copy(update={"batch_size": 10, "on_divergence": "rewind", "epochs": 1})
    train(config.model_copy(update={"train": rewinding}), tmp_path / "run")
    assert "with rates of 0.5 times those" in (tmp_path / "run" / "log.txt").read_text()
    end = latest(tmp_path / "run" / "checkpoints")
    assert end and read_state(end)["fit"]["rate"] == 0.5
    assert metrics_of_run(tmp_path / "run")["rows"] == 3622, "every row counts once"
