"""SFPNet's scenario-tailoring block: gates of the scenario on features and behaviours, then residuals of the context.

Shapes: B rows, U rows of users (B or 1), D width of the features, N behaviours, d their width, Q width of a pooled
sequence, A hidden width.
Sequences are padded on the right; masks are True at real behaviours.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.layers.inputs import Route
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.scenario import ConditionedMLP

Stat = Literal["std", "var", "none", "max"]


class DistributionPooling(nn.Module):
    """[mean ; spread] of a row's behaviours, all zeros for none; "none": their mean alone, "max": their maximum alone.

    The spread is their standard deviation sqrt(v + 1e-6), or their variance v, of which embeddings that start small
    leave next to nothing. What lies in the padding does not matter. The attribute times holds Q / d.
    """

    def __init__(self, stat: Stat) -> None:
        super().__init__()
        self.stat: str = stat
        self.times = 1 if stat in ("none", "max") else 2

    def forward(self, history_BNd: Tensor, mask_UN: Tensor) -> Tensor:
        """[B, Q]. One row where the behaviours have one."""
        if self.stat == "max":
            return largest(history_BNd, mask_UN)
        real_UN = mask_UN.to(history_BNd.dtype)
        count_U1 = real_UN.sum(1, keepdim=True)
        share_B1N = (real_UN / count_U1.clamp(min=1)).unsqueeze(1).expand(history_BNd.shape[0], -1, -1)
        mean_B1d = torch.bmm(share_B1N, history_BNd)
        if self.stat == "none":
            return mean_B1d.squeeze(1)
        spread_Bd = torch.bmm(share_B1N, (history_BNd - mean_B1d).square()).squeeze(1)
        if self.stat == "std":
            spread_Bd = (spread_Bd + 1e-6).sqrt() * count_U1.clamp(max=1)
        return torch.cat([mean_B1d.squeeze(1), spread_Bd], 1)

    def scaled(self, pooled_BQ: Tensor, gate_Bd: Tensor) -> Tensor:
        """What forward would give for gate * history, without another pass over the behaviours: [B, Q]."""
        if self.times == 1:  # gates are positive, so that the maximum stays where it is
            return pooled_BQ * gate_Bd
        return pooled_BQ * torch.cat([gate_Bd, gate_Bd.square() if self.stat == "var" else gate_Bd], 1)


def largest(history_BNd: Tensor, mask_UN: Tensor) -> Tensor:
    """The maximum of a row's behaviours, each coordinate for itself; zeros for none: [B, d]."""
    real_BNd = history_BNd.masked_fill(~mask_UN.unsqueeze(2), -float("inf"))
    largest_Bd = F.pad(real_BNd, [0, 0, 0, 1], value=-float("inf")).amax(1)  # the longest history may be empty
    return largest_Bd.masked_fill(~mask_UN.any(1, keepdim=True), 0.0)


class TailoringBlock(nn.Module):
    """Features x and behaviours b, made to fit the scenario and then the context (Zhang et al., SIGIR 2024, sec. 4).

        p = pool(b),  [g_x ; g_b] = 2 sigmoid(MLP([e_s ; sg(x) ; sg(p)]))
        x~ = g_x * x,  b~_n = g_b * b_n,  p~ = pool(b~),  [c_x ; c_b] = MLP([x~ ; p~])
        x' = norm(x~ + c_x),  b'_n = norm(b~_n + W ReLU(W_b b~_n + c_b + W_t t))

    t: the target item; sg stops the gradient. gate, context, behaviour: hidden widths. c_b is added where W_c c would
    be, with c the context of everything: both are linear in the hidden layer of the MLP. norm: "layer", or none.
    """

    def __init__(
        self,
        num_scenarios: int,
        scenario_dim: int,
        width: int,
        d: int,
        stat: Stat,
        gate: int,
        context: int,
        behaviour: int,
        norm: Literal["none", "layer"],
    ) -> None:
        super().__init__()
        self.pool = DistributionPooling(stat)
        d_in = width + self.pool.times * d
        self.gate = ConditionedMLP(num_scenarios, scenario_dim, d_in, (gate,), width + d)
        self.context = MLP(d_in, (context,), width + behaviour)
        self.behaviour = nn.Linear(d, behaviour, bias=False)
        self.target = nn.Linear(d, behaviour, bias=False)
        self.residual = nn.Linear(behaviour, d)
        self.norm_x = nn.LayerNorm(width) if norm == "layer" else nn.Identity()
        self.norm_b = nn.LayerNorm(d) if norm == "layer" else nn.Identity()
        self.gate_widths, self.context_widths = [width, d], [width, behaviour]

    def forward(
        self, x_BD: Tensor, b_UNd: Tensor, mask_UN: Tensor, target_Bd: Tensor, route: Route
    ) -> tuple[Tensor, Tensor]:
        """x' [B, D] and b' [B, N, d]: x and t tailor the behaviours of one user for every row anew."""
        p_BQ = self.pool(b_UNd, mask_UN).expand(x_BD.shape[0], -1)
        gates = (2 * self.gate(torch.cat([x_BD, p_BQ], 1).detach(), route).sigmoid()).split(self.gate_widths, 1)
        x_BD, b_BNd = gates[0] * x_BD, gates[1].unsqueeze(1) * b_UNd
        context = self.context(torch.cat([x_BD, self.pool.scaled(p_BQ, gates[1])], 1)).split(self.context_widths, 1)
        hidden_BNA = (self.behaviour(b_BNd) + (context[1] + self.target(target_Bd)).unsqueeze(1)).relu_()
        return self.norm_x(x_BD + context[0]), self.norm_b(b_BNd + self.residual(hidden_BNA))
