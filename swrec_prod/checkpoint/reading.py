"""Checkpoints read: into a sharded model at any number of ranks, or into an unsharded ranker. Verified first."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import nn
from torchrec.optim.keyed import KeyedOptimizer

from swrec_prod.checkpoint.state import read_state
from swrec_prod.checkpoint.verifying import WHAT_HELPS, say_unverified, verify
from swrec_prod.errors import CheckpointError
from swrec_prod.ranker import Ranker


def restore(path: Path, model: nn.Module, optimizer: KeyedOptimizer, *, verified: bool = False) -> dict[str, Any]:
    """Load tensors into a sharded model and its optimiser, at any number of ranks; gives the saved state.

    Every rank calls this. verified: its files have just been read and compared (`find_whole`).
    Raises CheckpointError when it is damaged or does not fit; nothing is loaded then.
    """
    state = read_state(path)
    if not verified:
        verify(path, ranks=True)
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with _quiet(), _named(path):
        dcp.load(content, checkpoint_id=path)
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return state


def restore_weights(path: Path, model: nn.Module) -> None:
    """Load the weights alone into a sharded model, at any number of ranks; every rank calls this.

    Raises as `restore`.
    """
    verify(path, ranks=True)
    content = {"model": model.state_dict()}
    with _quiet(), _named(path):
        dcp.load(content, checkpoint_id=path)
    model.load_state_dict(content["model"])


def load_weights(path: Path, ranker: Ranker) -> None:
    """Load the weights alone into an unsharded ranker, without a process group. Raises CheckpointError as `restore`."""
    if not verify(path):
        say_unverified(path)
    content = {"model": ranker.state_dict()}
    with _quiet(), _named(path):
        dcp.load(content, checkpoint_id=path, no_dist=True)
    ranker.load_state_dict(content["model"])


class _named:
    """Turns what torch says of a checkpoint that does not fit, or is damaged, into one line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, failure: BaseException | None, trace: object) -> None:
        if isinstance(failure, (dcp.api.CheckpointException, RuntimeError, KeyError, ValueError, EOFError)):
            reason = _first_line(failure)
            if any(word in reason for word in ("Size mismatch", "Missing key")):
                raise CheckpointError(f"{self.path}: does not fit this model: {reason}") from failure
            raise CheckpointError(f"{self.path}: damaged: {reason}; {WHAT_HELPS}") from failure


def _first_line(failure: BaseException) -> str:
    """What one rank's failure says; torch gathers those of all ranks."""
    if isinstance(failure, dcp.api.CheckpointException):
        failure = next(iter(failure.failures.values()))[0]
    return next((line for line in str(failure).splitlines() if line.strip()), type(failure).__name__)


def _quiet() -> warnings.catch_warnings:
    """torch warns of its own internals on every save and load:
    deprecated storage, a process group that is not needed.
    """
    return warnings.catch_warnings(action="ignore")
