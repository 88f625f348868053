"""Mixtures of experts: MLPs that run side by side, for all scenarios or for the row's own,
and the gates that weigh them.

Every layer of an expert is Linear -> norm -> ReLU -> dropout, the last one too; all experts' layers are one product.

Shapes: B rows, S scenarios, T tasks, E experts (M of each scenario), I input width, H output width, F = E H columns of
experts side by side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.layers.composed import OwnWeights, RankOneLinear
from swrec_prod.layers.grouped import GroupedLinear
from swrec_prod.layers.inputs import Route
from swrec_prod.layers.mlp import BatchNorm
from swrec_prod.layers.options import Norm
from swrec_prod.layers.scenario import ScenarioAffine, ScenarioNorm


def gate(logit_BE: Tensor) -> Tensor:
    """Softmax over the last dimension, computed in float32 whatever the precision of the logits."""
    return logit_BE.float().softmax(-1).to(logit_BE.dtype)


def mix(weight_BE: Tensor, expert_BEH: Tensor) -> Tensor:
    """The weighted sum of the experts: [B, H]. Dimensions before E broadcast."""
    return (weight_BE.unsqueeze(-1) * expert_BEH).sum(-2)  # on a CPU three times as fast as B small products


def own(of_all_BSH: Tensor, scenario_B: Tensor) -> Tensor:
    """What all scenarios' experts say -> what the row's own says: [B, S, H] -> [B, H]. scenario_B: [B] or [1]."""
    rows, _, width = of_all_BSH.shape
    return of_all_BSH.gather(1, scenario_B.view(-1, 1, 1).expand(rows, 1, width)).squeeze(1)


class ParallelMLP(nn.Module):
    """E experts for every row: x [B, I], the same for all, or [B, E, I], one for each -> [B, E, H].

    Raises ValueError for experts without a layer. The attribute d_out holds H.
    """

    def __init__(
        self, num_experts: int, d_in: int, widths: Sequence[int], norm: Norm = "none", dropout: float = 0.0
    ) -> None:
        super().__init__()
        _check_widths(widths)
        outs = (d_in, *widths)
        self.layers = nn.ModuleList(
            _ParallelLayer(num_experts, i, o, norm, dropout) for i, o in itertools.pairwise(outs)
        )
        self.d_out = outs[-1]

    def forward(self, x: Tensor) -> Tensor:
        """[B, E, H]"""
        for layer in self.layers:
            x = layer(x)
        return x


class ParallelLinear(nn.Module):
    """y_e = W[e] x + b[e], or W[e] x_e + b[e]: x [B, I] or [B, E, I] -> [B, E, H]. Initial values of E nn.Linear."""

    def __init__(self, num_experts: int, d_in: int, d_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(d_in)
        self.weight = nn.Parameter(torch.empty(num_experts, d_out, d_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_experts, d_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """[B, E, H]"""
        if x.dim() == 2:
            return parallel_linear(x, self.weight, self.bias)
        return torch.baddbmm(self.bias.unsqueeze(1), x.transpose(0, 1), self.weight.transpose(1, 2)).transpose(0, 1)


def parallel_linear(x_BI: Tensor, weight_EHI: Tensor, bias_EH: Tensor) -> Tensor:
    """W[e] x + b[e] for every expert, as one product: [B, E, H]."""
    experts, width, _ = weight_EHI.shape
    return F.linear(x_BI, weight_EHI.flatten(0, 1), bias_EH.flatten()).view(x_BI.shape[0], experts, width)


class ScenarioExperts(nn.Module):
    """M experts of each scenario, for the rows of that scenario: x [B, I] -> [B, M, H].

    norm "batch" sees the rows of the experts' own scenario only. own_weights: "full", or "rank_one", where scenarios
    share a layer's matrix and have factors of its inputs and outputs, for hundreds of them. Raises ValueError for
    experts without a layer.
    """

    def __init__(
        self,
        num_scenarios: int,
        num_experts: int,
        d_in: int,
        widths: Sequence[int],
        norm: Norm = "none",
        dropout: float = 0.0,
        own_weights: OwnWeights = "full",
    ) -> None:
        super().__init__()
        _check_widths(widths)
        linear = GroupedLinear if own_weights == "full" else RankOneLinear
        first = _ScenarioLayer(num_scenarios, 1, num_experts, d_in, widths[0], norm, dropout, linear)
        later = itertools.pairwise(widths)
        self.num_experts = num_experts
        self.layers = nn.ModuleList(
            [
                first,
                *(
                    _ScenarioLayer(num_scenarios, num_experts, num_experts, i, o, norm, dropout, linear)
                    for i, o in later
                ),
            ]
        )

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, M, H]"""
        inputs, y_BMH = [x_BI], x_BI.unsqueeze(1)
        for layer in self.layers:
            y_BMH = layer(inputs, route)
            inputs = [y_BMH[:, j] for j in range(self.num_experts)]
        return y_BMH


