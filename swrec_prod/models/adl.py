"""ADL: rows are clustered, and each cluster has its own factor of a shared network (Li et al., SIGIR 2023; AdaptDHM).

    x' = [x ; e_s],  k = the cluster whose centre is most like x' (no gradient passes)
    h = ReLU((W * W_k) h + b + b_k) layer by layer from x', the last one linear: z

Shapes: B rows, D input width, E width of e_s, I = D + E, K clusters, T tasks.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from swrec_prod.blocks.clusters import Clusters, Mode
from swrec_prod.layers.composed import ClusterLinear, ComposedMLP, Init
from swrec_prod.layers.fields import what_is_read
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs, make_route
from swrec_prod.layers.options import Rate, Width, Widths
from swrec_prod.layers.scenario import ScenarioEmbedding


class ADL(ScenarioModel):
    """clusters: how many, K. fcn: hidden widths. dropout: of hidden layers. scenario_dim: width of e_s; nothing else
    depends on the scenario. adl_mode: how centres move ("paper": as published, and they collapse; see Clusters).
    momentum: of the centres. temperature: of "stable". warmup: batches that "stable" assigns at random first. init: see
    ComposedLinear. dense: read the dense features too.

    The public code creates biases and never adds them, loses the centres when a model is saved, and starts W_k at
    random, so that products vanish; here biases count, centres are saved, and W_k starts at one.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        clusters: Width = 3,
        fcn: Widths = (64, 64),
        scenario_dim: Width = 16,
        adl_mode: Mode = "stable",
        momentum: Rate = 0.9,
        temperature: Annotated[float, Gt(0)] = 0.05,
        warmup: Annotated[int, Ge(0)] = 200,
        init: Init = "ones",
        dense: bool = True,
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        self.read, d_x = what_is_read(dims, dense)
        d_in = d_x + scenario_dim
        self.num_clusters = clusters
        self.scenario = ScenarioEmbedding(dims.num_scenarios, scenario_dim)
        self.clusters = Clusters(d_in, clusters, adl_mode, momentum, temperature, warmup)
        self.network = ComposedMLP(clusters, d_in, fcn, dims.num_tasks, dropout, ClusterLinear, init=init)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        e_BE = self.scenario(inputs.route).expand(inputs.x_BD.shape[0], -1)
        x_BI = torch.cat([self.read(inputs.x_BD), e_BE], 1)
        k_B = self.clusters(x_BI)
        order_B = torch.argsort(k_B, stable=True)
        route = make_route(k_B.index_select(0, order_B), self.num_clusters)
        z_BT = self.network(x_BI.index_select(0, order_B), route)
        return z_BT.index_select(0, torch.argsort(order_B))
