"""HAMUR: a network per scenario, with adapters whose weights a shared hyper-network makes from the row
(Li et al., CIKM 2023).

    H = reshape(Hyper(x)),  W_dn = U_1 H V_1,  W_up = U_2 H V_2
    h <- h + norm(act(h W_dn + b_1) W_up + b_2)  after the last hidden layers of MLP_s,  z = MLP_s(x)

W_dn and W_up are never built: ((h U) H) V takes 45 times fewer operations at the default widths.

Shapes: B rows, D input width, K rank of H, M width of a layer, T tasks; G sets of weights: B, S, or 1 in a folded
graph.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from swrec_prod.blocks.gates import Tower, layers
from swrec_prod.blocks.hyper import Adapter, AdapterNorm, InstanceWeights, ScenarioWeights, small_norm
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.options import Norm, Rate, Width, Widths

ACTS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class Hamur(ScenarioModel):
    """hidden: widths of the network. norm, dropout: of hidden layers. backbone: its layers are per scenario, the last
    one only (fast with hundreds of scenarios), or shared. adapters: how many of its last hidden layers have one (the
    paper: 1 of 2, or 2 of 7). rank: K; bottleneck: inner width of an adapter; adapter_act: what follows its first half.
    adapter_norm: "layer", or "scenario" for running statistics of each scenario; its scale starts at 0.1, so that
    adapters start small. hyper: hidden width of the hyper-network. hyper_cond: it reads the row, or an embedding of the
    scenario (then it runs once a batch and folds). scenario_dim: width of the scenario's embedding.

    The released code starts U and V at ones and H with a ReLU: all bottleneck units stay equal, half of the weights
    have no gradient, and its norm reads the batch when it scores. Here H starts at the identity, U and V at random, the
    hyper-network ends in a plain Linear, and a row's score is its own. Norms of the network: a row's own layer norm
    stands for the paper's batch norm ("batch": over the rows of the scenario).
    """

    def __init__(
        self,
        dims: Dims,
        *,
        hidden: Widths = (256, 128),
        backbone: Tower = "per_scenario",
        adapters: Width = 1,
        rank: Width = 35,
        bottleneck: Width = 32,
        adapter_act: Literal["silu", "relu", "sigmoid"] = "silu",
        adapter_norm: AdapterNorm = "layer",
        hyper: Width = 64,
        hyper_cond: Literal["instance", "scenario"] = "instance",
        scenario_dim: Width = 16,
        norm: Norm = "layer",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        if adapters > len(hidden):
            raise ValueError(f"adapters: {adapters} of them do not fit behind {len(hidden)} hidden layers")
        start, of_rows = [torch.eye(rank)], hyper_cond == "instance"
        self.hyper: nn.Module = (
            InstanceWeights(dims.x, hyper, start, std=0.02)
            if of_rows
            else ScenarioWeights(dims.num_scenarios, scenario_dim, hyper, start, std=0.02)
        )
        network, self.out = layers(dims.num_scenarios, dims.x, hidden, dims.num_tasks, backbone, norm, dropout)
        plain, widths = len(hidden) - adapters, hidden[len(hidden) - adapters :]
        self.plain, self.adapted = network[:plain], network[plain:]
        self.adapters = nn.ModuleList(
            Adapter(
                width,
                rank,
                bottleneck,
                ACTS[adapter_act](),
                small_norm(adapter_norm, dims.num_scenarios, width),
                of_rows,
            )
            for width in widths
        )

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        h_BM, route = inputs.x_BD, inputs.route
        core_GKK = self.hyper(h_BM, route)[0]
        for layer in self.plain:
            h_BM = layer(h_BM, route)
        for layer, adapter in zip(self.adapted, self.adapters):  # noqa: B905, TorchScript knows no strict=
            h_BM = adapter(layer(h_BM, route), core_GKK, route)
        return self.out(h_BM, route)
