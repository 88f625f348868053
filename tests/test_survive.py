"""Ranks that are killed, told to leave, or fail: what the run does, with real processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from killed_ranks import launched, trained
from ranks import tensors_of
from runs import config_of, history_of, run_file

from swrec_prod.checkpoint import latest
from swrec_prod.config import RunConfig

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
