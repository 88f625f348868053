"""Weights that another network generates, from a scenario or from a row, and the layers that use them.

Shapes: B rows, D input width, S scenarios, N vectors a row, I input width, O output width, K rank, M width of a layer;
E experts of width m, q = 2 m, T tasks.
G is how many sets of weights there are: S where a scenario generates them (1 in a folded graph, which knows the
scenario), B where a row does.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from swrec_prod.blocks.gates import Shared
from swrec_prod.layers.fields import Pick
from swrec_prod.layers.grouped import grouped_linear
from swrec_prod.layers.inputs import Dims, Route
from swrec_prod.layers.scenario import ScenarioEmbedding, ScenarioNorm

AdapterNorm = Literal["layer", "scenario"]


class ScenarioWeights(nn.Module):
    """Tensors generated from the learned embedding of each scenario, once a batch for all of them; folds to a table.

    starts: the tensors near which they start, which also give the shapes. hidden, std, slope: see `generator`.
    """

    def __init__(
        self, num_scenarios: int, dim: int, hidden: int, starts: Sequence[Tensor], std: float = 0.01, slope: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_scenarios, dim) * 0.1)
        self.net = generator(dim, hidden, starts, std, slope)
        self.sizes, self.shapes = [start.numel() for start in starts], [list(start.shape) for start in starts]

    def forward(self, x_BD: Tensor, route: Route) -> list[Tensor]:
        """[S, *shape] for each shape. x is not read."""
        return cut(self.net(self.weight), self.sizes, self.shapes)

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The generated tensors of all scenarios, of which forward gives one: [1, *shape]."""
        return _GeneratedTable(copy.deepcopy(self.net).eval()(self.weight), self.sizes, self.shapes)


class InstanceWeights(nn.Module):
    """Tensors generated from a vector of each row: [B, *shape] for each of `starts`."""

    def __init__(self, d_in: int, hidden: int, starts: Sequence[Tensor], std: float = 0.01, slope: float = 0.0) -> None:
        super().__init__()
        self.net = generator(d_in, hidden, starts, std, slope)
        self.sizes, self.shapes = [start.numel() for start in starts], [list(start.shape) for start in starts]

    def forward(self, x_BD: Tensor, route: Route) -> list[Tensor]:
        """[B, *shape] for each shape."""
        return cut(self.net(x_BD), self.sizes, self.shapes)


class UserWeights(nn.Module):
    """Tensors generated from the scenario's embedding and the user's features in x: [B, *shape] for each of `starts`.

    Raises ValueError for data without features of the user.
    """

    def __init__(
        self, dims: Dims, dim: int, hidden: int, starts: Sequence[Tensor], std: float = 0.01, slope: float = 0.0
    ) -> None:
        super().__init__()
        user = [f.name for f in dims.fields if f.side == "user"]
        if not user:
            raise ValueError("weights for every user need features with side: user, but the data have none")
        self.user = Pick(dims.fields, user)
        self.scenario = ScenarioEmbedding(dims.num_scenarios, dim)
        self.weights = InstanceWeights(self.user.d_out + dim, hidden, starts, std, slope)

    def forward(self, x_BD: Tensor, route: Route) -> list[Tensor]:
        """[B, *shape] for each shape."""
        user_BU = self.user(x_BD)
        return self.weights(torch.cat([user_BU, self.scenario(route).expand(user_BU.shape[0], -1)], 1), route)


class _GeneratedTable(nn.Module):
    """ScenarioWeights for a batch of one scenario."""

    def __init__(self, table: Tensor, sizes: list[int], shapes: list[list[int]]) -> None:
        super().__init__()
        self.table = nn.Buffer(table.detach().clone())
        self.sizes, self.shapes = sizes, shapes

    def forward(self, x_BD: Tensor, route: Route) -> list[Tensor]:
        """[1, *shape] for each shape."""
        return cut(self.table.index_select(0, route.scenario_B), self.sizes, self.shapes)


def generator(d_in: int, hidden: int, starts: Sequence[Tensor], std: float, slope: float) -> nn.Sequential:
    """Linear -> LeakyReLU(slope) -> Linear, without norm:
    what it generates is `starts`, flat, plus N(0, std^2) times the hidden units.
    """
    start = torch.cat([tensor.flatten() for tensor in starts])
    last = nn.Linear(hidden, len(start))
    with torch.no_grad():
        last.weight.normal_(std=std)
        last.bias.copy_(start)
    return nn.Sequential(nn.Linear(d_in, hidden), nn.LeakyReLU(slope), last)


def generated_linear(x_BNI: Tensor, weight_GIO: Tensor, bias_GO: Tensor | None, route: Route, of_rows: bool) -> Tensor:
    """x W_g + b_g with the row's own g: [B, N, O]. of_rows: G is B."""
    if bias_GO is None:
        bias_GO = weight_GIO.new_zeros([weight_GIO.shape[0], weight_GIO.shape[2]])
    if weight_GIO.shape[0] == 1:
        return x_BNI @ weight_GIO[0] + bias_GO
    if of_rows:
        return torch.baddbmm(bias_GO.unsqueeze(1), x_BNI, weight_GIO)
    n = x_BNI.shape[1]
    y = grouped_linear(x_BNI.flatten(0, 1), weight_GIO.transpose(1, 2), bias_GO, repeated(route, n))
    return y.view(-1, n, weight_GIO.shape[2])


