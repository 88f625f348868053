"""AdaSparse: a pruner before every layer turns neurons down or off for the row's scenario (Yang et al., CIKM 2022).

    h_0 = x,  h_l = ReLU(W_l (pi_{l-1} * h_{l-1}) + b_l), W_1 reads e_s too,  z = W (pi_L * h_L) + b
    pi_l = Pruner(Q_l [h_l ; e_s])
    R = 1/L sum_l lambda |r_l - r|, r_l the part of neurons that layer l prunes, r the middle of the wanted range

Shapes: B rows, N neurons of a layer (D input width first), L layers, T tasks.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor, nn

from swrec_prod.blocks.pruning import Form, PrunedLinear, Pruner, Ramp, pruned_share
from swrec_prod.layers.fields import what_is_read
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.mlp import activation
from swrec_prod.layers.options import Norm, Rate, Width, Widths
from swrec_prod.layers.scenario import ScenarioEmbedding

Positive = Annotated[float, Gt(0)]


class AdaSparse(ScenarioModel):
    """hidden: widths. norm, dropout: of hidden layers. scenario_dim: width of e_s. form: of the factors, see Pruner.
    beta: what the factors that count are multiplied by. epsilon: factors up to it are cut off. pruner_input: "domain"
    leaves h_l out of the pruner. alpha: first and last steepness of the pruner's sigmoid. ramp_steps: training steps in
    which alpha goes from first to last, and lambda to ten times its start. sparsity: lambda at the start (0: without
    R); sparsity_range: the wanted r_l, within which lambda is 0. dense: read the dense features too.

    The paper leaves open the gradient of the step, how lambda grows and whether it is a constant in R: see Pruner; in a
    straight line; it is, times |r_l - r|. In the public code a pruned neuron changes its sign, alpha moves when the
    model scores, and R is missing.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        hidden: Widths = (32, 32),
        scenario_dim: Width = 16,
        form: Form = "fusion",
        pruner_input: Literal["both", "domain"] = "both",
        alpha: tuple[Positive, Positive] = (0.1, 5.0),
        beta: Annotated[float, Ge(1)] = 2.0,
        epsilon: Rate = 0.25,
        ramp_steps: Width = 1000,
        sparsity: Annotated[float, Ge(0)] = 0.01,
        sparsity_range: tuple[Rate, Rate] = (0.15, 0.25),
        dense: bool = True,
        norm: Norm = "none",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        self.low, self.high = sparsity_range
        if self.low > self.high:
            raise ValueError(f"sparsity_range: {self.low} is above {self.high}; give the lower limit first")
        self.read, d_x = what_is_read(dims, dense)
        self.shares = [(*hidden, dims.num_tasks)[0], d_x, *hidden]
        self.scenario = ScenarioEmbedding(
            dims.num_scenarios, scenario_dim, nn.Linear(scenario_dim, sum(self.shares), bias=False)
        )
        activations = [nn.Identity(), *(nn.Sequential(*activation(width, norm, dropout)) for width in hidden)]
        self.layers = nn.ModuleList()
        for before, (i, o) in zip(activations, itertools.pairwise((d_x, *hidden, dims.num_tasks)), strict=True):
            pruner = Pruner(i, form, Ramp(*alpha, ramp_steps), beta, epsilon, pruner_input == "both")
            self.layers.append(PrunedLinear(before, pruner, nn.Linear(i, o)))
        self.weight = Ramp(sparsity, 10 * sparsity, ramp_steps)
        self.prunes = form != "scaling" and sparsity > 0

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        return self.pruned(inputs)[0]

    def forward_with_losses(self, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits [B, T] and, in training, the sparsity regulariser R."""
        z_BT, keeps = self.pruned(inputs)
        if not (self.prunes and self.training):
            return z_BT, {}
        return z_BT, {"sparsity": self.penalty(pruned_share(keeps))}

    def pruned(self, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
        """Logits [B, T], and of each layer which neurons were kept: [B, N]."""
        shares = self.scenario(inputs.route).split(self.shares, 1)
        y_BN, keeps = self.read(inputs.x_BD), []
        for index, layer in enumerate(self.layers):
            y_BN, keep_BN = layer(y_BN, shares[index + 1])
            keeps.append(keep_BN)
            if index == 0:
                y_BN = y_BN + shares[0]
        return y_BN, keeps

    def penalty(self, r_L: Tensor) -> Tensor:
        """R, with lambda = weight |r_l - r| outside the wanted range and 0 inside."""
        distance_L = (r_L - (self.low + self.high) / 2).abs()
        outside_L = (r_L < self.low) | (r_L > self.high)
        return (self.weight() * outside_L * distance_L.detach() * distance_L).mean()
