"""PPNet, the parameter half of PEPNet: gates in (0, 2) of the ids of user and item rescale the hidden units of every
layer (Chang et al., KDD 2023).

    delta_l = GateNU_l([o ; sg(a)]),  h_0 = [o ; a] = x,  h_l = ReLU(W_l h_{l-1}) * delta_l,  z = w h_L

o: the prior ids, a: all other features, sg stops the gradient (of the gate's input only: the tower trains every
embedding).

Shapes: B rows, D input width, H_l width of layer l, T tasks.
"""

from __future__ import annotations

from torch import Tensor

from swrec_prod.blocks.gates import GatedTower, PersonalGates, Sharing, Tower
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.options import Norm, Rate, Width, Widths


class PPNet(ScenarioModel):
    """prior: names of the features in o (none: the user's id and the item's). hidden: widths H_l. norm, dropout: of the
    hidden layers. tower: its layers are per scenario, the last one only, or shared. gates: shared, or per scenario.
    With both shared the scenario is known through x only; with hundreds of scenarios "last_layer" is the fast choice.
    gate_hidden: hidden width of every gate (null: H_l). prior_dropout: of o, so that gates do not learn rare ids by
    heart.

    The paper has a tower and gates for each task; here the scenario takes the place of the task, the gates are shared
    because they carry personalisation and not the scenario, and all tasks are columns of the last layer. The public
    benchmark feeds the tower with the detached input, so that no embedding outside o learns; ours does not.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        prior: tuple[str, ...] = (),
        hidden: Widths = (128, 64, 32),
        tower: Tower = "per_scenario",
        gates: Sharing = "shared",
        gate_hidden: Width | None = None,
        prior_dropout: Rate = 0.1,
        norm: Norm = "none",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        self.gates = PersonalGates(dims, prior, hidden, gate_hidden, gates, prior_dropout)
        self.tower = GatedTower(dims.num_scenarios, dims.x, hidden, dims.num_tasks, tower, norm, dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        gates = self.gates(inputs.x_BD, inputs.x_BD, inputs.route)
        return self.tower(inputs.x_BD, gates, inputs.route)
