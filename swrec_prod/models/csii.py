"""CSII: a row passes other scenarios' experts, and attention takes from them what helps (Shu et al., arXiv 2407.19727).

    h = F_s(x),  h_0 = F_0(x)                          the scenario's own expert, and the one of all
    u_t = F_t(filter_st(x))  for some t != s           through what transfers from s to t
    u = sum_t softmax_t(q(h, s) . k(u_t)) v(u_t)       attention inside each u_t, then between them
    z = MLP([sigmoid(a_s) u + h ; h_0])

Shapes: B rows, D input width, M scenarios visited, H expert width, T tasks.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.blocks.transfer import CrossAttention, CrossExperts, Distance, Targets
from swrec_prod.layers.composed import OwnWeights
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.options import Rate, Width, Widths


class CSII(ScenarioModel):
    """expert: layer widths of all experts, with ReLU. norm, dropout: of the experts. cross_topm: how many other
    scenarios M a row visits, those that attention prefers (see Targets); null: all of them, the paper's, whose cost
    grows with S. slots: into which an expert's output is cut for the attention inside it. key: width of the keys
    between scenarios. scenario_dim: width of the scenario's embedding in the query. head: hidden widths of the network
    of all scenarios. own_weights: of F_s, "full", the paper's, or "rank_one", the fast choice for hundreds of
    scenarios: they share each layer's matrix and have factors of its inputs and outputs. distance: how far a feature is
    from what transfers, "euclidean", the paper's, "manhattan" or "cosine", which the paper names and does not try.

    The paper's equations are known to us in part. The transform from s to t is a scale for each coordinate, 1 + a_s
    b_t, and a shift, so that parameters grow with S and not S^2. Features that transfer badly are weighted down, not
    cut off. With one scenario u = 0 and nothing is visited.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        expert: Widths = (128, 64),
        cross_topm: Width | None = 2,
        slots: Width = 4,
        key: Width = 32,
        scenario_dim: Width = 16,
        head: Widths = (64,),
        norm: Literal["none", "layer"] = "none",
        dropout: Rate = 0.0,
        own_weights: OwnWeights = "full",
        distance: Distance = "euclidean",
    ) -> None:
        super().__init__()
        S, others = dims.num_scenarios, dims.num_scenarios - 1
        self.experts = CrossExperts(S, dims.fields, dims.x, expert, norm, dropout, own_weights, distance)
        self.shared = MLP(dims.x, expert, norm=norm, dropout=dropout)
        self.targets = Targets(S, others if cross_topm is None else min(cross_topm, others))
        self.attention = CrossAttention(S, scenario_dim, expert[-1], slots, key)
        self.alpha = nn.Parameter(torch.zeros(S, 1))
        self.head = MLP(2 * expert[-1], head, dims.num_tasks, dropout=dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        x_BD, route = inputs.x_BD, inputs.route
        h_BH, u_BMH = self.experts(x_BD, self.targets(route), route)
        u_BH, logit_BM = self.attention(h_BH, u_BMH, route)
        self.targets.learn(logit_BM, route.scenario_B)
        u_BH = F.embedding(route.scenario_B, self.alpha).sigmoid() * u_BH
        return self.head(torch.cat([u_BH + h_BH, self.shared(x_BD)], 1))
