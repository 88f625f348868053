"""STAR's layers: what all rows share times what a group of rows has of its own. A group is a scenario or a cluster.

Shapes: B rows, G groups (S scenarios), D width, I input width, O output width.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from swrec_prod.layers.grouped import LARGE, GroupedLinear, SelectedLinear, gradient_of, grouped_linear, pieces
from swrec_prod.layers.inputs import Route
from swrec_prod.layers.options import Norm
from swrec_prod.layers.scenario import ScenarioAffine, ScenarioNorm, normed, scenario_moments

Init = Literal["ones", "kaiming", "xavier"]
OwnWeights = Literal["full", "rank_one"]


class ComposedLinear(nn.Module):
    """y_i = (W * W_g) x_i + b + b_g (STAR, CIKM 2021, eq. 4-5), g the row's group.

    weight: [O, I], group_weight: [G, O, I].

    Products are formed once a batch, never once a row. With init "ones" W starts as Kaiming says for `nonlinearity`,
    W_g at one and both biases at zero: training starts from one shared network, and a group without rows stays with it.
    "kaiming" and "xavier": see _product_init.
    """

    def __init__(
        self, groups: int, d_in: int, d_out: int, nonlinearity: Literal["relu", "linear"] = "relu", init: Init = "ones"
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_out, d_in))
        nn.init.kaiming_uniform_(self.weight, nonlinearity=nonlinearity)
        self.bias = nn.Parameter(torch.zeros(d_out))
        self.group_weight = nn.Parameter(torch.ones(groups, d_out, d_in))
        self.group_bias = nn.Parameter(torch.zeros(groups, d_out))
        if init != "ones":
            _product_init(self, init)

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, O]. Rows of x_BI are sorted by group, as `route` says."""
        if torch.jit.is_scripting():
            return _present(x_BI, self.weight, self.group_weight, self.bias + self.group_bias, route.counts)
        return composed_linear(x_BI, self.weight, self.group_weight, self.bias + self.group_bias, route)

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The products of all scenarios, for a batch of one."""
        return SelectedLinear(self.weight * self.group_weight, self.bias + self.group_bias)


class ClusterLinear(ComposedLinear):
    """ComposedLinear for groups that are not scenarios: rows of one scenario still belong to several."""

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The products, computed once, for rows of any groups."""
        groups, d_out, d_in = self.group_weight.shape
        linear = GroupedLinear(groups, d_in, d_out)
        linear.weight.copy_(self.weight * self.group_weight)
        linear.bias.copy_(self.bias + self.group_bias)
        return linear


class RankOneLinear(nn.Module):
    """ComposedLinear whose W_g is o_g i_g^T (BatchEnsemble, ICLR 2020): y = o_g * (W (i_g * x)) + b + b_g.

    A group has I + 2 O numbers instead of O (I + 1), and a row costs the same however many groups there are. o and i
    start at one and both biases at zero. Raises ValueError for another start, which would have no scale to keep.
    """

    def __init__(
        self, groups: int, d_in: int, d_out: int, nonlinearity: Literal["relu", "linear"] = "relu", init: Init = "ones"
    ) -> None:
        super().__init__()
        if init != "ones":
            raise ValueError(f"weights of rank one start at 'ones', not at {init!r}")
        self.weight = nn.Parameter(torch.empty(d_out, d_in))
        nn.init.kaiming_uniform_(self.weight, nonlinearity=nonlinearity)
        self.bias = nn.Parameter(torch.zeros(d_out))
        self.group_in = nn.Parameter(torch.ones(groups, d_in))
        self.group_out = nn.Parameter(torch.ones(groups, d_out))
        self.group_bias = nn.Parameter(torch.zeros(groups, d_out))

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        return _rank_one(
            x_BI, self.weight, self.group_in, self.group_out, self.bias + self.group_bias, route.scenario_B
        )

    def folded(self) -> nn.Module:
        """The same map without the sum of all groups' biases."""
        return SelectedRankOne(self)


class SelectedRankOne(nn.Module):
    """RankOneLinear for scoring; cost independent of the number of groups."""

    def __init__(self, linear: RankOneLinear) -> None:
        super().__init__()
        self.weight = nn.Buffer(linear.weight.detach().clone())
        self.group_in = nn.Buffer(linear.group_in.detach().clone())
        self.group_out = nn.Buffer(linear.group_out.detach().clone())
        self.group_bias = nn.Buffer((linear.bias + linear.group_bias).detach())

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        return _rank_one(x_BI, self.weight, self.group_in, self.group_out, self.group_bias, route.scenario_B)


