"""Blocks that know the row's scenario. Rows are sorted by scenario; `route` says where each scenario's rows are.

Shapes: B rows, S scenarios, D width, I input width, O output width, E width of a scenario's embedding.

One rule makes every model foldable: what depends on the scenario only has one row for each row of route.scenario_B.
In training that is [B, ...]; in a folded graph the batch is one scenario's and it is [1, ...], and broadcasts.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.layers.grouped import GroupedLinear
from swrec_prod.layers.inputs import Route
from swrec_prod.layers.mlp import activation
from swrec_prod.layers.options import Norm
from swrec_prod.layers.ranks import sum_over_ranks


class ScenarioEmbedding(nn.Module):
    """f(e_s): the learned embedding of the row's scenario, sent through `net` ([S, E] -> [S, D]) where one is given.

    `net` runs once a batch over the S scenarios, never once a row: W [x ; e_s] = W_x x + (W_e e)[s], and folds to a
    table. `net` must not depend on its batch (no batch norm). std: of the initial embedding.
    """

    def __init__(self, num_scenarios: int, dim: int, net: nn.Module | None = None, std: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_scenarios, dim) * std)
        self.net = nn.Identity() if net is None else net

    def forward(self, route: Route) -> Tensor:
        """[B, D]"""
        return F.embedding(route.scenario_B, self.net(self.weight))

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The table of all scenarios, computed once."""
        table = copy.deepcopy(self.net).eval()(self.weight)
        return ScenarioTable(table)


class ScenarioTable(nn.Module):
    """Constants of each scenario: [S, D] -> the rows of the batch's scenarios."""

    def __init__(self, table_SD: Tensor) -> None:
        super().__init__()
        self.table = nn.Buffer(table_SD.detach().clone())

    def forward(self, route: Route) -> Tensor:
        """[B, D]"""
        return self.table.index_select(0, route.scenario_B)


class ScenarioAffine(nn.Module):
    """x scale[s] + shift[s], both [S, D]."""

    def __init__(self, num_scenarios: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_scenarios, width))
        self.shift = nn.Parameter(torch.zeros(num_scenarios, width))

    def forward(self, x_BD: Tensor, route: Route) -> Tensor:
        """[B, D]"""
        return x_BD * F.embedding(route.scenario_B, self.scale) + F.embedding(route.scenario_B, self.shift)


class ScenarioLayerNorm(nn.Module):
    """Layer normalisation with a scale and shift of the scenario's own."""

    def __init__(self, num_scenarios: int, width: int) -> None:
        super().__init__()
        self.affine = ScenarioAffine(num_scenarios, width)

    def forward(self, x_BD: Tensor, route: Route) -> Tensor:
        """[B, D]"""
        return self.affine(F.layer_norm(x_BD, [x_BD.shape[1]]), route)


