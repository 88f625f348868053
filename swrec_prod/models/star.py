"""STAR: every weight is a shared matrix times the scenario's own (Sheng et al., CIKM 2021, arXiv 2101.11427).

    x' = PN(x): normalised with the statistics of the row's scenario
    h = ReLU((W * W_s) h + b + b_s) layer by layer from x', the last one linear: z_main
    z = z_main + MLP_aux([e_s ; x])

Shapes: B rows, D input width, T tasks.
"""

from __future__ import annotations

from torch import Tensor

from swrec_prod.blocks.composed import ComposedMLP, PartitionedNorm
from swrec_prod.blocks.folding import ScenarioModel
from swrec_prod.blocks.inputs import Dims, Inputs
from swrec_prod.blocks.options import Rate, Width, Widths
from swrec_prod.blocks.scenario import ConditionedMLP


class STAR(ScenarioModel):
    """fcn: hidden widths of the star network, with `dropout`; aux: of the auxiliary network. scenario_dim: width of e_s.
    partitioned_norm: normalise x per scenario (off: the paper's ablation).

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
        scenario_dim: Width = 16,
        partitioned_norm: bool = True,
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        self.norm = PartitionedNorm(dims.num_scenarios, dims.x) if partitioned_norm else None
        self.star = ComposedMLP(dims.num_scenarios, dims.x, fcn, dims.num_tasks, dropout)
        self.aux = ConditionedMLP(dims.num_scenarios, scenario_dim, dims.x, aux, dims.num_tasks)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        x_BD = inputs.x_BD if self.norm is None else self.norm(inputs.x_BD, inputs.route)
        return self.star(x_BD, inputs.route) + self.aux(inputs.x_BD, inputs.route)
