"""SFPNet: features and each behaviour tailored to the scenario, block after block (Zhang et al., SIGIR 2024, sec. 4).

    x, b <- Block_l(x, b, t; s)  for l = 1 ... L           gates of the scenario, residuals of the context
    v = sum_n softmax_n(MLP([t ; b_n])) b_n                behaviours that fit the target item t
    z = MLP([x ; v])

Shapes: B rows, U rows of users (B or 1), D input width, N behaviours, d their width, T tasks.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from swrec_prod.blocks.extraction import TargetAttention
from swrec_prod.blocks.tailoring import DistributionPooling, Stat, TailoringBlock
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.options import Rate, Width, Widths
from swrec_prod.layers.pooling import masked_softmax, weighted_sum


class SFPNet(ScenarioModel):
    """blocks: how many, L. scenario_dim: width of the scenario's embedding, of which each block has its own. dap_stat:
    what stands for the spread of behaviours beside their mean, see DistributionPooling ("none": the paper's ablation;
    "max": the maximum instead of both). gate, context, behaviour: hidden widths of a block's gate, context and
    behaviour networks; block_norm: of what it gives. readout: "din", attention of the target item, or "dap", the
    pooling of the blocks. attention: hidden widths of "din". head: hidden widths of the last network. dropout: of the
    head.

    The paper's widths, and parts of its equations, are not known to us: the gate is PEPNet's, x is gated and normalised
    as a whole, so that features may have any width, and the paper's variance is our standard deviation, which small
    embeddings do not silence. Attention is a softmax, so that the length of a history does not scale v.
    """

    reads_history = True

    def __init__(
        self,
        dims: Dims,
        *,
        blocks: Width = 2,
        scenario_dim: Width = 16,
        dap_stat: Stat = "std",
        gate: Width = 64,
        context: Width = 128,
        behaviour: Width = 32,
        block_norm: Literal["none", "layer"] = "layer",
        readout: Literal["din", "dap"] = "din",
        attention: Widths = (32,),
        head: Widths = (200, 80),
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        d = dims.item
        if d == 0:
            raise ValueError(
                "sfpnet reads behaviours, but the data have none: the schema needs a feature of kind: sequence"
            )
        self.blocks = nn.ModuleList(
            TailoringBlock(dims.num_scenarios, scenario_dim, dims.x, d, dap_stat, gate, context, behaviour, block_norm)
            for _ in range(blocks)
        )
        self.attention = TargetAttention(d, attention) if readout == "din" else None
        self.pool = DistributionPooling(dap_stat)
        self.head = MLP(
            dims.x + (d if readout == "din" else self.pool.times * d), head, dims.num_tasks, dropout=dropout
        )

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        x_BD, b_BNd, mask_UN = inputs.x_BD, inputs.history_UNd, inputs.mask_UN
        for block in self.blocks:
            x_BD, b_BNd = block(x_BD, b_BNd, mask_UN, inputs.target_Bd, inputs.route)
        return self.head(torch.cat([x_BD, self.read(b_BNd, mask_UN, inputs.target_Bd)], 1))

    def read(self, b_BNd: Tensor, mask_UN: Tensor, target_Bd: Tensor) -> Tensor:
        """v, or the pooled behaviours: [B, d] or wider."""
        if self.attention is None:
            return self.pool(b_BNd, mask_UN)
        return weighted_sum(masked_softmax(self.attention(target_Bd, b_BNd), mask_UN), b_BNd)