def to_rows(value_G: Tensor, route: Route, of_rows: bool) -> Tensor:
    """A generated [G, ...] as [B, ...], or as [1, ...] where that broadcasts."""
    return value_G if of_rows or value_G.shape[0] == 1 else value_G.index_select(0, route.scenario_B)


def repeated(route: Route, times: int) -> Route:
    """The route of a batch in which each row stands `times` times in a row."""
    if times == 1:
        return route
    return Route(
        route.scenario_B.repeat_interleave(times), [rows * times for rows in route.counts], route.ends_S * times
    )


class Adapter(nn.Module):
    """HAMUR's adapter, h + norm(act(h W_dn + b_1) W_up + b_2) with W_dn = U_1 H V_1 and W_up = U_2 H V_2 (CIKM 2023).

    U, V, b and the norm are shared; H comes from another network. act, norm: modules; norm(x, route).
    """

    def __init__(self, width: int, rank: int, bottleneck: int, act: nn.Module, norm: nn.Module, of_rows: bool) -> None:
        super().__init__()
        self.down = _LowRank(width, rank, bottleneck, of_rows)
        self.up = _LowRank(bottleneck, rank, width, of_rows)
        self.act, self.norm = act, norm

    def forward(self, h_BM: Tensor, core_GKK: Tensor, route: Route) -> Tensor:
        """[B, M]. core: H."""
        a_BM = self.up(self.act(self.down(h_BM, core_GKK, route)), core_GKK, route)
        return h_BM + self.norm(a_BM, route)


def small_norm(kind: AdapterNorm, num_scenarios: int, width: int) -> nn.Module:
    """The norm at the end of an adapter, with a small scale:
    a normalised adapter is as large as its scale, whatever U and V are.
    """
    if kind == "scenario":
        own = ScenarioNorm(num_scenarios, width)
        nn.init.constant_(own.affine.scale, 0.1)
        return own
    norm = nn.LayerNorm(width)
    nn.init.constant_(norm.weight, 0.1)
    return Shared(norm)


class _LowRank(nn.Module):
    """x U H V + b as ((x U) H) V + b: W = U H V is never built. U, V start such that the scale of x stays."""

    def __init__(self, d_in: int, rank: int, d_out: int, of_rows: bool) -> None:
        super().__init__()
        self.U = nn.Parameter(torch.randn(d_in, rank) / math.sqrt(d_in))
        self.V = nn.Parameter(torch.randn(rank, d_out) / math.sqrt(rank))
        self.bias = nn.Parameter(torch.zeros(d_out))
        self.of_rows = of_rows

    def forward(self, x_BI: Tensor, core_GKK: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        mixed = generated_linear((x_BI @ self.U).unsqueeze(1), core_GKK, None, route, self.of_rows)
        return torch.addmm(self.bias, mixed.squeeze(1), self.V)


class MetaAttention(nn.Module):
    """M2M's choice of experts for each task (WSDM 2022): a_ti = v Meta([E_i ; T_t]), R_t = sum_i softmax_i(a_t) E_i.

    Meta is `layers` times act(h W + w) with generated W [q, q] and w [q]. The first of them is split into E_i W_e and
    T_t W_t + w, which does not depend on the expert. T_t is learned itself: a network on a task's anchor is a constant.
    """

    def __init__(self, num_tasks: int, m: int, layers: int, act: nn.Module, of_rows: bool) -> None:
        super().__init__()
        self.task_Tm = nn.Parameter(torch.randn(num_tasks, m) * 0.1)
        self.v = nn.Linear(2 * m, 1, bias=False)
        nn.init.xavier_uniform_(self.v.weight)
        self.act, self.layers, self.of_rows = act, layers, of_rows

    def forward(self, e_BEm: Tensor, meta: list[Tensor], route: Route) -> Tensor:
        """R: [B, T, m]. meta: W [G, q, q] and w [G, q] of each layer in turn."""
        return self.weights(e_BEm, meta, route) @ e_BEm

    def weights(self, e_BEm: Tensor, meta: list[Tensor], route: Route) -> Tensor:
        """The softmax over experts: [B, T, E]"""
        m = e_BEm.shape[2]
        task_GTq = self.task_Tm @ meta[0][:, m:] + meta[1].unsqueeze(1)
        expert_BEq = generated_linear(e_BEm, meta[0][:, :m], None, route, self.of_rows)
        h_BTEq = self.act(expert_BEq.unsqueeze(1) + to_rows(task_GTq, route, self.of_rows).unsqueeze(2))
        for layer in range(1, self.layers):
            h_BNq = generated_linear(h_BTEq.flatten(1, 2), meta[2 * layer], meta[2 * layer + 1], route, self.of_rows)
            h_BTEq = self.act(h_BNq.view_as(h_BTEq))
        return self.v(h_BTEq).squeeze(3).softmax(2)


def cut(flat_GF: Tensor, sizes: list[int], shapes: list[list[int]]) -> list[Tensor]:
    """[G, all sizes] -> [G, *shape] for each shape."""
    if len(shapes) == 1:  # no split: its backward would be a copy
        return [flat_GF.unflatten(1, shapes[0])]
    cut: list[Tensor] = []
    for i, piece in enumerate(flat_GF.split(sizes, 1)):
        cut.append(piece.unflatten(1, shapes[i]))
    return cut
