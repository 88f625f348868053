"""Fit c, the counterfactual reference of the ranking score, by scoring the same rows in every scenario.

Every validation row is scored in every scenario. Users, items and behaviours are then the same everywhere, so what
still differs between the mean logits L_s of two scenarios is the scenario's own doing: its direct influence on the
click. The ranking score sigmoid(y_s) (y_m - c) is the logit less c sigmoid(y_s) (M-scan, eq. 12; Zhu et al., WWW 2024,
leave the choice of c open):

    fit_each:  c_s = (L_s - L) / sigmoid(y_s), which takes out all of it: on average a row has the same score everywhere
    fit:       the one c >= 0 that takes out most, sum_s w_s (L_s - L - c sigmoid(y_s) + const)^2 -> min,
               w_s the scenario's share of rows; a negative c would favour the scenarios that get clicks anyway

A log does not tell whether a scenario moves the click directly or moves everybody's interest, which is no bias.
Interest is taken to move by INTEREST logits (standard deviation over rows), and direct influence is what goes beyond:
both c are multiplied by 1 - INTEREST^2 / Var(L_s), or 0. Without direct influence that leaves the order as it is; a
strong one is taken out nearly whole. docs/results.md has what both do where the truth is known.

Shapes: S scenarios, B rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from swrec_prod.config import DebiasConfig
from swrec_prod.data.batch import Batch
from swrec_prod.peers import Peers

SCORED = 2_000_000  # about so many rows times scenarios: the same rows everywhere, so that few of them are enough
MIN_ROWS = 2_000
INTEREST = 0.25


class CounterfactualSums(NamedTuple):
    """Sums over rows that were scored in every scenario. logit_S: of the logits; factor_S: of sigmoid(y_s); traffic_S:
    how many of the rows are in which scenario; rows: how many there are.
    """

    logit_S: np.ndarray
    factor_S: np.ndarray
    traffic_S: np.ndarray
    rows: float

    def over_ranks(self, peers: Peers) -> CounterfactualSums:
        """The sums over all ranks' rows."""
        logit_SR, factor_SR, traffic_SR, rows_R = zip(*peers.to_all(self), strict=True)
        return CounterfactualSums(np.sum(logit_SR, 0), np.sum(factor_SR, 0), np.sum(traffic_SR, 0), sum(rows_R))

    def one(self) -> float:
        """`fit`: c, one for all scenarios; 0 where sigmoid(y_s) does not differ,
        or is higher where logits are lower.
        """
        weight_S, logit_S, factor_S, level = self._centred()
        spread = weight_S @ factor_S**2
        return max(0.0, float(weight_S @ (logit_S * factor_S) / spread)) if spread > 1e-6 * level**2 else 0.0

    def direct_share(self) -> float:
        """Which share of the variance of the scenarios' mean logits goes beyond what interest is taken to move."""
        weight_S, logit_S, _, _ = self._centred()
        return max(0.0, 1 - INTEREST**2 / max(float(weight_S @ logit_S**2), 1e-12))

    def taken(self, c_S: np.ndarray | float) -> float:
        """Which share of the variance between scenarios' mean logits c takes out."""
        weight_S, logit_S, factor_S, level = self._centred()
        left_S = logit_S - c_S * (factor_S + level)
        left_S = left_S - weight_S @ left_S
        return 1 - float(weight_S @ left_S**2 / max(weight_S @ logit_S**2, 1e-12))

    def _centred(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Traffic shares, mean logits and factors less their means over traffic, and the factors' mean."""
        weight_S = self.traffic_S / self.traffic_S.sum()
        logit_S, factor_S = self.logit_S / self.rows, self.factor_S / self.rows
        level = float(weight_S @ factor_S)
        return weight_S, logit_S - weight_S @ logit_S, factor_S - level, level

    def each(self) -> np.ndarray:
        """`fit_each`: c of every scenario, [S]."""
        _, logit_S, factor_S, level = self._centred()
        return logit_S / (factor_S + level)


def score_in_every_scenario(
    model: nn.Module, batches: Iterable[Batch], num_scenarios: int, every: int, device: torch.device | str
) -> CounterfactualSums:
    """Score every `every`-th batch in scenarios 0 .. num_scenarios - 1.

    model: a Ranker with bias eliminator, sharded or not.

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
    return CounterfactualSums(logit_S, factor_S, traffic_S, rows)


def spacing(batches: int, batch_size: int, num_scenarios: int) -> int:
    """Which part of the batches is enough: every how many-th to score in all scenarios."""
    wanted = max(SCORED // num_scenarios, MIN_ROWS)
    return max(1, round(batches * batch_size / wanted))


def fitted(debias: DebiasConfig, sums: CounterfactualSums, names: Sequence[str]) -> tuple[DebiasConfig, float]:
    """`debias` with the numbers that its `c` asks for, to four digits, and which share of the difference they take out.

    names: of the scenarios, in the order of `sums`.
    """
    c_S = np.full(len(names), sums.one()) if debias.c == "fit" else sums.each()
    c_S = np.round(sums.direct_share() * c_S, 4) + 0.0  # no -0.0
    c = float(c_S[0]) if debias.c == "fit" else dict(zip(names, c_S.tolist(), strict=True))
    return debias.model_copy(update={"c": c}), sums.taken(c_S)
