"""What a run says while it works: a bar on a terminal, a line every few seconds elsewhere,
log.txt and TensorBoard always.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from swrec_prod.run_dir import RunDir
from swrec_prod.train.loop import FitState

LINE_EVERY_S = 10.0


class Log:
    """The main rank's voice. Other ranks are given a folder of None and say nothing."""

    def __init__(self, run_dir: Path | None) -> None:
        self.run_dir = run_dir
        self.console = Console(quiet=run_dir is None, highlight=False)

    def say(self, text: str) -> None:
        """A line for the user and for log.txt."""
        if self.run_dir is None:
            return
        self.console.print(text, soft_wrap=True)
        with RunDir(self.run_dir).log_file.open("a") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


class RunLog(Log):
    """The same, with the steps and validations of one fit."""

    def __init__(self, run_dir: Path | None, total_rows: int, epochs: int) -> None:
        super().__init__(run_dir)
        self.total_rows, self.epochs = total_rows, epochs
        self._started = self._said = time.perf_counter()
        self._rows = 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._board = SummaryWriter(str(RunDir(run_dir).tensorboard)) if run_dir else None

    def step(self, state: FitState, rows: int, loss: float) -> None:
        """Called after every step. loss: NaN where it was not read from the device."""
        self._rows += rows
        if not math.isnan(loss) and self._board:
            self._board.add_scalar("train/loss", loss, state.step)
        if self.run_dir is None:
            return
        now = time.perf_counter()
        speed = self._rows / max(now - self._started, 1e-9)
        mean = state.mean_loss  # NaN until the first loss after a validation has been read
        text = f"{speed:,.0f} rows/s" if math.isnan(mean) else f"loss {mean:.4f}  {speed:,.0f} rows/s"
        if self.console.is_terminal:
            self._advance(state, text)
        elif now - self._said > LINE_EVERY_S:
            self._said = now
            self.say(f"epoch {state.epoch + 1}/{self.epochs}  {state.epoch_rows:,}/{self.total_rows:,} rows  {text}")

    def validated(self, record: dict[str, Any], better: bool) -> None:
        """Called after a validation."""
        self.close_bar()
        speed = f"{record['rows_per_second']:,.0f} rows/s"
        self.say(f"step {record['step']}: {format_validation(record)}  {speed}{'  (best so far)' if better else ''}")
        if self._board:
            for name, value in record.items():
                if isinstance(value, float):
                    self._board.add_scalar(name.replace("_", "/", 1), value, record["step"])
        self._rows, self._started = 0, time.perf_counter()

    def close(self) -> None:
        """Flush what is written."""
        self.close_bar()
        if self._board:
            self._board.close()

    def close_bar(self) -> None:
        """Take the bar off the screen."""
        if self._bar:
            self._bar.stop()
        self._bar = self._task = None

    def _advance(self, state: FitState, text: str) -> None:
        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=self.total_rows, text="")
        assert self._task is not None
        name = f"epoch {state.epoch + 1}/{self.epochs}"
        self._bar.update(self._task, description=name, completed=state.epoch_rows, text=text)


def format_validation(record: Mapping[str, Any]) -> str:
    """The figures of a validation; without an AUC where the rows have one class only."""
    return "  ".join(f"{name} {record[name]:.4f}" for name in ("valid_auc", "valid_logloss") if name in record)
