"""The checkpoint that a run goes on from: the newest one that is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from swrec_prod.checkpoint.state import read_state
from swrec_prod.checkpoint.verifying import UNVERIFIED, WHAT_HELPS, verify
from swrec_prod.errors import CheckpointError


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in `folder`, or None."""
    return max(folder.glob("step-*"), default=None)


def find_whole(folder: Path, say: Callable[[str], None], *, ranks: bool = False) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint that is whole, and whose best one is too; and the newer ones that cannot be used.

    say: told in one line each what is damaged, what is used instead, and what cannot be verified. ranks: all ranks call
    this together. Gives None where there is no checkpoint at all.
    Raises CheckpointError when there are some and none is whole: going on would start anew in silence.
    """
    damaged: dict[Path, str] = {}
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            verified = _verify_with_best(path, ranks)
        except CheckpointError as failure:
            damaged[path] = str(failure)
            continue
        for bad, reason in damaged.items():
            say(f"{reason.removesuffix(f'; {WHAT_HELPS}')}; using {path.name} instead of {bad.name}")
        if not verified:
            say(f"{path}: {UNVERIFIED}")
        return path, list(damaged)
    if damaged:
        others = f", and no checkpoint before it is whole ({len(damaged) - 1})" if len(damaged) > 1 else ""
        raise CheckpointError(f"{next(iter(damaged.values()))}{others}")
    return None, []


def set_aside(path: Path) -> Path:
    """Give a damaged checkpoint another name, under which nothing looks for it; people may. Called by one rank."""
    there = path.with_name(f"damaged-{path.name}")
    number = 1
    while there.exists():
        number, there = number + 1, path.with_name(f"damaged-{path.name}-{number}")
    return path.rename(there)


def _verify_with_best(path: Path, ranks: bool) -> bool:
    """Whether there were checksums. Raises CheckpointError when the checkpoint is damaged, or the one that its run
    would end with.
    """
    verified, fit = verify(path, ranks=ranks), read_state(path).get("fit", {})
    best = path.with_name(f"step-{fit['best_step']:08d}") if fit.get("history") else path
    return verified if best == path else verify(best, ranks=ranks) and verified
