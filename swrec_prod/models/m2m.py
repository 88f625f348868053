"""M2M: the scenario generates the weights that choose among experts, and those of the tower (Zhang et al., WSDM 2022).

    F = [x ; v]                                                     v: the row's behaviours, for its item and scenario
    E_i = f(F A_i + a_i)                                            experts of width m; f: leaky ReLU
    {W, w} = f(e_s U) V                                             the meta weights
    a_ti = f([E_i ; T_t] W + w) v,  R_t = sum_i softmax_i(a_t) E_i  meta attention; T_t: the view of task t
    L_t <- f(L_t W + w + L_t),  from L_t = R_t                      meta tower
    z_t = MLP(L_t)

Shapes: B rows, D input width, E experts, m their width, T tasks.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from swrec_prod.blocks.hyper import MetaAttention, ScenarioWeights, UserWeights, generated_linear
from swrec_prod.blocks.transformer import Backbone, Kind
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.options import Rate, Width, Widths


class M2M(ScenarioModel):
    """experts, expert: number E and width m. attention_layers, tower_layers: meta layers of each. head: hidden widths
    of the last MLP. dropout: of the head. scenario_dim: width of e_s. cond: the "scenario" generates the meta weights
    (they fold), or "scenario_user", it and the user's features (weights for every row, the paper's wider condition).

    use_history: F holds what a transformer over the behaviours makes of them, where the data have any. history_layers,
    positions: see BehaviourTransformer. backbone: beside it F holds x as it is ("none": with behaviours, the paper's
    F), or after its fields have attended to each other ("field_transformer"); "auto" is the former with behaviours and
    the latter without. layers: of the field transformer. token, heads, feedforward: sizes of both transformers.

    The paper's query of behaviours is the scenario; ours is the target item too. Generators are linear and start with
    the attention at the identity and the tower at zero; those of the public benchmark end in a batch norm, and its
    transformer lets the rows of a batch attend to each other. The head is one for all tasks but for its last Linear.
    """

    reads_history = "optional"

    def __init__(
        self,
        dims: Dims,
        *,
        experts: Width = 4,
        expert: Width = 16,
        attention_layers: Width = 1,
        tower_layers: Width = 1,
        head: Widths = (64, 32),
        use_history: bool = True,
        backbone: Kind = "auto",
        token: Width = 16,
        layers: Width = 2,
        heads: Width = 4,
        feedforward: Width = 64,
        history_layers: Width = 1,
        positions: Width = 64,
        scenario_dim: Width = 16,
        cond: Literal["scenario", "scenario_user"] = "scenario",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        m, q, self.of_rows = expert, 2 * expert, cond == "scenario_user"
        reads = use_history and dims.item > 0
        sizes = token, layers, history_layers, heads, feedforward, positions
        self.backbone = Backbone(dims, backbone, reads, scenario_dim, *sizes)
        self.experts = nn.Linear(self.backbone.d_out, experts * m)
        self.act = nn.LeakyReLU(0.1)
        starts = [torch.eye(q), torch.zeros(q)] * attention_layers + [torch.zeros(m, m), torch.zeros(m)] * tower_layers
        self.meta = (
            UserWeights(dims, scenario_dim, m, starts, slope=0.1)
            if self.of_rows
            else ScenarioWeights(dims.num_scenarios, scenario_dim, m, starts, slope=0.1)
        )
        self.attention = MetaAttention(dims.num_tasks, m, attention_layers, self.act, self.of_rows)
        self.head = MLP(m, head, dropout=dropout)
        self.out = nn.Linear(self.head.d_out, dims.num_tasks)
        self.shape, self.split, self.end = [experts, m], 2 * attention_layers, len(starts)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        route = inputs.route
        meta = self.meta(inputs.x_BD, route)
        e_BEm = self.act(self.experts(self.backbone(inputs))).unflatten(1, self.shape)
        l_BTm = self.attention(e_BEm, meta[: self.split], route)
        for at in range(self.split, self.end, 2):
            l_BTm = self.act(generated_linear(l_BTm, meta[at], meta[at + 1], route, self.of_rows) + l_BTm)
        z_BTT = self.out(self.head(l_BTm.flatten(0, 1))).unflatten(0, l_BTm.shape[:2])
        return z_BTT.diagonal(dim1=1, dim2=2)
