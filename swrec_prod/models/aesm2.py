"""AESM2: experts chosen for each row by what their gates say of them (Zou et al., SIGIR 2022, sec. 3).

One layer, from h (x at first); all S scenarios have a gate, of which the row uses that of its own scenario s:

    G = W_g [h ; e_s] in R^{E x S},  P_k = softmax over the scenarios of G_k + noise
    specific_k = KL(onehot(s) || P_k) = -log P_k[s]
    shared_k = KL(uniform || P_k) = -log S - mean_j log P_k[j]
    A = the experts with the smallest specific_k, and those with the smallest shared_k
    h' = sum_{k in A} softmax_{k in A}(G_k[s]) f_k(h),  z = MLP(h')

Shapes: B rows, S scenarios, E experts, K of them chosen, I input width of a layer, H expert width, R rank, T tasks.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from swrec_prod.blocks.experts import ParallelMLP, gate, mix, own
from swrec_prod.blocks.folding import ScenarioModel
from swrec_prod.blocks.inputs import Dims, Inputs, Route
from swrec_prod.blocks.mlp import MLP
from swrec_prod.blocks.options import Norm, Rate, Width, Widths
from swrec_prod.blocks.scenario import ConditionedMLP

Weight = Annotated[float, Ge(0)]


class AESM2(ScenarioModel):
    """layers: how many. num_experts: E of each layer, all computed for every row. num_specific, num_shared: how many are chosen
    by each score; one expert can be chosen by both and counts once. expert: layer widths of each, all with a ReLU. tower:
    hidden widths of the network that all scenarios share. norm, dropout: of experts and tower.

    gate_form: "full", the paper's, has a gate of its own for each scenario and costs a row I S E products; "lowrank" has
    G_k[j] = <q_k([h ; e_s]), v_j> with vectors of width `rank`, much less from some 32 scenarios on: the choice compares all
    scenarios, so that a part, S E rank, always grows. scenario_dim: width of e_s.

    noise_scale: in training the choice sees G + noise_scale E N(0, 1); the mixture does not. specific_weight, shared_weight: of
    the auxiliary losses, the mean scores of the chosen experts, which pull both kinds apart.

    A released code multiplies logits by masks, with which an expert that is not chosen can win and one that is chosen twice
    counts twice; here the others are masked out. Sizes and weights of the losses are ours, the paper's are not known. Scenarios
    are a flat list (a tree of depth 1), and tasks share the last layer: with one scenario all experts are mixed.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        layers: Width = 1,
        num_experts: Width = 8,
        num_specific: Width = 2,
        num_shared: Width = 2,
        expert: Widths = (64,),
        tower: Widths = (64, 32),
        gate_form: Literal["full", "lowrank"] = "full",
        rank: Width = 16,
        scenario_dim: Width = 16,
        noise_scale: Weight = 0.1,
        specific_weight: Weight = 0.01,
        shared_weight: Weight = 0.01,
        norm: Norm = "none",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        if max(num_specific, num_shared) > num_experts:
            raise ValueError(f"num_specific and num_shared choose from num_experts {num_experts}, not {max(num_specific, num_shared)}")
        if dims.num_scenarios == 1:  # every score is 0
            num_specific = num_experts
        self.specific_weight, self.shared_weight = specific_weight, shared_weight
        self.layers = nn.ModuleList()
        for d_in in [dims.x, *expert[-1:] * (layers - 1)]:
            gates = _Gates(dims.num_scenarios, num_experts, d_in, scenario_dim, rank if gate_form == "lowrank" else None)
            experts = ParallelMLP(num_experts, d_in, expert, norm, dropout)
            self.layers.append(_Layer(gates, experts, num_specific, num_shared, noise_scale * num_experts))
        self.tower = MLP(expert[-1], tower, dims.num_tasks, norm, dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        return self._run(inputs)[0]

    def forward_with_losses(self, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits [B, T]; the losses "specific" and "shared", weighted."""
        logit_BT, specific, shared = self._run(inputs)
        return logit_BT, {"specific": specific * self.specific_weight, "shared": shared * self.shared_weight}

    def _run(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        h_BH = inputs.x_BD
        specific = shared = torch.zeros([], device=h_BH.device)
        for layer in self.layers:
            h_BH, of_specific, of_shared = layer(h_BH, inputs.route)
            specific, shared = specific + of_specific, shared + of_shared
        return self.tower(h_BH), specific, shared


class _Layer(nn.Module):
    """Choose experts and mix them."""

    def __init__(self, gates: _Gates, experts: ParallelMLP, num_specific: int, num_shared: int, noise: float) -> None:
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


class _Gates(nn.Module):
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
    """KL(onehot(s) || P_k) and KL(uniform || P_k) from G, its own column and its mean, in float32: [B, E] each; 0 for S = 1."""
    log_sum_BE = G_BES.float().logsumexp(2)
    return log_sum_BE - own_BE.float(), log_sum_BE - mean_BE.float() - math.log(G_BES.shape[2])


def chosen_softmax(logit_BE: Tensor, chosen_BK: Tensor) -> Tensor:
    """The softmax over the chosen experts, which may be named twice; 0 for the others: [B, E]."""
    others_BE = torch.ones_like(logit_BE, dtype=torch.bool).scatter(1, chosen_BK, False)
    return gate(logit_BE.masked_fill(others_BE, -float("inf")))