class ScenarioNorm(nn.Module):
    """Batch normalisation over the rows of the same scenario (STAR's partitioned normalisation, CIKM 2021, eq. 2-3).

    A scenario with fewer than `min_rows` rows in the batch is normalised with its running statistics, and leaves them
    as they are. momentum: weight of the new batch, as in nn.BatchNorm1d. With several ranks the batch is all ranks'
    rows.
    """

    def __init__(
        self, num_scenarios: int, width: int, eps: float = 1e-5, momentum: float = 0.1, min_rows: int = 8
    ) -> None:
        super().__init__()
        self.affine = ScenarioAffine(num_scenarios, width)
        self.mean = nn.Buffer(torch.zeros(num_scenarios, width))
        self.var = nn.Buffer(torch.ones(num_scenarios, width))
        self.eps, self.momentum, self.min_rows = eps, momentum, max(min_rows, 2)

    def forward(self, x_BD: Tensor, route: Route) -> Tensor:
        """[B, D]"""
        mean_SD, var_SD = self.statistics(x_BD, route.scenario_B) if self.training else (self.mean, self.var)
        scale_BD = F.embedding(route.scenario_B, (var_SD + self.eps).rsqrt())
        return self.affine((x_BD - F.embedding(route.scenario_B, mean_SD)) * scale_BD, route)

    def statistics(self, x_BD: Tensor, scenario_B: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance that each scenario is normalised with: [S, D] each; moves the running ones."""
        mean_SD, var_SD, rows_S1 = scenario_moments(x_BD, scenario_B, self.mean.shape[0])
        enough_S1 = rows_S1 >= self.min_rows
        weight_S1 = self.momentum * enough_S1.to(x_BD.dtype)
        used = torch.where(enough_S1, mean_SD, self.mean), torch.where(enough_S1, var_SD, self.var)
        self.mean.lerp_(mean_SD.detach(), weight_S1)
        self.var.lerp_((var_SD * rows_S1 / (rows_S1 - 1).clamp(min=1)).detach(), weight_S1)
        return used

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """With running statistics the norm is a scale and a shift."""
        affine = copy.deepcopy(self.affine)
        affine.scale.mul_((self.var + self.eps).rsqrt())
        affine.shift.sub_(affine.scale * self.mean)
        return affine


def scenario_moments(x_BD: Tensor, scenario_B: Tensor, num_scenarios: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance ([S, D] each; zeros without rows) and rows ([S, 1]) of each scenario, in two passes.

    Of all ranks' rows, and with gradients to them: every rank must call it in every step, whatever scenarios it has.
    """
    zeros_SD = x_BD.new_zeros([num_scenarios, x_BD.shape[1]])
    rows_S1 = zeros_SD[:, :1].index_add(0, scenario_B, torch.ones_like(x_BD[:, :1]))
    sums = sum_over_ranks(torch.cat([zeros_SD.index_add(0, scenario_B, x_BD), rows_S1], 1))
    rows_S1 = sums[:, -1:].detach()
    mean_SD = sums[:, :-1] / rows_S1.clamp(min=1)
    square_BD = (x_BD - F.embedding(scenario_B, mean_SD)).square()
    var_SD = sum_over_ranks(zeros_SD.index_add(0, scenario_B, square_BD)) / rows_S1.clamp(min=1)
    return mean_SD, var_SD, rows_S1


NORMS: dict[str, type[nn.Module]] = {"layer": ScenarioLayerNorm, "batch": ScenarioNorm}


class Chain(nn.Module):
    """Layers that read the route, one after the other: [B, I] -> [B, O]."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        for layer in self.layers:
            x = layer(x, route)
        return x


class SideBySide(nn.Module):
    """Layers that read the same rows and the route; what they say, side by side: [B, I] -> [B, O]."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        pieces = []
        for layer in self.layers:
            pieces.append(layer(x_BI, route))
        return torch.cat(pieces, 1)


def normed(layer: nn.Module, num_scenarios: int, width: int, norm: Norm) -> nn.Module:
    """`layer`, with a norm of its output where one is asked for; "batch" sees the rows of a scenario."""
    return layer if norm == "none" else Chain(layer, NORMS[norm](num_scenarios, width))


class ScenarioMLP(nn.Module):
    """One MLP per scenario: x [B, I] -> [B, O],
    hidden layers Linear -> norm -> ReLU -> dropout, then a Linear to d_out.
    """

    def __init__(
        self,
        num_scenarios: int,
        d_in: int,
        widths: Sequence[int],
        d_out: int,
        norm: Norm = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        outs = (d_in, *widths)
        self.hidden = nn.ModuleList(_Hidden(num_scenarios, i, o, norm, dropout) for i, o in itertools.pairwise(outs))
        self.out = GroupedLinear(num_scenarios, outs[-1], d_out)

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        for layer in self.hidden:
            x_BI = layer(x_BI, route)
        return self.out(x_BI, route)


class _Hidden(nn.Module):
    """One hidden layer of a ScenarioMLP."""

    def __init__(self, num_scenarios: int, d_in: int, width: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.linear = GroupedLinear(num_scenarios, d_in, width)
        self.norm = None if norm == "none" else NORMS[norm](num_scenarios, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        y_BO = self.linear(x_BI, route)
        if self.norm is not None:
            y_BO = self.norm(y_BO, route)
        return self.dropout(y_BO.relu_())


class ConditionedMLP(nn.Module):
    """MLP([x ; e_s]) shared by all scenarios, with the first layer split so that e_s costs one row of a table.

    scenario_dim: E. Without widths it is one Linear.
    """

    def __init__(
        self,
        num_scenarios: int,
        scenario_dim: int,
        d_in: int,
        widths: Sequence[int],
        d_out: int,
        norm: Norm = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        outs = (*widths, d_out)
        self.first = nn.Linear(d_in, outs[0])
        self.scenario = ScenarioEmbedding(num_scenarios, scenario_dim, nn.Linear(scenario_dim, outs[0], bias=False))
        layers: list[nn.Module] = []
        for i, o in itertools.pairwise(outs):
            layers += [*activation(i, norm, dropout), nn.Linear(i, o)]
        self.rest = nn.Sequential(*layers)

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        return self.rest(self.first(x_BI).add_(self.scenario(route)))
