"""M-scan: attend to all behaviours through those of the current scenario (Zhu et al., WWW 2024, eq. 4-6 and 14-17).

    S_u: the behaviours of H_u in the row's scenario
    h = GRU(S_u),  R_h = CoAttention(H_u, i, S_u),  y_m = FFN([u ; i ; s ; h ; R_h])

The bias eliminator, the other half of the paper, is blocks/debias.py and serves every model.

Shapes: B rows, U rows of users (B or 1), G rows of users in a scenario (1 where both are one, else B), D input width
(x = [u ; i ; context]), N behaviours, K of them in S_u, d their width, T tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from swrec_prod.blocks.attention import CoAttention, same_scenario
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.options import Norm, Rate, Width, Widths
from swrec_prod.layers.pooling import LastState
from swrec_prod.layers.scenario import ConditionedMLP


class MScan(ScenarioModel):
    """use_saca: the co-attention (off: the paper's ablation without R_h). attention: its hidden width. gru: width of
    the scenario encoder. max_same: how many of the latest behaviours S_u keeps. ffn: hidden widths of the main network.
    norm, dropout: of its hidden layers. scenario_dim: width of the scenario embedding s.

    Where clicks are rare it learns slowly without a norm. The paper states no widths; these defaults are ours. nn.GRU
    resets after the recurrent product and names the update gate the other way round: the capacity of eq. 4 is the same.
    """

    reads_history = True
    debiased = True

    def __init__(
        self,
        dims: Dims,
        *,
        use_saca: bool = True,
        attention: Width = 64,
        gru: Width = 32,
        max_same: Width = 10,
        ffn: Widths = (200, 80),
        scenario_dim: Width = 16,
        norm: Norm = "none",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        if dims.item == 0:
            raise ValueError(
                "mscan reads behaviours, but the data have none: the schema needs a feature of kind: sequence"
            )
        self.max_same = max_same
        self.encoder = LastState(dims.item, gru)
        self.co_attention = CoAttention(dims.item, attention) if use_saca else None
        d_in = dims.x + gru + (dims.item if use_saca else 0)
        self.ffn = ConditionedMLP(dims.num_scenarios, scenario_dim, d_in, ffn, dims.num_tasks, norm, dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """The interest logits y_m: [B, T]."""
        history_UNd, mask_UN = inputs.history_UNd, inputs.mask_UN
        same_GKd, same_mask_GK = same_scenario(
            history_UNd, mask_UN, inputs.history_scenario_UN, inputs.route.scenario_B, self.max_same
        )
        parts = [inputs.x_BD, self.encoder(same_GKd, same_mask_GK).expand(inputs.x_BD.shape[0], -1)]
        if self.co_attention is not None:
            parts.append(self.co_attention(history_UNd, mask_UN, same_GKd, same_mask_GK, inputs.target_Bd))
        return self.ffn(torch.cat(parts, 1), inputs.route)