class _ParallelLayer(nn.Module):
    """One layer of a ParallelMLP."""

    def __init__(self, num_experts: int, d_in: int, d_out: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.linear = ParallelLinear(num_experts, d_in, d_out)
        self.norm = _parallel_norm(num_experts, num_experts * d_out, norm)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y_BEH = self.linear(x)
        if self.norm is not None:
            y_BEH = self.norm(y_BEH.flatten(1)).view(y_BEH.shape)
        return self.dropout(y_BEH.relu_())


class _EachLayerNorm(nn.Module):
    """Layer normalisation of each expert, with its own scale and shift, over experts side by side: [B, F] -> [B, F]."""

    def __init__(self, num_experts: int, width: int) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, x_BF: Tensor) -> Tensor:
        return _normalise_each(x_BF, self.num_experts) * self.scale + self.shift


class _ScenarioLayer(nn.Module):
    """One layer of ScenarioExperts: the [B, I] of each expert, or one that all of a scenario's share -> [B, M, H]."""

    def __init__(
        self,
        num_scenarios: int,
        num_inputs: int,
        num_experts: int,
        d_in: int,
        d_out: int,
        norm: Norm,
        dropout: float,
        linear: type[GroupedLinear] | type[RankOneLinear],
    ) -> None:
        super().__init__()
        width = num_experts * d_out
        self.linears = nn.ModuleList(linear(num_scenarios, d_in, width // num_inputs) for _ in range(num_inputs))
        self.norm = _scenario_norm(num_scenarios, num_experts, width, norm)
        self.dropout = nn.Dropout(dropout)
        self.num_experts = num_experts

    def forward(self, inputs: list[Tensor], route: Route) -> Tensor:
        pieces = [linear(inputs[j], route) for j, linear in enumerate(self.linears)]
        y_BF = torch.cat(pieces, 1)
        if self.norm is not None:
            y_BF = self.norm(y_BF, route)
        return self.dropout(y_BF.relu_()).view(y_BF.shape[0], self.num_experts, -1)


class _EachScenarioLayerNorm(nn.Module):
    """Layer normalisation of each of a scenario's experts, with scales and shifts of their own: [B, F] -> [B, F]."""

    def __init__(self, num_scenarios: int, num_experts: int, width: int) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.affine = ScenarioAffine(num_scenarios, width)

    def forward(self, x_BF: Tensor, route: Route) -> Tensor:
        return self.affine(_normalise_each(x_BF, self.num_experts), route)


def _normalise_each(x_BF: Tensor, num_experts: int) -> Tensor:
    width = x_BF.shape[1] // num_experts
    return F.layer_norm(x_BF.reshape(x_BF.shape[0], num_experts, width), [width]).flatten(1)


def _parallel_norm(num_experts: int, width: int, norm: Norm) -> nn.Module | None:
    if norm == "none":
        return None
    return BatchNorm(width) if norm == "batch" else _EachLayerNorm(num_experts, width)


def _scenario_norm(num_scenarios: int, num_experts: int, width: int, norm: Norm) -> nn.Module | None:
    if norm == "none":
        return None
    return (
        ScenarioNorm(num_scenarios, width)
        if norm == "batch"
        else _EachScenarioLayerNorm(num_scenarios, num_experts, width)
    )


def _check_widths(widths: Sequence[int]) -> None:
    if not widths:
        raise ValueError("expert: an expert needs at least one layer, not []")
