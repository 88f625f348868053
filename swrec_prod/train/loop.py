"""The one training loop: batches in, updated tables and weights out, a validation now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.optim.keyed import KeyedOptimizer

from swrec_prod.data.batch import Batch, Position
from swrec_prod.data.reader import Reader
from swrec_prod.errors import DataError, SingleClassError
from swrec_prod.evaluate.predict import score_rows
from swrec_prod.metrics.probabilities import LossSum
from swrec_prod.metrics.ranks import RankStatistic
from swrec_prod.peers import of_all
from swrec_prod.shares.all_scores import auc_of_all
from swrec_prod.train.distributed import Ranks, seed_masks, set_random_state, share_buffers


@dataclass
class FitState:
    """How far the fit is: everything beside the tensors that a resumed run needs.

    best_value: valid_auc of the best validation (minus its valid_logloss where all labels are equal). best_epoch: how
    manieth validation after training that was, 0 for the weights that the run began with. misses: validations since.
    rows, seconds: trained rows of all ranks and the time that they took. loss_sum, losses: of those that were read
    since the last validation. rate: factor of the rates, below 1 after a divergence (train.on_divergence).
    """

    step: int = 0
    epoch: int = 0
    epoch_rows: int = 0
    rows: int = 0
    seconds: float = 0.0
    best_value: float = float("-inf")
    best_step: int = 0
    best_epoch: int = 0
    misses: int = 0
    loss_sum: float = 0.0
    losses: int = 0
    rate: float = 1.0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best(self) -> dict[str, Any]:
        """The best validation's record in the history."""
        return next(record for record in self.history if record["step"] == self.best_step)

    def best_steps(self, count: int) -> list[int]:
        """The steps of the `count` best validations, and of the best one by all means."""
        ranked = sorted(self.history, key=lambda record: (_value(record), record["step"]), reverse=True)
        return [self.best_step, *(record["step"] for record in ranked[:count])]

    @property
    def mean_loss(self) -> float:
        """Of the losses read since the last validation; NaN before the first."""
        return self.loss_sum / self.losses if self.losses else float("nan")

    @property
    def position(self) -> Position:
        """Where the reader goes on."""
        return Position(self.epoch, self.epoch_rows)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


READ_EVERY = 20  # steps between two losses that are read from the device
Report = Callable[[FitState, int, float], None]  # state, rows of the step, its loss (every few steps, else NaN)

Between = Callable[[FitState, int], None]  # state, rows of the step


