"""EPNet, the embedding half of PEPNet: a gate in (0, 2) of the scenario rescales every coordinate of the input
(Chang et al., KDD 2023).

    delta = GateNU([e_s ; sg(x)]),  z = MLP(delta * x)

sg stops the gradient: only the gate's input is detached, the product is not.

Shapes: B rows, D input width, T tasks.
"""

from __future__ import annotations

from torch import Tensor

from swrec_prod.blocks.gates import ScenarioGate
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.options import Norm, Rate, Width, Widths


class EPNet(ScenarioModel):
    """scenario_dim: width of the scenario embedding e_s. gate_hidden: hidden width of the gate (null: D, as in the
    paper). hidden: widths of the network, which is one for all scenarios. norm, dropout: of hidden layers.

    The public benchmark's EPNet ignores its layer list and ends in one Linear; `hidden: []` is that model.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        scenario_dim: Width = 16,
        gate_hidden: Width | None = None,
        hidden: Widths = (128, 64, 32),
        norm: Norm = "none",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        self.gate = ScenarioGate(dims.num_scenarios, scenario_dim, dims.x, gate_hidden)
        self.mlp = MLP(dims.x, hidden, dims.num_tasks, norm, dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        x_BD = inputs.x_BD
        return self.mlp(self.gate(x_BD, inputs.route) * x_BD)