def _rank_one(
    x_BI: Tensor, weight_OI: Tensor, in_GI: Tensor, out_GO: Tensor, bias_GO: Tensor, group_B: Tensor
) -> Tensor:
    """o_g * (W (i_g * x)) + b_g: [B, O]"""
    h_BO = F.linear(x_BI * F.embedding(group_B, in_GI), weight_OI)
    return torch.addcmul(F.embedding(group_B, bias_GO), h_BO, F.embedding(group_B, out_GO))


def own_linear(form: OwnWeights) -> type[ComposedLinear] | type[RankOneLinear]:
    """The layer with weights of each group's own: "full" as STAR's, or "rank_one" for hundreds of groups."""
    return ComposedLinear if form == "full" else RankOneLinear


def _product_init(linear: ComposedLinear, init: Init) -> None:
    """W and every W_g drawn alike, so that their products are small: as public code for STAR ("kaiming", with the
    output width for fan-in, and biases from U(0, 1)) and for ADL ("xavier", biases at zero) does.
    """
    for weight_OI in (linear.weight, *linear.group_weight):
        if init == "xavier":
            nn.init.xavier_uniform_(weight_OI)
        else:
            nn.init.kaiming_uniform_(weight_OI, mode="fan_out")
    if init == "kaiming":
        nn.init.uniform_(linear.bias)
        nn.init.uniform_(linear.group_bias)


class ComposedMLP(nn.Module):
    """Hidden layers ComposedLinear -> norm -> ReLU -> dropout, then, where d_out is given, a ComposedLinear to it."""

    def __init__(
        self,
        groups: int,
        d_in: int,
        widths: Sequence[int],
        d_out: int | None,
        dropout: float = 0.0,
        layer: type[ComposedLinear] | type[RankOneLinear] = ComposedLinear,
        norm: Norm = "none",
        init: Init = "ones",
    ) -> None:
        super().__init__()
        outs = (d_in, *widths)
        pairs = itertools.pairwise(outs)
        self.hidden = nn.ModuleList(normed(layer(groups, i, o, init=init), groups, o, norm) for i, o in pairs)
        self.out = None if d_out is None else layer(groups, outs[-1], d_out, "linear", init)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        for layer in self.hidden:
            x_BI = self.dropout(layer(x_BI, route).relu_())
        return x_BI if self.out is None else self.out(x_BI, route)


class ComposedAffine(ScenarioAffine):
    """x (scale * scale[s]) + shift + shift[s]."""

    def __init__(self, num_scenarios: int, width: int) -> None:
        super().__init__(num_scenarios, width)
        self.shared_scale = nn.Parameter(torch.ones(width))
        self.shared_shift = nn.Parameter(torch.zeros(width))

    def tables(self) -> tuple[Tensor, Tensor]:
        """Scale and shift of all scenarios: [S, D] each."""
        return self.shared_scale * self.scale, self.shared_shift + self.shift

    def forward(self, x_BD: Tensor, route: Route) -> Tensor:
        """[B, D]"""
        scale_SD, shift_SD = self.tables()
        return x_BD * F.embedding(route.scenario_B, scale_SD) + F.embedding(route.scenario_B, shift_SD)


