"""Which checkpoints stay."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from swrec_prod.checkpoint.state import read_state
from swrec_prod.errors import CheckpointError


def prune(folder: Path, keep: int, best: Iterable[int]) -> None:
    """Delete all but the `keep` latest checkpoints, the steps `best`, and what was best when one of the latest was
    saved: a run that has to go on from that one ends with it. Called by one rank.
    """
    latest = sorted(folder.glob("step-*"))[-keep:]
    steps = {*best, *(step for step in map(_best_of, latest) if step is not None)}
    keep_only(folder, *latest, *(folder / f"step-{step:08d}" for step in steps))


def keep_only(folder: Path, *paths: Path) -> None:
    """Delete every checkpoint but `paths`, and leftovers of killed writes. Called by one rank."""
    for checkpoint in [*folder.glob("step-*"), *folder.glob(".writing-step-*")]:
        if checkpoint not in paths:
            shutil.rmtree(checkpoint)


def _best_of(path: Path) -> int | None:
    """The step of the best checkpoint at the time of this one; None where it cannot be read."""
    try:
        return int(read_state(path)["fit"]["best_step"])
    except (CheckpointError, KeyError, TypeError, ValueError):
        return None
