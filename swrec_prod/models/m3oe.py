"""M3oE: shared, domain and task experts on a domain representation (Zhang et al., SIGIR 2024, eq. 1-8).

    r = (W * W_s) x + b + b_s,  h = MLP(r) + MLP(x)
    D = beta_d f_s(h) + (1 - beta_d) mean_{j != s} f_j(h),  T_t likewise from the tasks' experts
    m_t = sum_e softmax_e(G_st h) f_e(h) + alpha_d D + alpha_t T_t,  z_t = MLP_st(m_t)

alpha and beta are sigmoids of learned numbers. Every MLP is Linear -> layer norm -> ReLU, the tower with a Linear after
it.

Shapes: B rows, D input width, N shared experts, H expert width, T tasks.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from swrec_prod.blocks.domain_experts import DomainExperts, Others, TaskExperts
from swrec_prod.blocks.experts import ParallelMLP, gate, mix
from swrec_prod.layers.composed import OwnWeights, own_linear
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.grouped import GroupedLinear
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.options import Rate, Width, Widths
from swrec_prod.layers.scenario import ScenarioMLP


class M3oE(ScenarioModel):
    """star: width of r; hidden: width of h. num_experts: experts of all, N. expert: width of all experts. tower: hidden
    widths of the towers, of which every scenario has one for each task. dropout: after the layers of h and of the
    towers.

    other_experts: the mean over the other scenarios' experts. "exact" is the paper's and costs a row S experts, fine to
    about 32 scenarios. Beyond, "sampled" takes part in the mean only some scenarios a batch, in training; "ema_expert"
    lets one expert with averaged weights speak for the others, in eval too. samples: how many "sampled" takes.

    own_weights: W_s is "full", the paper's, or "rank_one", an outer product, the fast choice for hundreds of scenarios.

    With one task there are no task experts, and with one scenario D = f_s: the paper would divide by zero. Its eq. 7
    pairs alpha_d with T and alpha_t with D, its text and code the other way round, as here. W_s starts at one. alpha
    and beta are trained with all other weights, which is what the released code does too; the paper alternates. That
    code also stops the gradient from the gates to h, of which the paper says nothing.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        star: Width = 128,
        hidden: Width = 64,
        num_experts: Width = 4,
        expert: Width = 32,
        tower: Widths = (32,),
        other_experts: Others = "exact",
        samples: Annotated[int, Ge(2)] = 8,
        own_weights: OwnWeights = "full",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        S, self.T = dims.num_scenarios, dims.num_tasks
        self.star = own_linear(own_weights)(S, dims.x, star, "linear")
        self.star_map = MLP(star, (hidden,), norm="layer", dropout=dropout)
        self.skip = MLP(dims.x, (hidden,), norm="layer", dropout=dropout)
        self.experts = ParallelMLP(num_experts, hidden, (expert,), "layer")
        self.gate = GroupedLinear(S, hidden, self.T * num_experts)
        self.domain = DomainExperts(S, hidden, expert, other_experts, samples)
        self.alpha_d = nn.Parameter(torch.ones(()))
        self.task = TaskExperts(self.T, hidden, expert) if self.T > 1 else None
        self.towers = nn.ModuleList(ScenarioMLP(S, expert, tower, 1, "layer", dropout) for _ in range(self.T))

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        x_BD, route = inputs.x_BD, inputs.route
        h_BH = self.star_map(self.star(x_BD, route)) + self.skip(x_BD)
        g_BTN = gate(self.gate(h_BH, route).view(x_BD.shape[0], self.T, -1))
        m_BTH = mix(g_BTN, self.experts(h_BH).unsqueeze(1))
        m_BTH = m_BTH + self.alpha_d.sigmoid() * self.domain(h_BH, route).unsqueeze(1)
        if self.task is not None:
            m_BTH = m_BTH + self.task(h_BH)
        return torch.cat([tower(m_BTH[:, t], route) for t, tower in enumerate(self.towers)], 1)
