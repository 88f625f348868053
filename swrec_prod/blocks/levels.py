"""PLE's extraction levels: gates over the experts of a scenario
and those that all share (Tang et al., RecSys 2020, sec. 4).

Shapes: B rows, S scenarios, M experts of each and N shared ones, I input width, H expert width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from swrec_prod.blocks.experts import ParallelLinear, ParallelMLP, ScenarioExperts, gate, mix
from swrec_prod.layers.composed import OwnWeights
from swrec_prod.layers.grouped import GroupedLinear
from swrec_prod.layers.inputs import Route
from swrec_prod.layers.options import GateNorm, Norm
from swrec_prod.layers.scenario import normed

Scope = Literal["own", "shared_only", "all"]


class OwnPathLevel(nn.Module):
    """A level in which a row follows the path of its own scenario.

    scope: of the shared gate, None in the last level.
    """

    def __init__(
        self,
        S: int,
        M: int,
        N: int,
        d_in: int,
        expert: Sequence[int],
        norm: Norm,
        dropout: float,
        gate_norm: GateNorm,
        scope: Scope | None,
        own_weights: OwnWeights = "full",
    ) -> None:
        super().__init__()
        self.specific = ScenarioExperts(S, M, d_in, expert, norm, dropout, own_weights)
        self.shared = ParallelMLP(N, d_in, expert, norm, dropout)
        self.gate = normed(GroupedLinear(S, d_in, M + N), S, M + N, gate_norm)
        gated = scope == "own" or (scope == "shared_only" and N > 1)
        self.shared_gate = nn.Linear(d_in, N) if gated else None
        self.own_gate = GroupedLinear(S, d_in, M) if scope == "own" else None

    def forward(self, u_BI: Tensor, v_BI: Tensor, route: Route) -> tuple[Tensor, Tensor]:
        """u', v': [B, H]. Without a shared gate there is one shared expert, or v' is not read again."""
        shared_BNH = self.shared(v_BI)
        both = torch.cat([self.specific(u_BI, route), shared_BNH], 1)
        u_BH = mix(gate(self.gate(u_BI, route)), both)
        if self.shared_gate is None:
            return u_BH, shared_BNH[:, 0]
        logit_BN = self.shared_gate(v_BI)
        if self.own_gate is None:
            return u_BH, mix(gate(logit_BN), shared_BNH)
        return u_BH, mix(gate(torch.cat([self.own_gate(v_BI, route), logit_BN], 1)), both)


class AllPathsLevel(nn.Module):
    """A level in which every row follows the paths of all scenarios."""

    def __init__(self, S: int, M: int, N: int, d_in: int, expert: Sequence[int], norm: Norm, dropout: float) -> None:
        super().__init__()
        self.specific = ParallelMLP(S * M, d_in, expert, norm, dropout)
        self.shared = ParallelMLP(N, d_in, expert, norm, dropout)
        self.gate = ParallelLinear(S, d_in, M + N)
        self.shared_gate = nn.Linear(d_in, S * M + N)
        self.S, self.M = S, M

    def forward(self, u: Tensor, v_BI: Tensor) -> tuple[Tensor, Tensor]:
        """u: [B, I], the same for all scenarios, or [B, S, I]. u': [B, S, H], v': [B, H]."""
        specific = self.specific(u if u.dim() == 2 else u.repeat_interleave(self.M, 1))
        shared_BNH = self.shared(v_BI)
        both = torch.cat(
            [specific.unflatten(1, (self.S, self.M)), shared_BNH.unsqueeze(1).expand(-1, self.S, -1, -1)], 2
        )
        v_BH = mix(gate(self.shared_gate(v_BI)), torch.cat([specific, shared_BNH], 1))
        return mix(gate(self.gate(u)), both), v_BH
