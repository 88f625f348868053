"""GroupedLinear: one Linear per scenario over rows sorted by scenario, at the cost of one Linear whatever S is.

Shapes: B rows, S scenarios, I input width, O output width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from swrec_prod.blocks.inputs import Route

Backend = Literal["auto", "loop", "grouped_mm"]

LOOP_LIMIT = 16  # on a CPU at B = 4096 the loop is the faster one up to here, grouped_mm from 32 scenarios on
HUGE = 1 << 25  # bytes; smaller tensors the C library takes from memory freed before
LARGE = 12_288  # numbers in one scenario's weights, from which on copying those of all scenarios costs more than a loop


class GroupedLinear(nn.Module):
    """y_i = W[s_i] x_i + b[s_i]. weight: [S, O, I], bias: [S, O]; layout and initial values of S nn.Linear.

    One stacked parameter, so that a scenario without rows has a zero gradient and not None.
    backend: "loop" (a GEMM per non-empty slice), "grouped_mm" (one call; needs fp32 or bf16) or "auto" (the faster one).
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
    if backend == "loop" or (backend == "auto" and _suits_loop(weight_SOI)):
        return _Loop.apply(x_BI, weight_SOI, bias_SO, route.scenario_B, route.counts)
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


def pieces(counts: Sequence[int], of_rows: Sequence[Tensor], of_scenarios: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """For each scenario that has rows: its rows of every [B, ...], and its entry of every [S, ...]. All are views, made at once."""
    views = [*(value.split(counts) for value in of_rows), *(value.unbind() for value in of_scenarios)]
    return (found for rows, found in zip(counts, zip(*views, strict=True), strict=True) if rows > 0)


def gradient_of(weight_S: Tensor, counts: Sequence[int]) -> Tensor:
    """A tensor for the gradient of [S, ...]: zero where a scenario has no rows, and not yet written where it has.

    On a CPU a large one is new to the process each time, and four fifths of the time to write it went by while the system
    cleared its pages one by one. numpy, unlike torch, asks for huge pages.
    """
    if weight_S.device.type == "cpu" and weight_S.nbytes >= HUGE and weight_S.is_contiguous():
        grad_S = torch.from_numpy(np.empty(weight_S.nbytes, np.uint8)).view(weight_S.dtype).view(weight_S.shape)
    else:
        grad_S = torch.empty_like(weight_S)
    absent = [s for s, rows in enumerate(counts) if rows == 0]
    if absent:
        grad_S[absent] = 0
    return grad_S


class _Loop(torch.autograd.Function):
    """The loop as one node of the graph: slices write straight into the results, which makes it as fast as one Linear."""

    @staticmethod
    def forward(ctx: Any, x_BI: Tensor, weight_SOI: Tensor, bias_SO: Tensor, scenario_B: Tensor, counts: list[int]) -> Tensor:
        assert sum(counts) == x_BI.shape[0], "the route is another batch's"
        ctx.save_for_backward(x_BI, weight_SOI, scenario_B)
        ctx.counts = counts
        y_BO = x_BI.new_empty(x_BI.shape[0], weight_SOI.shape[1])
        for x, y, weight_IO, bias in pieces(counts, [x_BI, y_BO], [weight_SOI.transpose(1, 2), bias_SO]):
            torch.addmm(bias, x, weight_IO, out=y)
        return y_BO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BO: Tensor) -> tuple[Tensor | None, ...]:
        x_BI, weight_SOI, scenario_B = ctx.saved_tensors
        grad_weight = gradient_of(weight_SOI, ctx.counts)
        grad_bias = grad_BO.new_zeros(weight_SOI.shape[:2]).index_add_(0, scenario_B, grad_BO)
        for grad, x, of_weight in pieces(ctx.counts, [grad_BO, x_BI], [grad_weight]):
            torch.mm(grad.t(), x, out=of_weight)
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, grad_bias, None, None
        grad_x = torch.empty_like(x_BI)
        for grad, of_x, weight_OI in pieces(ctx.counts, [grad_BO, grad_x], [weight_SOI]):
            torch.mm(grad, weight_OI, out=of_x)
        return grad_x, grad_weight, grad_bias, None, None


def _suits_loop(weight_SOI: Tensor) -> bool:
    """Whether the loop is faster than grouped_mm; on a GPU, where every step of it is a launch, for few scenarios only."""
    scenarios, d_out, d_in = weight_SOI.shape
    copied = weight_SOI.device.type == "cpu" and max(_padding(weight_SOI)) > 0
    return scenarios <= LOOP_LIMIT or (copied and d_out * d_in > LARGE)


def _grouped_mm(x_BI: Tensor, weight_SOI: Tensor, ends_S: Tensor) -> Tensor:
    """grouped_mm for any widths: it asks for strides of whole 16 bytes, so odd widths are padded with zeros."""
    d_out, (pad_in, pad_out) = weight_SOI.shape[1], _padding(weight_SOI)
    if pad_in or pad_out:
        x_BI, weight_SOI = F.pad(x_BI, (0, pad_in)), F.pad(weight_SOI, (0, pad_in, 0, pad_out))
    y_BO = F.grouped_mm(x_BI.contiguous(), weight_SOI.transpose(1, 2), offs=ends_S)
    return _ContiguousGrad.apply(y_BO)[:, :d_out]


def _padding(weight_SOI: Tensor) -> tuple[int, int]:
    """Columns that I and O lack to whole 16 bytes."""
    whole = 16 // weight_SOI.element_size()
    return -weight_SOI.shape[2] % whole, -weight_SOI.shape[1] % whole


class _ContiguousGrad(torch.autograd.Function):
    """The identity; grouped_mm refuses an expanded gradient, such as that of sum()."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.contiguous()
