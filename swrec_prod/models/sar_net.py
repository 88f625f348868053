"""SAR-Net: behaviours of all scenarios, a scale and shift for each scenario, gated experts (Shen et al., CIKM 2021).

    v = sum_k a_k h_k, behaviours that fit the row's item and scenario;  u = [x ; v]
    u' = beta_s * u + gamma_s
    e_1 ... e_E = linear maps of norm(u'), some of them of the scenario's own;  g = softmax(W_g u' + b_g)
    z = MLP(sum_k g_k e_k)

Shapes: B rows, D width of u, E experts, H their width, T tasks.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from swrec_prod.blocks.experts import mix
from swrec_prod.blocks.extraction import BehaviourExtraction
from swrec_prod.blocks.gates import Shared
from swrec_prod.layers.fields import what_is_read
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.grouped import GroupedLinear
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.mlp import MLP, BatchNorm
from swrec_prod.layers.options import Norm, Width, Widths
from swrec_prod.layers.scenario import Chain, ScenarioAffine, ScenarioNorm, SideBySide


class SARNet(ScenarioModel):
    """use_history: read the behaviours where the data have them. attention: hidden widths of the item attention;
    renorm_attention: see BehaviourExtraction. scenario_dim: width of a scenario's embedding in the attention.
    shared_experts, specific_experts, expert: how many for all, how many for each scenario, and their width H; norm: of
    their input, without weights, as the experts are linear; "each": a batch norm with weights before every expert.
    head: hidden widths of the MLP behind them. head_norm: of the head. transform_init: of beta and gamma. dense: read
    dense features.

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
        norm: Norm | Literal["each"] = "none",
        head_norm: Norm = "none",
        transform_init: Literal["identity", "random"] = "identity",
        dense: bool = True,
    ) -> None:
        super().__init__()
        scenarios, reads = dims.num_scenarios, use_history and dims.item > 0
        self.read, d_x = what_is_read(dims, dense)
        d_in = d_x + (dims.item if reads else 0)
        self.extraction = (
            BehaviourExtraction(scenarios, scenario_dim, dims.item, attention, renorm_attention) if reads else None
        )
        self.transform = ScenarioAffine(scenarios, d_in)
        if transform_init == "random":
            nn.init.uniform_(self.transform.scale, -((6 / (1 + d_in)) ** 0.5), (6 / (1 + d_in)) ** 0.5)
            nn.init.uniform_(self.transform.shift)
        norms = {"layer": nn.LayerNorm(d_in, elementwise_affine=False), "batch": BatchNorm(d_in, affine=False)}
        self.norm = norms.get(norm, nn.Identity())
        make = _normed_experts if norm == "each" else _experts
        self.experts = make(scenarios, shared_experts, specific_experts, d_in, expert)
        self.gate = nn.Linear(d_in, shared_experts + specific_experts)
        self.head = MLP(expert, head, dims.num_tasks, head_norm)
        self.shape = [shared_experts + specific_experts, expert]

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        u_BD = self.read(inputs.x_BD)
        if self.extraction is not None:
            u_BD = torch.cat([u_BD, self.extraction(inputs)], 1)
        u_BD = self.transform(u_BD, inputs.route)
        e_BEH = self.experts(self.norm(u_BD), inputs.route).unflatten(1, self.shape)
        g_BE = self.gate(u_BD).softmax(1)
        return self.head(mix(g_BE, e_BEH))


def _experts(S: int, shared: int, specific: int, d_in: int, width: int) -> nn.Module:
    """All experts as two products, what they say side by side: [B, D] -> [B, E H]."""
    return SideBySide(Shared(nn.Linear(d_in, shared * width)), GroupedLinear(S, d_in, specific * width))


def _normed_experts(S: int, shared: int, specific: int, d_in: int, width: int) -> nn.Module:
    """The same with a batch norm before every expert,
    over the rows of the scenario where the expert is a scenario's.
    """
    for_all = (Shared(nn.Sequential(BatchNorm(d_in), nn.Linear(d_in, width))) for _ in range(shared))
    for_one = (Chain(ScenarioNorm(S, d_in), GroupedLinear(S, d_in, width)) for _ in range(specific))
    return SideBySide(*for_all, *for_one)
