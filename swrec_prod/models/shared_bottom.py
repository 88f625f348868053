"""SharedBottom: one network for all scenarios, one small tower for each (Caruana, Machine Learning 28, 1997).

    h = MLP(x),  z = MLP_s(h)

Shapes: B rows, D input width, H bottom width, T tasks.
"""

from __future__ import annotations

from torch import Tensor

from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.options import Norm, Rate, Widths
from swrec_prod.layers.scenario import ScenarioMLP


class SharedBottom(ScenarioModel):
    """bottom: hidden widths shared by all scenarios (empty: they share the embeddings only, M-scan's baseline).
    tower: hidden widths of each scenario's tower. norm, dropout: of the bottom; tower_norm: of the towers, whose
    "batch" sees the rows of the tower's own scenario only.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        bottom: Widths = (128,),
        tower: Widths = (8,),
        norm: Norm = "none",
        tower_norm: Norm = "none",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        self.bottom = MLP(dims.x, bottom, norm=norm, dropout=dropout)
        self.tower = ScenarioMLP(dims.num_scenarios, self.bottom.d_out, tower, dims.num_tasks, tower_norm)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        h_BH = self.bottom(inputs.x_BD)
        return self.tower(h_BH, inputs.route)
