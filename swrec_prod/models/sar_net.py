"""SAR-Net: behaviours of all scenarios, a scale and shift for each scenario, gated experts (Shen et al., CIKM 2021).

    v = sum_k a_k h_k, behaviours that fit the row's item and scenario;  u = [x ; v]
    u' = beta_s * u + gamma_s
    e_1 ... e_E = linear maps of norm(u'), some of them of the scenario's own;  g = softmax(W_g u' + b_g)
    z = MLP(sum_k g_k e_k)

Shapes: B rows, D width of u, E experts, H their width, T tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from swrec_prod.blocks.experts import mix
from swrec_prod.blocks.extraction import BehaviourExtraction
from swrec_prod.blocks.folding import ScenarioModel
from swrec_prod.blocks.grouped import GroupedLinear
from swrec_prod.blocks.inputs import Dims, Inputs
from swrec_prod.blocks.mlp import MLP
from swrec_prod.blocks.options import Norm, Width, Widths
from swrec_prod.blocks.scenario import ScenarioAffine


class SARNet(ScenarioModel):
    """use_history: read the behaviours where the data have them. attention: hidden widths of the item attention;
    renorm_attention: see BehaviourExtraction. scenario_dim: width of a scenario's embedding in the attention.
    shared_experts, specific_experts, expert: how many for all, how many for each scenario, and their width H; norm: of
    their input, without weights, as the experts are linear. head: hidden widths of the MLP behind them.

    The scenario's embedding is not part of u: constant in a scenario, it would only move gamma_s. The bias networks and
    the loss weights of the paper need a log of interventions: give weights of rows in the data instead. The paper's
    experts end in a logit; a head on experts of width H is the public code's, whose beta and gamma start at random and
    destroy x, where ours start as the identity.
    """

    reads_history = "optional"

    def __init__(
        self,
        dims: Dims,
        *,
        use_history: bool = True,
        attention: Widths = (32,),
        renorm_attention: bool = True,
        scenario_dim: Width = 16,
        shared_experts: Width = 8,
        specific_experts: Width = 2,
        expert: Width = 16,
        head: Widths = (32, 32),
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        scenarios, reads = dims.num_scenarios, use_history and dims.item > 0
        d_in = dims.x + (dims.item if reads else 0)
        self.extraction = BehaviourExtraction(scenarios, scenario_dim, dims.item, attention, renorm_attention) if reads else None
        self.transform = ScenarioAffine(scenarios, d_in)
        norms = {"none": nn.Identity(), "layer": nn.LayerNorm(d_in, elementwise_affine=False), "batch": nn.BatchNorm1d(d_in, affine=False)}
        self.norm = norms[norm]
        self.shared = nn.Linear(d_in, shared_experts * expert)
        self.specific = GroupedLinear(scenarios, d_in, specific_experts * expert)
        self.gate = nn.Linear(d_in, shared_experts + specific_experts)
        self.head = MLP(expert, head, dims.num_tasks)
        self.shape = [shared_experts + specific_experts, expert]

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        u_BD = inputs.x_BD
        if self.extraction is not None:
            u_BD = torch.cat([u_BD, self.extraction(inputs)], 1)
        u_BD = self.transform(u_BD, inputs.route)
        n_BD = self.norm(u_BD)
        e_BEH = torch.cat([self.shared(n_BD), self.specific(n_BD, inputs.route)], 1).unflatten(1, self.shape)
        g_BE = self.gate(u_BD).softmax(1)
        return self.head(mix(g_BE, e_BEH))
