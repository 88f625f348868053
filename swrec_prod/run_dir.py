"""RUN_DIR: what lies in the folder of a training run, by name. This file is that folder's definition.

run.yaml                 what was trained: a RunConfig; when training is over, with the numbers that were fitted
run_info.json            how the run came to be: the RunInfo below
checkpoints/step-*/      weights, optimiser, position in the data (checkpoint/)
history.jsonl            one JSON object a validation
metrics.json             figures of the test rows; its presence says that the run is finished
predictions.parquet      the test rows, scored (evaluate/predictions.py): a file, or a folder with a part of every rank
tensorboard/, log.txt    what the run said while it worked
mix/, scenarios/VALUE/   with a model for every scenario: RUN_DIRs of their own (train/strategies.py)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pydantic

from swrec_prod.config import RunConfig
from swrec_prod.errors import CheckpointError
from swrec_prod.files import read_json, replaced, write_json, write_text
from swrec_prod.strict import Strict, parse

RUN_FILE, METRICS_FILE, PREDICTIONS_FILE = "run.yaml", "metrics.json", "predictions.parquet"
MIX, SCENARIOS = "mix", "scenarios"
GOES_ON = "run swrec train again, it goes on where it stopped"


class Record(Strict):
    """A part of run_info.json; what later versions add is passed over."""

    model_config = pydantic.ConfigDict(extra="ignore")


class Session(Record):
    """One process group that worked at a run; a run that was cut off has several.

    started: UTC, ISO 8601. seconds: until it ended; None where it was killed. command: its arguments. git_commit: of
    the working directory, with `+changes` where tracked files differed from it; None outside of a repository.
    rows_a_step: of all ranks together. resumed_from: the name of a checkpoint. changed: keys of the configuration that
    were otherwise in the session before, with both values.
    """

    started: str
    seconds: float | None = None
    command: tuple[str, ...]
    host: str
    ranks: int
    device: str
    threads: int
    versions: dict[str, str]
    git_commit: str | None = None
    rows_a_step: int | None = None
    resumed_from: str | None = None
    changed: tuple[str, ...] = ()


class DataUsed(Record):
    """The prepared folder: where it was (absolute), and the fingerprint of its schema and vocabularies."""

    path: str
    fingerprint: str


class RunInfo(Record):
    """run_info.json. sessions: in order."""

    data: DataUsed
    sessions: tuple[Session, ...] = pydantic.Field(min_length=1)

    @property
    def seconds(self) -> float:
        """Wall time of the sessions that ended by themselves."""
        return sum(session.seconds or 0.0 for session in self.sessions)


class RunDir:
    """The files of one run. path: RUN_DIR."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.run_file = self.path / RUN_FILE
        self.info_file = self.path / "run_info.json"
        self.checkpoints = self.path / "checkpoints"
        self.history_file = self.path / "history.jsonl"
        self.metrics_file = self.path / METRICS_FILE
        self.predictions_file = self.path / PREDICTIONS_FILE
        self.tensorboard = self.path / "tensorboard"
        self.log_file = self.path / "log.txt"
        self.mix = self.path / MIX

    @property
    def finished(self) -> bool:
        """Whether training is over."""
        return self.metrics_file.is_file()

    @property
    def has_checkpoints(self) -> bool:
        """Whether something was trained, by the run itself or by the runs of its scenarios."""
        return any(self.path.rglob("checkpoints/step-*"))

    def step(self, number: int) -> Path:
        """The checkpoint of a step."""
        return self.checkpoints / f"step-{number:08d}"

    def scenario_models(self) -> list[str]:
        """Names of the folders in scenarios/, sorted."""
        return sorted(path.name for path in self.path.glob(f"{SCENARIOS}/*"))

    def config(self) -> RunConfig:
        """run.yaml as it was written. Raises CheckpointError when there is none, ConfigError when it is damaged."""
        if not self.run_file.is_file():
            reason = (
                f"no {RUN_FILE}" if self.path.is_dir() else "it is a file" if self.path.exists() else "no such folder"
            )
            remedy = f"`swrec train RUN.yaml --out {self.path}` makes one"
            raise CheckpointError(f"{self.path}: not a run directory: {reason}; {remedy}")
        return RunConfig.written(self.run_file)

    def info(self) -> RunInfo | None:
        """run_info.json; None in a run that was trained before there was one. Raises CheckpointError when damaged."""
        try:
            return parse(RunInfo, read_json(self.info_file, CheckpointError), str(self.info_file), CheckpointError)
        except FileNotFoundError:
            return None

    def metrics(self) -> dict[str, Any]:
        """metrics.json. Raises CheckpointError when training has not finished, or the file is damaged."""
        try:
            return read_json(self.metrics_file, CheckpointError, f"`swrec evaluate {self.path} --json` shows them anew")
        except FileNotFoundError:
            unfinished = f"training has not finished: no {METRICS_FILE}; {GOES_ON}"
            raise CheckpointError(f"{self.path}: {unfinished}") from None

    def history(self) -> list[dict[str, Any]]:
        """history.jsonl, [] where there is none. Raises CheckpointError when it is damaged."""
        if not self.history_file.is_file():
            return []
        try:
            return [json.loads(line) for line in self.history_file.read_text().splitlines() if line.strip()]
        except ValueError as failure:
            raise CheckpointError(f"{self.history_file}: damaged: {failure}") from None

    def data_folders(self) -> Iterator[Path]:
        """Where the run's prepared data may be now, the likeliest first: the path in run.yaml, from here and from every
        folder above RUN_DIR, and where it was when the run was trained.
        """
        given, info = Path(self.config().data.path), self.info()
        yield given
        if not given.is_absolute():
            yield from (above / given for above in self.path.resolve().parents)
        if info is not None:
            yield Path(info.data.path)

    def write_config(self, config: RunConfig) -> None:
        """run.yaml."""
        with replaced(self.run_file) as aside:
            config.save(aside)

    def write_info(self, info: RunInfo) -> None:
        """run_info.json."""
        write_json(self.info_file, info.model_dump(mode="json"))

    def write_history(self, history: Sequence[dict[str, Any]]) -> None:
        """history.jsonl."""
        write_text(self.history_file, "".join(json.dumps(record) + "\n" for record in history))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """metrics.json."""
        write_json(self.metrics_file, metrics)


def scenario_folder(value: str) -> str:
    """scenarios/<value>, below RUN_DIR; what a folder's name cannot have is written as in URLs.

    >>> scenario_folder("home"), scenario_folder("a/b"), scenario_folder("..")
    ('scenarios/home', 'scenarios/a%2Fb', 'scenarios/%2E.')
    """
    name = re.sub(r'[/\\:*?"<>|%\x00-\x1f]|^\.', lambda match: f"%{ord(match[0]):02X}", value) or "%"
    return f"{SCENARIOS}/{name}"
