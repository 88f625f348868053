"""AESM2: experts chosen for each row by what their gates say of them (Zou et al., SIGIR 2022, sec. 3).

One layer, from h (x at first); all S scenarios have a gate, of which the row uses that of its own scenario s:

    G = W_g [h ; e_s] in R^{E x S},  P_k = softmax over the scenarios of G_k + noise
    specific_k = KL(onehot(s) || P_k) = -log P_k[s]
    shared_k = KL(uniform || P_k) = -log S - mean_j log P_k[j]
    A = the experts with the smallest specific_k, and those with the smallest shared_k
    h' = sum_{k in A} softmax_{k in A}(G_k[s]) f_k(h),  z = MLP(h')

Shapes: B rows, S scenarios, E experts, I input width of a layer, H expert width, T tasks.
"""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor, nn

from swrec_prod.blocks.experts import ParallelMLP
from swrec_prod.blocks.selection import AllGates, ChosenExperts
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.options import Norm, Rate, Width, Widths

Weight = Annotated[float, Ge(0)]


class AESM2(ScenarioModel):
    """layers: how many. num_experts: E of each layer, all computed for every row. num_specific, num_shared: how many
    are chosen by each score; one expert can be chosen by both and counts once. expert: layer widths of each, all with a
    ReLU. tower: hidden widths of the network that all scenarios share. norm, dropout: of experts and tower.

    gate_form: "full", the paper's, has a gate of its own for each scenario and costs a row I S E products; "lowrank"
    has G_k[j] = <q_k([h ; e_s]), v_j> with vectors of width `rank`, much less from some 32 scenarios on: the choice
    compares all scenarios, so that a part, S E rank, always grows. rank: of "lowrank". scenario_dim: width of e_s.

    noise_scale: in training the choice sees G + noise_scale E N(0, 1); the mixture does not.

    specific_weight, shared_weight: of the auxiliary losses, the mean scores of the chosen experts, which pull both
    kinds apart.

    A released code multiplies logits by masks, with which an expert that is not chosen can win and one that is chosen
    twice counts twice; here the others are masked out. Sizes and weights of the losses are ours, the paper's are not
    known. Scenarios are a flat list (a tree of depth 1), and tasks share the last layer: with one scenario all experts
    are mixed.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        layers: Width = 1,
        num_experts: Width = 8,
        num_specific: Width = 2,
        num_shared: Width = 2,
        expert: Widths = (64,),
        tower: Widths = (64, 32),
        gate_form: Literal["full", "lowrank"] = "full",
        rank: Width = 16,
        scenario_dim: Width = 16,
        noise_scale: Weight = 0.1,
        specific_weight: Weight = 0.01,
        shared_weight: Weight = 0.01,
        norm: Norm = "none",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        if max(num_specific, num_shared) > num_experts:
            raise ValueError(
                f"num_specific and num_shared choose from num_experts {num_experts}, "
                f"not {max(num_specific, num_shared)}"
            )
        if dims.num_scenarios == 1:  # every score is 0
            num_specific = num_experts
        self.specific_weight, self.shared_weight = specific_weight, shared_weight
        self.layers = nn.ModuleList()
        for d_in in [dims.x, *expert[-1:] * (layers - 1)]:
            gates = AllGates(
                dims.num_scenarios, num_experts, d_in, scenario_dim, rank if gate_form == "lowrank" else None
            )
            experts = ParallelMLP(num_experts, d_in, expert, norm, dropout)
            self.layers.append(ChosenExperts(gates, experts, num_specific, num_shared, noise_scale * num_experts))
        self.tower = MLP(expert[-1], tower, dims.num_tasks, norm, dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        return self.forward_with_losses(inputs)[0]

    def forward_with_losses(self, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits [B, T]; the losses "specific" and "shared", weighted."""
        h_BH = inputs.x_BD
        specific = shared = h_BH.new_zeros([])
        for layer in self.layers:
            h_BH, of_specific, of_shared = layer(h_BH, inputs.route)
            specific, shared = specific + of_specific, shared + of_shared
        return self.tower(h_BH), {"specific": specific * self.specific_weight, "shared": shared * self.shared_weight}
