"""AESM2's choice: the experts that the gates of all scenarios call the most specific, or the most shared (SIGIR 2022).

Shapes: B rows, S scenarios, E experts, K of them chosen, I input width, H expert width, R rank.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.blocks.experts import ParallelMLP, gate, mix, own
from swrec_prod.layers.inputs import Route
from swrec_prod.layers.scenario import ConditionedMLP


class ChosenExperts(nn.Module):
    """Choose experts and mix them."""

    def __init__(self, gates: AllGates, experts: ParallelMLP, num_specific: int, num_shared: int, noise: float) -> None:
        super().__init__()
        self.gates = gates
        self.experts = experts
        self.num_specific, self.num_shared, self.noise = num_specific, num_shared, noise

    def forward(self, h_BI: Tensor, route: Route) -> tuple[Tensor, Tensor, Tensor]:
        """h' [B, H], and the mean scores of the chosen specific and shared experts."""
        G_BES, own_BE, mean_BE = self.gates(h_BI, route)
        clear_BE = own_BE
        if self.training:
            noise_BES = torch.empty_like(G_BES).normal_(0.0, self.noise)
            own_BE = own_BE + own(noise_BES.transpose(1, 2), route.scenario_B)
            mean_BE = mean_BE + noise_BES.mean(2)
            G_BES = noise_BES.add_(G_BES)
        specific_BE, shared_BE = scores(G_BES, own_BE, mean_BE)
        best = specific_BE.topk(self.num_specific, largest=False), shared_BE.topk(self.num_shared, largest=False)
        weight_BE = chosen_softmax(clear_BE, torch.cat([best[0][1], best[1][1]], 1))
        return mix(weight_BE, self.experts(h_BI)), best[0][0].mean(), best[1][0].mean()


class AllGates(nn.Module):
    """What the gates of all scenarios say of every expert. rank: of the low-rank form, None for the full one."""

    def __init__(self, num_scenarios: int, num_experts: int, d_in: int, scenario_dim: int, rank: int | None) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.net = ConditionedMLP(num_scenarios, scenario_dim, d_in, (), num_experts * (rank or num_scenarios))
        self.scenario_SR = None if rank is None else nn.Parameter(torch.randn(num_scenarios, rank) / math.sqrt(rank))

    def forward(self, h_BI: Tensor, route: Route) -> tuple[Tensor, Tensor, Tensor]:
        """G [B, E, S], the gate of the row's own scenario and the mean over the scenarios: [B, E] each."""
        q_BER = self.net(h_BI, route).view(h_BI.shape[0], self.num_experts, -1)
        if self.scenario_SR is None:
            return q_BER, own(q_BER.transpose(1, 2), route.scenario_B), q_BER.mean(2)
        # Own gate and mean from q, not G: with many scenarios every pass over G counts.
        own_BE = (q_BER * F.embedding(route.scenario_B, self.scenario_SR).unsqueeze(1)).sum(2)
        return q_BER @ self.scenario_SR.t(), own_BE, q_BER @ self.scenario_SR.mean(0)


def scores(G_BES: Tensor, own_BE: Tensor, mean_BE: Tensor) -> tuple[Tensor, Tensor]:
    """KL(onehot(s) || P_k) and KL(uniform || P_k) from G, its own column and its mean, in float32:
    [B, E] each; 0 for S = 1.
    """
    log_sum_BE = G_BES.float().logsumexp(2)
    return log_sum_BE - own_BE.float(), log_sum_BE - mean_BE.float() - math.log(G_BES.shape[2])


def chosen_softmax(logit_BE: Tensor, chosen_BK: Tensor) -> Tensor:
    """The softmax over the chosen experts, which may be named twice; 0 for the others: [B, E]."""
    others_BE = torch.ones_like(logit_BE, dtype=torch.bool).scatter(1, chosen_BK, False)
    return gate(logit_BE.masked_fill(others_BE, -float("inf")))
