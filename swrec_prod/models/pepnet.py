"""PEPNet: the scenario's gate on the input, then the personal gates on every layer (Chang et al., KDD 2023).

    x' = GateNU([e_s ; sg(x)]) * x                                                            EPNet
    delta_l = GateNU_l([o ; sg(a')]),  h_0 = x',  h_l = ReLU(W_l h_{l-1}) * delta_l,  z = w h_L   PPNet

o: the prior ids, as they are in x; a': all other features, as they are in x'; sg stops the gradient.

Shapes: B rows, D input width, H_l width of layer l, T tasks.
"""

from __future__ import annotations

from torch import Tensor

from swrec_prod.blocks.gates import GatedTower, PersonalGates, ScenarioGate, Sharing, Tower
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.options import Norm, Rate, Width, Widths


class PEPNet(ScenarioModel):
    """scenario_dim: width of the scenario embedding e_s. prior: names of the features in o (none: the user's id and the
    item's). hidden: widths H_l. norm, dropout: of the hidden layers. gate_hidden: hidden width of every gate (null: D
    for EPNet, H_l for PPNet). prior_dropout: of o. tower: its layers are shared, the last one per scenario, or all.
    gates: shared, or per scenario.

    The paper has a tower and gates for each task; here the tasks are columns of the last layer. Tower and gates are
    shared by default, because the input's gate already brings in the scenario.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        scenario_dim: Width = 16,
        prior: tuple[str, ...] = (),
        hidden: Widths = (128, 64, 32),
        tower: Tower = "shared",
        gates: Sharing = "shared",
        gate_hidden: Width | None = None,
        prior_dropout: Rate = 0.1,
        norm: Norm = "none",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        self.input_gate = ScenarioGate(dims.num_scenarios, scenario_dim, dims.x, gate_hidden)
        self.gates = PersonalGates(dims, prior, hidden, gate_hidden, gates, prior_dropout)
        self.tower = GatedTower(dims.num_scenarios, dims.x, hidden, dims.num_tasks, tower, norm, dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        x_BD, route = inputs.x_BD, inputs.route
        gated_BD = self.input_gate(x_BD, route) * x_BD
        return self.tower(gated_BD, self.gates(x_BD, gated_BD, route), route)
