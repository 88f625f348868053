"""Whether a RUN_DIR is free for a run, and making it that run's own."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from swrec_prod.checkpoint import check_writable
from swrec_prod.config import RunConfig
from swrec_prod.errors import CheckpointError, ConfigError
from swrec_prod.files import locked
from swrec_prod.run_dir import RunDir
from swrec_prod.train.distributed import Ranks, on_main

AGAIN = "make room and run the same command again, it goes on from the last checkpoint"
FULL = (errno.ENOSPC, errno.EDQUOT)
LOCK_S = 5.0  # of waiting for ranks that were killed a moment ago
REMEDY = "choose another --out, or give --overwrite to replace it"
MAY_CHANGE = (
    "train.epochs", "train.batch_size", "train.patience", "train.lr_sparse", "train.lr_dense", "train.threads",
    "train.replicate_kib", "train.on_divergence", "train.grace_seconds", "train.hang_minutes", "checkpoint", "export",
)  # of a run that goes on; all else would make it another run  # fmt: skip


def check_free(run: RunDir, config: RunConfig, *, overwrite: bool) -> None:
    """Whether the folder is not there, empty, or a run of the same configuration that was cut off.

    Raises ConfigError when it holds something else. overwrite: any run may be there, but nothing that is no run.
    """
    if run.path.exists() and not run.path.is_dir():
        raise ConfigError(f"{run.path}: is a file; choose another --out")
    if run.path.exists() and not run.run_file.exists() and not _only_leftovers(run):
        raise ConfigError(f"{run.path}: is not empty and holds no run; choose another --out")
    if overwrite:
        return
    before = _before(run, config) if run.finished or run.has_checkpoints else config
    if run.finished:
        other = f"with another {changed}" if (changed := _difference(before, config)) else "of this configuration"
        raise ConfigError(f"{run.path}: holds a finished run {other}; {REMEDY}")
    for key, old, new in differences(before.model_dump(mode="json"), config.model_dump(mode="json")):
        if not _may_change(key):
            may = f"what may change before it goes on: {', '.join(MAY_CHANGE)}"
            raise ConfigError(
                f"{run.path}: holds an unfinished run with another {key} ({old!r}, now {new!r}); {REMEDY}; {may}"
            )


def finished_before(run: RunDir, config: RunConfig) -> bool:
    """Whether the folder holds the finished run of this very configuration."""
    return run.finished and run.run_file.exists() and not _difference(_before(run, config), config)


def changes(before: RunConfig, config: RunConfig) -> list[str]:
    """What a run goes on with that was otherwise before: a line a key."""
    plain = (_as_asked(before, config).model_dump(mode="json"), config.model_dump(mode="json"))
    return [f"{key} {old!r} -> {new!r}" for key, old, new in differences(*plain)]


@contextmanager
def only_here(out: Path, ranks: Ranks) -> Iterator[None]:
    """No other run, and no ranks that were left behind by a torchrun that was killed, work in the folder meanwhile.

    Raises DataError on every rank when one does. A lock outlives no process. Also raises CheckpointError, naming the
    folder, where it cannot be written to, or the block fails for want of space.
    """
    taken = f"{out}: another run is at work there; wait until it has ended, or choose another --out"
    with ExitStack() as stack:
        lock = out.parent / f".{out.name}.training"
        on_main(ranks, lambda: None if out.exists() else check_writable(RunDir(out).checkpoints, 0))
        on_main(ranks, lambda: stack.enter_context(locked(lock, taken, LOCK_S)))
        try:
            yield
        except OSError as failure:
            if failure.errno not in FULL:
                raise
            raise CheckpointError(f"{failure.filename or out}: {failure.strerror}; {AGAIN}") from None


def claim(run: RunDir, config: RunConfig, *, overwrite: bool) -> None:
    """Make the folder this run's own: run.yaml says so. What `check_free` let pass with `overwrite` is deleted."""
    if overwrite and run.path.exists():
        shutil.rmtree(run.path)
    run.path.mkdir(parents=True, exist_ok=True)
    run.write_config(config)


def difference(one: Any, other: Any) -> str:
    """The first dotted key in which two configurations' plain values differ, with both; "" if none."""
    return next((f"{key} ({old!r}, now {new!r})" for key, old, new in differences(one, other)), "")


def differences(one: Any, other: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every dotted key, below `at`, in which two configurations' plain values differ, with both."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            yield from differences(one.get(key), other.get(key), f"{at}.{key}" if at else key)
    elif one != other:
        yield at, one, other


def _difference(before: RunConfig, config: RunConfig) -> str:
    return difference(before.model_dump(mode="json"), config.model_dump(mode="json"))


def _may_change(key: str) -> bool:
    return any(key == may or key.startswith(f"{may}.") for may in MAY_CHANGE)


def _before(run: RunDir, config: RunConfig) -> RunConfig:
    """The configuration of the run in the folder."""
    return _as_asked(run.config(), config)


def _only_leftovers(run: RunDir) -> bool:
    """Whether nothing is there but half a run.yaml, of a run that was killed while it wrote that."""
    return all(path.name.startswith(f".{run.run_file.name}.") for path in run.path.iterdir())


def _as_asked(before: RunConfig, config: RunConfig) -> RunConfig:
    """`before` with the c that is asked for where that is to be fitted: numbers are there once training is over."""
    if not (before.debias and config.debias and config.debias.to_fit):
        return before
    return before.model_copy(update={"debias": before.debias.model_copy(update={"c": config.debias.c})})
