"""RUN_DIR: run.yaml, checkpoints/, history.jsonl, metrics.json, predictions.parquet, tensorboard/, log.txt.

With a model for every scenario the checkpoints are in RUN_DIRs below it: strategies.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from swrec_prod.config import RunConfig
from swrec_prod.errors import ConfigError

RUN_FILE = "run.yaml"
RUN_PART = f".{RUN_FILE}.part"
METRICS_FILE = "metrics.json"


class RunFolder:
    """The files of one run. path: RUN_DIR."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"

    def check(self, config: RunConfig, *, overwrite: bool) -> None:
        """Whether the folder is free for this run:
        not there, empty, or a run of the same configuration that was cut off.

        Raises ConfigError when it holds something else. overwrite: any run may be there, but nothing that is no run.
        """
        run_file = self.path / RUN_FILE
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path}: is a file; choose another --out")
        if self.path.exists() and not run_file.exists() and any(path.name != RUN_PART for path in self.path.iterdir()):
            raise ConfigError(f"{self.path}: is not empty and holds no run; choose another --out")
        if overwrite:
            return
        if (self.path / METRICS_FILE).exists():
            raise ConfigError(
                f"{self.path}: holds a finished run; choose another --out, or give --overwrite to replace it"
            )
        if any(self.path.rglob("checkpoints/step-*")) and (found := _asked(RunConfig.load(run_file), config)) != config:
            changed = difference(found.model_dump(mode="json"), config.model_dump(mode="json")) or "configuration"
            raise ConfigError(
                f"{self.path}: holds an unfinished run with another {changed}; "
                "choose another --out, or give --overwrite"
            )

    def claim(self, config: RunConfig, *, overwrite: bool) -> None:
        """Make the folder this run's own: run.yaml says so. What `check` let pass with `overwrite` is deleted."""
        if overwrite and self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_config(config)

    def write_config(self, config: RunConfig) -> None:
        """run.yaml, whole or as it was."""
        aside = self.path / RUN_PART
        config.save(aside)
        aside.replace(self.path / RUN_FILE)

    def of_step(self, step: int) -> Path:
        """The checkpoint of a step."""
        return self.checkpoints / f"step-{step:08d}"

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """One JSON line a validation."""
        (self.path / "history.jsonl").write_text("".join(json.dumps(record) + "\n" for record in history))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """metrics.json: its presence says that the run is finished."""
        aside = self.path / f".{METRICS_FILE}.part"
        aside.write_text(json.dumps(metrics, indent=1) + "\n")
        aside.replace(self.path / METRICS_FILE)


def _asked(found: RunConfig, config: RunConfig) -> RunConfig:
    """`found` with the c that is asked for where that is to be fitted: numbers are there once training is over."""
    if not (found.debias and config.debias and config.debias.to_fit):
        return found
    return found.model_copy(update={"debias": found.debias.model_copy(update={"c": config.debias.c})})


def difference(one: Any, other: Any, at: str = "") -> str:
    """The first dotted key, below `at`, in which two configurations' plain values differ, with both values;
    "" if they do not.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            found = difference(one.get(key), other.get(key), f"{at}.{key}" if at else key)
            if found:
                return found
        return ""
    return "" if one == other else f"{at} ({one!r}, now {other!r})"
