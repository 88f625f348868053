"""CSII: rows that pass other scenarios' experts, through filters of what transfers,
and the attention over what these say.

Shapes: B rows, S scenarios, M other scenarios (targets) that a row visits, R = B (M + 1) visits with those at home, D
width of x, P fields, H expert width, K slots of an expert, W = H / K, A key width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.blocks.experts import ParallelLinear, ScenarioExperts, gate, mix
from swrec_prod.layers.composed import OwnWeights
from swrec_prod.layers.folding import fold_blocks
from swrec_prod.layers.inputs import Field, Route, make_route
from swrec_prod.layers.options import Norm
from swrec_prod.layers.ranks import sum_over_ranks
from swrec_prod.layers.scenario import ConditionedMLP

PERIOD = 500  # steps of training between two choices of targets
DECAY = 0.9  # of the running mean of attention logits, a step
Distance = Literal["euclidean", "manhattan", "cosine"]


class Targets(nn.Module):
    """The M scenarios that rows of each scenario visit: chosen, int64 [S, M], never a row's own.

    With M < S - 1 the first PERIOD steps of training draw them (from the step's number: alike on all ranks, and after a
    restart); then, and every PERIOD steps, they are those with the largest logit [S, S], the running mean over all
    ranks' rows of what attention says before its softmax, whose weights would depend on which targets compete.
    """

    def __init__(self, num_scenarios: int, count: int) -> None:
        super().__init__()
        self.chosen = nn.Buffer(_others(num_scenarios, torch.arange(count)))
        self.logit = nn.Buffer(torch.zeros(num_scenarios, num_scenarios).fill_diagonal_(-math.inf))
        self.steps = nn.Buffer(torch.zeros((), dtype=torch.int64))
        self.all = count == num_scenarios - 1

    def forward(self, route: Route) -> Tensor:
        """[B, M]"""
        return self.chosen.index_select(0, route.scenario_B)

    def learn(self, logit_BM: Tensor, scenario_B: Tensor) -> None:
        """Follow a batch's attention logits, and choose the next batch's targets;
        does nothing in eval or where all are visited.
        """
        if torch.jit.is_scripting():
            return
        if not self.training or self.all:
            return
        self.follow(logit_BM.detach().float(), scenario_B)
        self.steps.add_(1)
        step, (scenarios, count) = int(self.steps), self.chosen.shape
        if step < PERIOD:
            drawn = torch.randperm(scenarios - 1, generator=torch.Generator().manual_seed(step), device="cpu")[:count]
            self.chosen.copy_(_others(scenarios, drawn))
        elif step % PERIOD == 0:
            self.chosen.copy_(self.logit.topk(count).indices)

    def follow(self, logit_BM: Tensor, scenario_B: Tensor) -> None:
        """Move the running logits of the pairs in the batch; pairs that are seldom seen stay near 0."""
        told_BN = torch.cat([logit_BM, torch.ones_like(logit_BM[:, :1])], 1)
        sums_SN = sum_over_ranks(
            told_BN.new_zeros(self.chosen.shape[0], told_BN.shape[1]).index_add(0, scenario_B, told_BN)
        )
        rows_S1 = sums_SN[:, -1:]
        before_SM = self.logit.gather(1, self.chosen)
        after_SM = torch.lerp(sums_SN[:, :-1] / rows_S1.clamp(min=1), before_SM, DECAY)
        self.logit.scatter_(1, self.chosen, torch.where(rows_S1 > 0, after_SM, before_SM))


class TransferFilter(nn.Module):
    """r * y for a row of scenario s that visits t, with y = x * (1 + a_s * b_t) + g_t and, for each field p,

        r_p = exp(-distance(y_p, v_tp))

    v_t: the learned anchor of t, near which features transfer. distance: "euclidean", over sqrt(width of p);
    "manhattan", over the width; or "cosine", one less the cosine. y starts near x and v at 0, where no cosine is: for
    that one it is drawn. Without fields x is one field.
    """

    def __init__(
        self, num_scenarios: int, fields: Sequence[Field], width: int, distance: Distance = "euclidean"
    ) -> None:
        super().__init__()
        self.distance: str = distance
        fields = fields or (Field("x", 0, width, "context", "dense"),)
        self.source = nn.Parameter(torch.randn(num_scenarios, width) * 0.1)
        self.target = nn.Parameter(torch.randn(num_scenarios, width) * 0.1)
        self.shift = nn.Parameter(torch.zeros(num_scenarios, width))
        zeros_SD = torch.zeros(num_scenarios, width)
        self.anchor = nn.Parameter(torch.randn_like(zeros_SD) * 0.1 if distance == "cosine" else zeros_SD)
        member_PD = torch.zeros(len(fields), width)
        for p, field in enumerate(fields):
            member_PD[p, field.start : field.start + field.width] = 1
        self.member = nn.Buffer(member_PD, persistent=False)
        self.mean = nn.Buffer((member_PD / member_PD.sum(1, keepdim=True)).t().contiguous(), persistent=False)

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """[..., D].

        source, target: the scenarios s and t, int64; their dimensions, and those of x [..., D], broadcast.
        """
        y = x * (1 + F.embedding(source, self.source) * F.embedding(target, self.target)) + F.embedding(
            target, self.shift
        )
        return y * ((-self.distances(y, F.embedding(target, self.anchor))).exp() @ self.member)

    def distances(self, y: Tensor, v: Tensor) -> Tensor:
        """Of every field of y [..., D] from that of v: [..., P]. 1e-8: a gradient at distance 0."""
        if self.distance == "manhattan":
            return (y - v).abs() @ self.mean
        if self.distance == "cosine":
            lengths = ((y.square() @ self.mean) * (v.square() @ self.mean) + 1e-8).sqrt()
            return 1 - ((y * v) @ self.mean) / lengths
        return ((y - v).square() @ self.mean + 1e-8).sqrt()


class CrossExperts(nn.Module):
    """What F_s says of x, and what each F_t says of the filtered x:
    one expert F for each scenario, the same on both paths.

    widths: of an expert's layers, all with a ReLU. own_weights: see ScenarioExperts. distance: of the filter. Rows at
    home and visits are sorted together, so that the experts' weights are read once and the cost is that of B (M + 1)
    rows.
    """

    def __init__(
        self,
        num_scenarios: int,
        fields: Sequence[Field],
        d_in: int,
        widths: Sequence[int],
        norm: Norm = "none",
        dropout: float = 0.0,
        own_weights: OwnWeights = "full",
        distance: Distance = "euclidean",
    ) -> None:
        super().__init__()
        self.filter = TransferFilter(num_scenarios, fields, d_in, distance)
        self.experts = ScenarioExperts(num_scenarios, 1, d_in, widths, norm, dropout, own_weights)
        self.num_scenarios = num_scenarios

    def forward(self, x_BD: Tensor, target_BM: Tensor, route: Route) -> tuple[Tensor, Tensor]:
        """h [B, H] and u [B, M, H]. target: the scenarios to visit."""
        rows, visits = target_BM.shape
        y_BMD = self.filter(x_BD.unsqueeze(1), route.scenario_B.unsqueeze(1), target_BM)
        visited_R, order_R = torch.cat([route.scenario_B, target_BM.flatten()]).sort(stable=True)
        x_RD = torch.cat([x_BD, y_BMD.flatten(0, 1)]).index_select(0, order_R)
        u_RH = (
            self.experts(x_RD, make_route(visited_R, self.num_scenarios)).squeeze(1).index_select(0, order_R.argsort())
        )
        return u_RH[:rows], u_RH[rows:].view(rows, visits, u_RH.shape[1])

    def folded(self) -> nn.Module:
        """For a batch of one scenario: M + 1 plain networks."""
        return OneSource(copy.deepcopy(self.filter), fold_blocks(self.experts))


class OneSource(nn.Module):
    """CrossExperts for a batch of one scenario; target: [1, M]."""

    def __init__(self, transfer: TransferFilter, experts: nn.Module) -> None:
        super().__init__()
        self.filter, self.experts = transfer, experts

    def forward(self, x_BD: Tensor, target_BM: Tensor, route: Route) -> tuple[Tensor, Tensor]:
        """h [B, H] and u [B, M, H]"""
        h_B1H = self.experts(x_BD, route)
        visited = [h_B1H[:, :0]]
        for j in range(target_BM.shape[1]):
            target = target_BM[0, j : j + 1]
            there = Route(target, [x_BD.shape[0]], route.ends_S)
            visited.append(self.experts(self.filter(x_BD, route.scenario_B, target), there))
        return h_B1H.squeeze(1), torch.cat(visited, 1)


class CrossAttention(nn.Module):
    """u_agg = sum_t softmax_t(q . k_t / sqrt(A)) v_t with q from [h ; e_s], k_t and v_t from what is inside u_t.

    Inside: u_t is cut into K slots, which attend to each other; their mean is u^_t. Each slot has projections of its
    own: with one for all, the mean would not know one slot from another. Raises ValueError where `slots` does not
    divide H.
    """

    def __init__(self, num_scenarios: int, scenario_dim: int, width: int, slots: int, key: int) -> None:
        super().__init__()
        if width % slots:
            raise ValueError(f"slots: {slots} slots do not divide an expert of width {width}")
        self.slots, self.split = slots, [key, width]
        self.inside = ParallelLinear(slots, width // slots, 3 * width // slots)
        self.query = ConditionedMLP(num_scenarios, scenario_dim, width, (), key)
        self.key_value = nn.Linear(width // slots, key + width, bias=False)

    def forward(self, h_BH: Tensor, u_BMH: Tensor, route: Route) -> tuple[Tensor, Tensor]:
        """u_agg [B, H], and the logits of the softmax [B, M]."""
        pairs = self.key_value(self.summary(u_BMH)).split(self.split, 2)
        q_BA = self.query(h_BH, route)
        logit_BM = (q_BA.unsqueeze(1) * pairs[0]).sum(2) / math.sqrt(q_BA.shape[1])
        return mix(gate(logit_BM), pairs[1]), logit_BM

    def summary(self, u_BMH: Tensor) -> Tensor:
        """u^: [B, M, W]"""
        rows, visits, width = u_BMH.shape
        slot_RKW = u_BMH.reshape(rows * visits, self.slots, width // self.slots)
        q, k, v = self.inside(slot_RKW).chunk(3, 2)
        return F.scaled_dot_product_attention(q, k, v).mean(1).view(rows, visits, width // self.slots)


def _others(num_scenarios: int, offset_M: Tensor) -> Tensor:
    """For every scenario those that follow at 1 + offset, in a circle, offsets in [0, S - 2]: int64 [S, M]."""
    return (torch.arange(num_scenarios, device=offset_M.device).unsqueeze(1) + 1 + offset_M) % num_scenarios
