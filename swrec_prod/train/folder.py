"""Whether a RUN_DIR is free for a run, and making it that run's own."""

from __future__ import annotations

import shutil
from typing import Any

from swrec_prod.config import RunConfig
from swrec_prod.errors import ConfigError
from swrec_prod.run_dir import RunDir


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
    if run.finished:
        raise ConfigError(f"{run.path}: holds a finished run; choose another --out, or give --overwrite to replace it")
    if run.has_checkpoints and (before := _as_asked(run.config(), config)) != config:
        changed = difference(before.model_dump(mode="json"), config.model_dump(mode="json")) or "configuration"
        remedy = "choose another --out, or give --overwrite"
        raise ConfigError(f"{run.path}: holds an unfinished run with another {changed}; {remedy}")


def claim(run: RunDir, config: RunConfig, *, overwrite: bool) -> None:
    """Make the folder this run's own: run.yaml says so. What `check_free` let pass with `overwrite` is deleted."""
    if overwrite and run.path.exists():
        shutil.rmtree(run.path)
    run.path.mkdir(parents=True, exist_ok=True)
    run.write_config(config)


def difference(one: Any, other: Any, at: str = "") -> str:
    """The first dotted key, below `at`, in which two configurations' plain values differ, with both; "" if none."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = {**one, **other}
        differences = (difference(one.get(key), other.get(key), f"{at}.{key}" if at else key) for key in keys)
        return next(filter(None, differences), "")
    return "" if one == other else f"{at} ({one!r}, now {other!r})"


def _only_leftovers(run: RunDir) -> bool:
    """Whether nothing is there but half a run.yaml, of a run that was killed while it wrote that."""
    return all(path.name.startswith(f".{run.run_file.name}.") for path in run.path.iterdir())


def _as_asked(before: RunConfig, config: RunConfig) -> RunConfig:
    """`before` with the c that is asked for where that is to be fitted: numbers are there once training is over."""
    if not (before.debias and config.debias and config.debias.to_fit):
        return before
    return before.model_copy(update={"debias": before.debias.model_copy(update={"c": config.debias.c})})
