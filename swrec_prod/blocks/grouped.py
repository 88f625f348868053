"""GroupedLinear: one Linear per scenario over rows sorted by scenario, at the cost of one Linear whatever S is.

Shapes: B rows, S scenarios, I input width, O output width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from swrec_prod.blocks.inputs import Route

Backend = Literal["auto", "loop", "grouped_mm"]

LOOP_LIMIT = 16  # on a CPU at B = 4096 the loop is the faster one up to here, grouped_mm from 32 scenarios on


class GroupedLinear(nn.Module):
    """y_i = W[s_i] x_i + b[s_i]. weight: [S, O, I], bias: [S, O]; layout and initial values of S nn.Linear.

    One stacked parameter, so that a scenario without rows has a zero gradient and not None.
    backend: "loop" (a GEMM per non-empty slice), "grouped_mm" (one call; needs fp32 or bf16) or "auto" (by S).
    """

    def __init__(self, num_scenarios: int, d_in: int, d_out: int, backend: Backend = "auto") -> None:
        super().__init__()
        bound = 1 / math.sqrt(d_in)
        self.weight = nn.Parameter(torch.empty(num_scenarios, d_out, d_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_scenarios, d_out).uniform_(-bound, bound))
        self.d_out = d_out
        self.backend = backend

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, O]. Rows of x_BI are sorted by scenario, as `route` says."""
        return grouped_linear(x_BI, self.weight, self.bias, route, self.backend)

    def folded(self) -> nn.Module:
        """The same map for a batch of one scenario."""
        return SelectedLinear(self.weight, self.bias)


class SelectedLinear(nn.Module):
    """GroupedLinear for a batch of one scenario, given as the only element of route.scenario_B; cost independent of S."""

    def __init__(self, weight_SOI: Tensor, bias_SO: Tensor) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight_SOI.detach().clone())
        self.bias = nn.Buffer(bias_SO.detach().clone())

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        weight_OI = self.weight.index_select(0, route.scenario_B)[0]
        return torch.addmm(self.bias.index_select(0, route.scenario_B), x_BI, weight_OI.t())


def grouped_linear(x_BI: Tensor, weight_SOI: Tensor, bias_SO: Tensor, route: Route, backend: str = "auto") -> Tensor:
    """W[s_i] x_i + b[s_i] for rows sorted by scenario, with weights that may themselves be computed: [B, O]."""
    if torch.jit.is_scripting():
        return _sliced(x_BI, weight_SOI, bias_SO, route.counts)
    if backend == "loop" or (backend == "auto" and weight_SOI.shape[0] <= LOOP_LIMIT):
        return _Loop.apply(x_BI, weight_SOI, bias_SO, route.counts)
    return _grouped_mm(x_BI, weight_SOI, route.ends_S) + bias_SO.index_select(0, route.scenario_B)


def _sliced(x_BI: Tensor, weight_SOI: Tensor, bias_SO: Tensor, counts: list[int]) -> Tensor:
    """The loop in plain operations, for TorchScript."""
    pieces = [x_BI.new_zeros([0, weight_SOI.shape[1]])]
    start = 0
    for s, rows in enumerate(counts):
        if rows > 0:
            pieces.append(torch.addmm(bias_SO[s], x_BI[start : start + rows], weight_SOI[s].t()))
            start += rows
    return torch.cat(pieces)


class _Loop(torch.autograd.Function):
    """The loop as one node of the graph: slices write straight into the results, which makes it as fast as one Linear."""

    @staticmethod
    def forward(ctx: Any, x_BI: Tensor, weight_SOI: Tensor, bias_SO: Tensor, counts: Sequence[int]) -> Tensor:
        ctx.save_for_backward(x_BI, weight_SOI)
        ctx.counts = counts
        assert sum(counts) == x_BI.shape[0], "the route is another batch's"
        y_BO = x_BI.new_empty(x_BI.shape[0], weight_SOI.shape[1])
        for s, at in _slices(counts):
            torch.addmm(bias_SO[s], x_BI[at], weight_SOI[s].t(), out=y_BO[at])
        return y_BO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BO: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x_BI, weight_SOI = ctx.saved_tensors
        grad_x = torch.empty_like(x_BI) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight_SOI)
        grad_bias = weight_SOI.new_zeros(weight_SOI.shape[:2])
        for s, at in _slices(ctx.counts):
            torch.mm(grad_BO[at].t(), x_BI[at], out=grad_weight[s])
            torch.sum(grad_BO[at], 0, out=grad_bias[s])
            if grad_x is not None:
                torch.mm(grad_BO[at], weight_SOI[s], out=grad_x[at])
        return grad_x, grad_weight, grad_bias, None


def _slices(counts: Sequence[int]) -> list[tuple[int, slice]]:
    """(scenario, its rows) of the scenarios that have any."""
    found, start = [], 0
    for s, rows in enumerate(counts):
        if rows > 0:
            found.append((s, slice(start, start + rows)))
            start += rows
    return found


def _grouped_mm(x_BI: Tensor, weight_SOI: Tensor, ends_S: Tensor) -> Tensor:
    """grouped_mm for any widths: it asks for strides of whole 16 bytes, so odd widths are padded with zeros."""
    _, d_out, d_in = weight_SOI.shape
    whole = 16 // x_BI.element_size()
    pad_in, pad_out = -d_in % whole, -d_out % whole
    if pad_in or pad_out:
        x_BI, weight_SOI = F.pad(x_BI, (0, pad_in)), F.pad(weight_SOI, (0, pad_in, 0, pad_out))
    y_BO = F.grouped_mm(x_BI.contiguous(), weight_SOI.transpose(1, 2), offs=ends_S)
    return _ContiguousGrad.apply(y_BO)[:, :d_out]


class _ContiguousGrad(torch.autograd.Function):
    """The identity; grouped_mm refuses an expanded gradient, such as that of sum()."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.contiguous()
