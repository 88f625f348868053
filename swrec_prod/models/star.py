"""STAR: every weight is a shared matrix times the scenario's own (Sheng et al., CIKM 2021, arXiv 2101.11427).

    x' = PN(x): normalised with the statistics of the row's scenario
    h = ReLU((W * W_s) h + b + b_s) layer by layer from x', the last one linear: z_main
    z = z_main + MLP_aux([e_s ; x])

Shapes: B rows, D input width, T tasks.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from swrec_prod.blocks.gates import Shared
from swrec_prod.layers.composed import ComposedMLP, Init, OwnWeights, PartitionedNorm, own_linear
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.options import Norm, Rate, Widths
from swrec_prod.layers.scenario import ConditionedMLP


class STAR(ScenarioModel):
    """fcn: hidden widths of the star network. dropout: of its hidden layers. aux: of the auxiliary network. norm: of
    the hidden layers of both, in the star network with weights, and for "batch" with the rows, of the scenario only.
    scenario_dim: width of e_s (0: the auxiliary network does not see the scenario). partitioned_norm: normalise x per
    scenario (off: the paper's ablation). star_init: see ComposedLinear. rectify: the last layer of the star network
    ends as a hidden one does. own_weights: W_s is "full", the paper's, or "rank_one", an outer product, the fast choice
    for hundreds of scenarios.

    The paper does not say how W starts: W_s and the scale start at one, so that all scenarios begin as one network. The
    public code normalises every scenario with the whole batch's statistics, when it scores too, adds a ReLU to the last
    layer, so that z_main is never negative, and hides the scenario from the auxiliary network; here are none of these.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        fcn: Widths = (128, 64, 32),
        aux: Widths = (32,),
        scenario_dim: Annotated[int, Ge(0)] = 16,
        partitioned_norm: bool = True,
        star_init: Init = "ones",
        own_weights: OwnWeights = "full",
        rectify: bool = False,
        norm: Norm = "none",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        S, D, T = dims.num_scenarios, dims.x, dims.num_tasks
        self.norm = PartitionedNorm(S, D) if partitioned_norm else None
        widths, d_out = ((*fcn, T), None) if rectify else (fcn, T)
        self.star = ComposedMLP(S, D, widths, d_out, dropout, own_linear(own_weights), norm, star_init)
        self.aux = ConditionedMLP(S, scenario_dim, D, aux, T, norm) if scenario_dim else Shared(MLP(D, aux, T, norm))

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        x_BD = inputs.x_BD if self.norm is None else self.norm(inputs.x_BD, inputs.route)
        return self.star(x_BD, inputs.route) + self.aux(inputs.x_BD, inputs.route)
