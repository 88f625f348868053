"""DNN: embeddings and fully connected layers, the same for all scenarios; what M-scan's baselines Single, Mix and
Finetune train (Zhu et al., WWW 2024, app. A.2).

    z = MLP(x), or MLP([x ; e_s]) with the scenario as a feature; the paper does not say which

Shapes: B rows, D input width, T tasks.
"""

from __future__ import annotations

from torch import Tensor

from swrec_prod.blocks.gates import Shared
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.options import Norm, Rate, Width, Widths
from swrec_prod.layers.scenario import ConditionedMLP


class DNN(ScenarioModel):
    """hidden: widths of the layers. norm, dropout: of hidden layers. scenario_as_feature: the input has an embedding of
    the scenario too; without it, a row's score does not know where the row was shown. scenario_dim: width of the
    embedding of the scenario.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        hidden: Widths = (128, 64, 32),
        norm: Norm = "none",
        dropout: Rate = 0.0,
        scenario_as_feature: bool = False,
        scenario_dim: Width = 16,
    ) -> None:
        super().__init__()
        S, D, T = dims.num_scenarios, dims.x, dims.num_tasks
        self.net = (
            ConditionedMLP(S, scenario_dim, D, hidden, T, norm, dropout)
            if scenario_as_feature
            else Shared(MLP(D, hidden, T, norm, dropout))
        )

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        return self.net(inputs.x_BD, inputs.route)
