"""MMoE: shared experts, one softmax gate and one tower per scenario (Ma et al., KDD 2018, eq. 6-8).

    h = sum_e softmax_e(G_s x) f_e(x),  z = MLP_s(h)

Shapes: B rows, D input width, E experts, H expert width, T tasks.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from swrec_prod.blocks.experts import ParallelMLP, gate, mix
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.grouped import GroupedLinear
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.options import GateNorm, Norm, Rate, Width, Widths
from swrec_prod.layers.scenario import ScenarioMLP, normed


class MMoE(ScenarioModel):
    """num_experts: how many, whatever the number of scenarios, or "scenarios": as many as those. expert: layer widths
    of each, all with a ReLU. tower: hidden widths of each scenario's tower. norm, dropout: of the experts; tower_norm:
    of the towers; gate_norm: of the gates' logits, whose "batch" sees the rows of the scenario only.

    The paper's gate has no bias; ours has one, with which a scenario can prefer an expert whatever the row. Benchmarks
    make as many experts as scenarios, so that the cost of a row grows with them; the paper does not ask for it.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        num_experts: Width | Literal["scenarios"] = 4,
        expert: Widths = (64,),
        tower: Widths = (8,),
        norm: Norm = "none",
        tower_norm: Norm = "none",
        gate_norm: GateNorm = "none",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        S = dims.num_scenarios
        E = S if num_experts == "scenarios" else num_experts
        self.experts = ParallelMLP(E, dims.x, expert, norm, dropout)
        self.gate = normed(GroupedLinear(S, dims.x, E), S, E, gate_norm)
        self.tower = ScenarioMLP(S, self.experts.d_out, tower, dims.num_tasks, tower_norm)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        f_BEH = self.experts(inputs.x_BD)
        g_BE = gate(self.gate(inputs.x_BD, inputs.route))
        return self.tower(mix(g_BE, f_BEH), inputs.route)