class Fit:
    """A model, its optimiser and its readers on this rank. random: where what it draws (dropout) goes on, once: the
    `random_state` of a run that was saved between two validations.
    """

    def __init__(
        self, model: DistributedModelParallel, optimizer: KeyedOptimizer, train: Reader, valid: Reader, ranks: Ranks
    ) -> None:
        self.model, self.optimizer, self.train, self.valid, self.ranks = model, optimizer, train, valid, ranks
        self.random: str | None = None
        self.loss = torch.zeros(())

    def epoch(
        self, state: FitState, validations: int, report: Report, between: Between = lambda *_: None
    ) -> Iterator[None]:
        """Train on what is left of the epoch of `state`, pausing (yield) where a validation is due, last at its end.

        report is called after every step, between after those that no pause follows.

        Validations are due where so many rows of the epoch are done, so that a resumed run, at any number of ranks, has
        the same. At a pause all ranks hold the same weights and buffers.
        """
        total, started = self.train.rows, self._begin(state)
        for batch in self.train.epoch(state.epoch):
            before, after = state.epoch_rows, batch.position.rows
            batch = batch.to(self.ranks.device, non_blocking=True)
            loss = self.step(batch, self.share(batch, after - before))
            state.step, state.epoch_rows, state.rows = state.step + 1, after, state.rows + after - before
            self.loss = loss
            value = self._read(state)
            now = time.perf_counter()
            state.seconds, started = state.seconds + now - started, now
            due = after < total and validations * after // total > validations * before // total
            report(state, after - before, value)
            if due:
                self._pause(state, started)
                yield
                started = self._begin(state)
            elif after < total:
                between(state, after - before)
        if state.epoch_rows < total:
            done = f"{state.epoch_rows:,} of {total:,} rows of the epoch"
            raise DataError(f"rank {self.ranks.rank} is out of data after {done}; prepare the days anew")
        self._pause(state, started)
        state.epoch, state.epoch_rows = state.epoch + 1, 0
        yield

    def _read(self, state: FitState) -> float:
        """The loss, every few steps; else NaN, and the device is not waited for."""
        if state.step % READ_EVERY != 1:
            return float("nan")
        value = self.read_loss()
        state.loss_sum, state.losses = state.loss_sum + value, state.losses + 1
        return value

    def read_loss(self) -> float:
        """This rank's loss of the last step; infinity where it is no number. The device is waited for."""
        value = float(self.loss)
        return float("inf") if np.isnan(value) else value

    def step(self, batch: Batch, share: float | torch.Tensor = 1.0) -> torch.Tensor:
        """One update from one batch; gives its loss (0-d, on the device).

        share: factor of its gradient, see `share`.
        """
        loss, _ = self.model(batch)
        self.optimizer.zero_grad(set_to_none=True)
        (loss * share).backward()
        self.optimizer.step()
        return loss.detach()

    def share(self, batch: Batch, rows: int) -> float | torch.Tensor:
        """The batch's rows, or their weights, over the mean of all ranks'. rows: of the step, all ranks together.

        A rank's loss is the mean of its own rows, and gradients are averaged over ranks; with this factor the average
        is the gradient of the mean over all rows of the step, as one rank would have it.
        """
        if self.ranks.world_size == 1:
            return 1.0
        if batch.weight_B is None:
            return len(batch) * self.ranks.world_size / rows
        own = batch.weight_B.sum()
        total = own.clone()
        dist.all_reduce(total)
        return own * self.ranks.world_size / total.clamp(min=1e-12)

    def _begin(self, state: FitState) -> float:
        """Get ready to train, at an epoch's start and after every pause; gives the time."""
        self.model.train()
        seed_masks(self.train.seed, state.step, self.ranks)
        if self.random is not None:
            set_random_state(self.random, self.ranks)
        self.random = None
        return time.perf_counter()

    def _pause(self, state: FitState, started: float) -> None:
        state.seconds += time.perf_counter() - started
        share_buffers(self.model, self.ranks)

    def validate(self) -> dict[str, float]:
        """valid_auc and valid_logloss of the first task, weighted, over the rows of all ranks; the same on each."""
        scored = score_rows(self.model, self.valid.epoch(0), self.ranks.device)
        labels, logits, weights = scored["labels"][:, 0], scored["logit"][:, 0], scored.get("weight")
        losses = of_all(self.ranks, lambda: LossSum.of(labels, logits, weights))
        figures = {"valid_logloss": LossSum.merged(losses).mean()}
        try:
            return {"valid_auc": auc_of_all(RankStatistic.of(labels, logits, weights), self.ranks), **figures}
        except SingleClassError:
            return figures


def judge(state: FitState, figures: dict[str, float], train_loss: float) -> bool:
    """Add a validation to the history; whether it is the best so far."""
    value = _value(figures)
    better = value > state.best_value
    if better:
        trained = sum(record["step"] > 0 for record in state.history) + (state.step > 0)
        state.best_value, state.best_step, state.best_epoch, state.misses = value, state.step, trained, 0
    else:
        state.misses += 1
    speed = state.rows / max(state.seconds, 1e-9)
    record = {
        "epoch": state.epoch,
        "step": state.step,
        "rows": state.rows,
        "seconds": state.seconds,
        "rows_per_second": speed,
    }
    state.history.append({**record, "train_loss": None if np.isnan(train_loss) else train_loss, **figures})
    state.loss_sum, state.losses = 0.0, 0
    return better


def _value(figures: Mapping[str, Any]) -> float:
    """What validations are compared by."""
    return figures["valid_auc"] if "valid_auc" in figures else -figures["valid_logloss"]