class PartitionedNorm(ScenarioNorm):
    """STAR's partitioned normalisation (CIKM 2021, eq. 2-3):
    each scenario's own statistics, with composed scale and shift.

    A scenario's first batch of at least `min_rows` rows sets its running statistics, later ones move them by `momentum`
    or, at first, by what makes them a plain mean. Until then a scenario has the statistics of all rows. With several
    ranks they are those of all ranks' rows. batches: how many have counted for each scenario, [S, 1].
    """

    def __init__(
        self, num_scenarios: int, width: int, eps: float = 1e-6, momentum: float = 0.01, min_rows: int = 8
    ) -> None:
        super().__init__(num_scenarios, width, eps, momentum, min_rows)
        self.affine = ComposedAffine(num_scenarios, width)
        self.batches = nn.Buffer(torch.zeros(num_scenarios, 1, dtype=torch.int64))
        self.steps = nn.Buffer(torch.zeros((), dtype=torch.int64))

    def statistics(self, x_BD: Tensor, scenario_B: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance that each scenario is normalised with: [S, D] each; moves the running ones."""
        mean_SD, var_SD, rows_S1 = scenario_moments(x_BD, scenario_B, self.mean.shape[0])
        enough_S1 = rows_S1 >= self.min_rows
        self.move(mean_SD.detach(), var_SD.detach(), rows_S1, enough_S1)
        return torch.where(enough_S1, mean_SD, self.mean), torch.where(enough_S1, var_SD, self.var)

    def move(self, mean_SD: Tensor, var_SD: Tensor, rows_S1: Tensor, enough_S1: Tensor) -> None:
        """Move the running statistics: towards the scenario's own, or, while it has none, towards those of all rows."""
        rows = rows_S1.sum()
        mean_D = (mean_SD * rows_S1).sum(0) / rows.clamp(min=1)
        var_D = ((var_SD + (mean_SD - mean_D).square()) * rows_S1).sum(0) / rows.clamp(min=1)
        all_S1 = (self.batches == 0) & ~enough_S1 & (rows >= self.min_rows)
        seen_S1 = torch.where(enough_S1, self.batches, self.steps)
        weight_S1 = (seen_S1 + 1).reciprocal().clamp(min=self.momentum) * (enough_S1 | all_S1).to(mean_SD.dtype)
        unbiased_SD = var_SD * rows_S1 / (rows_S1 - 1).clamp(min=1)
        self.mean.lerp_(torch.where(enough_S1, mean_SD, mean_D), weight_S1)
        self.var.lerp_(torch.where(enough_S1, unbiased_SD, var_D), weight_S1)
        self.batches.add_(enough_S1.to(torch.int64))
        self.steps.add_((rows >= self.min_rows).to(torch.int64))

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """With running statistics the norm is a scale and a shift."""
        assert isinstance(self.affine, ComposedAffine)
        scale_SD, shift_SD = self.affine.tables()
        affine = ScenarioAffine(*self.mean.shape)
        affine.scale.copy_(scale_SD * (self.var + self.eps).rsqrt())
        affine.shift.copy_(shift_SD - affine.scale * self.mean)
        return affine


def composed_linear(x_BI: Tensor, weight_OI: Tensor, weight_GOI: Tensor, bias_GO: Tensor, route: Route) -> Tensor:
    """(W * W_g) x + b_g: [B, O]. Large products are formed one by one, in memory that stays in the cache."""
    if weight_OI.numel() > LARGE and weight_OI.device.type == "cpu":
        return _ProductLoop.apply(x_BI, weight_OI, weight_GOI, bias_GO, route.scenario_B, route.counts)
    return grouped_linear(x_BI, weight_OI * weight_GOI, bias_GO, route)


class _ProductLoop(torch.autograd.Function):
    """The loop over groups as one node of the graph; backward forms the products again instead of keeping them."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BI: Tensor,
        weight_OI: Tensor,
        weight_GOI: Tensor,
        bias_GO: Tensor,
        group_B: Tensor,
        counts: list[int],
    ) -> Tensor:
        assert sum(counts) == x_BI.shape[0], "the route is another batch's"
        ctx.save_for_backward(x_BI, weight_OI, weight_GOI, group_B)
        ctx.counts = counts
        y_BO, product_OI = x_BI.new_empty(x_BI.shape[0], weight_OI.shape[0]), torch.empty_like(weight_OI)
        for x, y, own_OI, bias in pieces(counts, [x_BI, y_BO], [weight_GOI, bias_GO]):
            torch.mul(weight_OI, own_OI, out=product_OI)
            torch.addmm(bias, x, product_OI.t(), out=y)
        return y_BO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BO: Tensor) -> tuple[Tensor | None, ...]:
        x_BI, weight_OI, weight_GOI, group_B = ctx.saved_tensors
        grad_x, product_OI = torch.empty_like(x_BI), torch.empty_like(weight_OI)
        grad_weight, grad_group = torch.zeros_like(weight_OI), gradient_of(weight_GOI, ctx.counts)
        grad_bias = grad_BO.new_zeros(weight_GOI.shape[:2]).index_add_(0, group_B, grad_BO)
        for grad, x, of_x, own_OI, of_own in pieces(ctx.counts, [grad_BO, x_BI, grad_x], [weight_GOI, grad_group]):
            torch.mul(weight_OI, own_OI, out=product_OI)
            torch.mm(grad, product_OI, out=of_x)
            torch.mm(grad.t(), x, out=product_OI)  # now the gradient of the product
            grad_weight.addcmul_(product_OI, own_OI)
            torch.mul(product_OI, weight_OI, out=of_own)
        return grad_x, grad_weight, grad_group, grad_bias, None, None


def _present(x_BI: Tensor, weight_OI: Tensor, weight_GOI: Tensor, bias_GO: Tensor, counts: list[int]) -> Tensor:
    """The loop in plain operations, for TorchScript: a small request forms the products of the groups in it only."""
    pieces = [x_BI.new_zeros([0, weight_OI.shape[0]])]
    start = 0
    for g, rows in enumerate(counts):
        if rows > 0:
            pieces.append(torch.addmm(bias_GO[g], x_BI[start : start + rows], (weight_OI * weight_GOI[g]).t()))
            start += rows
    return torch.cat(pieces)
