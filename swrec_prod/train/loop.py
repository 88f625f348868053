"""The one training loop: batches in, updated tables and weights out, a validation now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torchrec.optim.keyed import KeyedOptimizer

from swrec_prod.data.batch import Batch, Position
from swrec_prod.data.reader import Reader
from swrec_prod.errors import SingleClassError
from swrec_prod.evaluate.predict import score_rows
from swrec_prod.metrics import auc, logloss
from swrec_prod.train.distributed import Ranks, gather_rows


@dataclass
class FitState:
    """How far the fit is: everything beside the tensors that a resumed run needs.

    best_auc: of the first task on validation rows (minus logloss where all labels are equal). misses: validations since.
    rows, seconds: trained rows of all ranks and the time that they took.
    """

    step: int = 0
    epoch: int = 0
    epoch_rows: int = 0
    rows: int = 0
    seconds: float = 0.0
    best_auc: float = float("-inf")
    best_step: int = 0
    best_epoch: int = 0
    misses: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def position(self) -> Position:
        """Where the reader goes on."""
        return Position(self.epoch, self.epoch_rows)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


Report = Callable[[FitState, int, float], None]  # state, rows of the step, its loss (every few steps, else NaN)


class Fit:
    """A model, its optimiser and its readers on this rank."""

    def __init__(self, model: nn.Module, optimizer: KeyedOptimizer, train: Reader, valid: Reader, ranks: Ranks) -> None:
        self.model, self.optimizer, self.train, self.valid, self.ranks = model, optimizer, train, valid, ranks

    def epoch(self, state: FitState, validations: int, report: Report) -> Iterator[None]:
        """Train on what is left of the epoch of `state`, pausing (yield) where a validation is due, last at its end."""
        due = {round(len(self.train) * (i + 1) / validations) for i in range(validations)}
        done = len(self.train) * state.epoch_rows // self.train.rows
        self.model.train()
        started = time.perf_counter()
        for number, batch in enumerate(self.train.epoch(state.epoch), start=done + 1):
            rows = batch.position.rows - state.epoch_rows
            share = len(batch) * self.ranks.world_size / rows
            loss = self.step(batch.to(self.ranks.device, non_blocking=True), share)
            state.step, state.epoch_rows, state.rows = state.step + 1, batch.position.rows, state.rows + rows
            report(state, rows, loss.item() if state.step % 20 == 1 else float("nan"))
            if number in due and batch.position.rows < self.train.rows:
                state.seconds += time.perf_counter() - started
                yield
                self.model.train()
                started = time.perf_counter()
        state.seconds += time.perf_counter() - started
        state.epoch, state.epoch_rows = state.epoch + 1, 0
        yield

    def step(self, batch: Batch, share: float = 1.0) -> torch.Tensor:
        """One update from one batch; gives its loss (0-d, on the device).

        share: the batch's rows over the mean of all ranks'. Gradients are averaged over ranks; with it, over rows.
        """
        loss, _ = self.model(batch)
        self.optimizer.zero_grad(set_to_none=True)
        (loss * share).backward()
        self.optimizer.step()
        return loss.detach()

    def validate(self) -> dict[str, float]:
        """valid_auc and valid_logloss of the first task, over the rows of all ranks; the same on every rank."""
        scored = gather_rows(score_rows(self.model, self.valid.epoch(0), self.ranks.device), self.ranks)
        labels, logits = scored["labels"][:, 0], scored["logit"][:, 0]
        found = {"valid_logloss": logloss(labels, logits)}
        try:
            return {"valid_auc": auc(labels, logits), **found}
        except SingleClassError:
            return found


def judge(state: FitState, found: dict[str, float], train_loss: float) -> bool:
    """Add a validation to the history; whether it is the best so far."""
    value = found.get("valid_auc", -found["valid_logloss"])
    better = value > state.best_auc
    if better:
        state.best_auc, state.best_step, state.best_epoch, state.misses = value, state.step, len(state.history) + 1, 0
    else:
        state.misses += 1
    speed = state.rows / max(state.seconds, 1e-9)
    record = {"epoch": state.epoch, "step": state.step, "rows": state.rows, "seconds": state.seconds, "rows_per_second": speed}
    state.history.append({**record, "train_loss": None if np.isnan(train_loss) else train_loss, **found})
    return better
