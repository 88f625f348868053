"""Saving while training goes on: what is saved is what was, and what fails is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from swrec_prod.checkpoint import Saver, latest, saver
from swrec_prod.checkpoint.verifying import verify
from swrec_prod.errors import CheckpointError
from swrec_prod.train.distributed import process_group

STATE = {"fit": {"best_step": 1}}


@pytest.fixture
def saving(tmp_path: Path) -> Iterator[Saver]:
    with process_group(1):
        made = Saver(tmp_path, keep=2)
        yield made
        made.close()


@pytest.fixture
def model() -> nn.Linear:
    return nn.Linear(4, 3)


def optimizer() -> Any:
    return SimpleNamespace(state_dict=lambda: {"state": {"w": {"sum": torch.ones(3)}}})


def weight_in(path: Path) -> torch.Tensor:
    content = {"model": {"weight": torch.zeros(3, 4)}}
    dcp.load(content, checkpoint_id=path)
    return content["model"]["weight"]


def test_steps_that_come_while_it_is_written_do_not_change_it(
    saving: Saver, model: nn.Linear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on, write = threading.Event(), saver.write

    def write_later(*args: Any) -> Path:
        assert trained_on.wait(60)
        return write(*args)

    monkeypatch.setattr(saver, "write", write_later)
    before = model.weight.detach().clone()
    saving.save(1, model, optimizer(), STATE, [1])
    assert latest(tmp_path) is None, "what has a name is whole"
    with torch.no_grad():
        model.weight.add_(1)
    trained_on.set()
    saving.wait()
    assert torch.equal(weight_in(tmp_path / "step-00000001"), before) and verify(tmp_path / "step-00000001")


def test_without_memory_for_a_copy_it_is_whole_before_training_goes_on(
    saving: Saver, model: nn.Linear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "fits", lambda _: False)
    saving.save(1, model, optimizer(), STATE, [1])
    assert torch.equal(weight_in(tmp_path / "step-00000001"), model.weight) and verify(tmp_path / "step-00000001")


def test_a_write_that_failed_is_told_by_the_next_call(
    saving: Saver, model: nn.Linear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving.save(1, model, optimizer(), STATE, [1])
    saving.wait()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", _no_room)
        saving.save(2, model, optimizer(), STATE, [1])
        with pytest.raises(CheckpointError, match=r"step-00000002: cannot be written: No space left on device; make"):
            saving.save(3, model, optimizer(), STATE, [1])
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"] and verify(tmp_path / "step-00000001")
    saving.save(3, model, optimizer(), STATE, [1])
    saving.wait()
    assert latest(tmp_path) == tmp_path / "step-00000003"


def _no_room(*_: Any) -> Path:
    raise OSError(28, "No space left on device")
