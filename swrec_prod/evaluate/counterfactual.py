"""Fit c, the counterfactual reference of the ranking score, by asking the model what it would say of the same rows elsewhere.

Every validation row is scored in every scenario. Users, items and behaviours are then the same everywhere, so what still differs
between the mean logits L_s of two scenarios is the scenario's own doing: its direct influence on the click. The ranking score
sigmoid(y_s) (y_m - c) is the logit less c sigmoid(y_s) (M-scan, eq. 12; Zhu et al., WWW 2024, leave the choice of c open):

    fit_each:  c_s = (L_s - L) / sigmoid(y_s), which takes out all of it: on average a row has the same score everywhere
    fit:       the one c that takes out most, sum_s w_s (L_s - L - c sigmoid(y_s) + const)^2 -> min, w_s the scenario's share of rows

One c keeps to what moves with sigmoid(y_s), and takes nothing where logits do not differ; c_s also takes what the scenario does to
everybody's interest, which is no bias. docs/models.md has what both find where the truth is known.

Shapes: S scenarios, B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from swrec_prod.config import DebiasConfig
from swrec_prod.data.batch import Batch

MAX_SCORED = 2_000_000  # rows times scenarios: the same rows everywhere, so that few of them are enough
MIN_ROWS = 2_000


class Elsewhere(NamedTuple):
    """What a model says of the same rows in every scenario. logit_S: sums of logits; factor_S: sums of sigmoid(y_s); rows; and
    traffic_S: how many of the rows are in which scenario."""

    logit_S: np.ndarray
    factor_S: np.ndarray
    traffic_S: np.ndarray
    rows: float

    def over_ranks(self, gather: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Elsewhere:
        """The sums over all ranks' rows. gather: arrays of this rank -> the same arrays of all ranks, one after the other."""
        everyone = gather({name: np.asarray(value)[None] for name, value in self._asdict().items()})
        return Elsewhere(**{name: values.sum(0) for name, values in everyone.items()})

    def one(self) -> float:
        """`fit`: c, one for all scenarios; 0 where sigmoid(y_s) does not differ."""
        weight_S = self.traffic_S / self.traffic_S.sum()
        logit_S, factor_S = self.logit_S / self.rows, self.factor_S / self.rows
        logit_S, factor_S = logit_S - weight_S @ logit_S, factor_S - weight_S @ factor_S
        spread = weight_S @ factor_S**2
        return float(weight_S @ (logit_S * factor_S) / spread) if spread > 1e-8 else 0.0

    def each(self) -> np.ndarray:
        """`fit_each`: c of every scenario, [S]."""
        weight_S = self.traffic_S / self.traffic_S.sum()
        logit_S = self.logit_S / self.rows
        return (logit_S - weight_S @ logit_S) / (self.factor_S / self.rows)


def look_elsewhere(model: nn.Module, batches: Iterable[Batch], num_scenarios: int, every: int, device: torch.device | str) -> Elsewhere:
    """Score every `every`-th batch in scenarios 0 .. num_scenarios - 1. model: a Ranker with bias eliminator, sharded or not.

    With several ranks all of them call this, with equally many batches, and each gets the sums over its own rows.
    """
    model.eval()
    logit_S, factor_S, traffic_S = (np.zeros(num_scenarios) for _ in range(3))
    rows = 0
    with torch.no_grad():
        for number, batch in enumerate(batches):
            if number % every:
                continue
            batch = batch.to(torch.device(device))
            traffic_S += np.bincount(batch.scenario_B.cpu().numpy(), minlength=num_scenarios)[:num_scenarios]
            rows += len(batch.row_B)
            for s in range(num_scenarios):
                _, scores = model(replace(batch, scenario_B=torch.full_like(batch.scenario_B, s)))
                logit_S[s] += scores.logit_BT[:, 0].double().sum().item()
                factor_S[s] += scores.scenario_BT[:, 0].double().sigmoid().sum().item()
    return Elsewhere(logit_S, factor_S, traffic_S, rows)


def spacing(batches: int, batch_size: int, num_scenarios: int) -> int:
    """Which part of the batches is enough: every how many-th to score in all scenarios."""
    wanted = max(MAX_SCORED // num_scenarios, MIN_ROWS) // batch_size + 1
    return max(1, batches // wanted)


def fitted(debias: DebiasConfig, found: Elsewhere, names: Sequence[str]) -> DebiasConfig:
    """`debias` with the numbers that its `c` asks for, to four digits. names: of the scenarios that `found` is about."""
    if debias.c == "fit":
        return debias.model_copy(update={"c": round(found.one(), 4)})
    return debias.model_copy(update={"c": {name: round(float(c), 4) for name, c in zip(names, found.each(), strict=True)}})
