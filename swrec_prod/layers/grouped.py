"""GroupedLinear: one Linear per scenario over rows sorted by scenario, at the cost of one Linear whatever S is.

Shapes: B rows, S scenarios, I input width, O output width.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from swrec_prod.layers.inputs import Route

Backend = Literal["auto", "loop", "padded", "by_row", "grouped_mm"]

# What is fastest on a CPU at B = 4096: the loop up to LOOP_LIMIT scenarios with rows, and on one thread from LARGE
# numbers a scenario on, whose products are long and whose padding is wasted work; else "padded". Hundreds of products
# one by one are mostly overhead with several threads, which each product wakes: 60 us of it, where
# [11, 561] x [561, 32] takes 20.
LOOP_LIMIT = 16
LARGE = 12_288
TINY = 64  # numbers a scenario up to which "by_row" is quicker than both: every row takes a copy of its weights
PRODUCT = 400  # rows of "padded" that cost what one product by itself does
SPARE = 2  # rows that "padded" makes room for at most, to those there are
HUGE = 1 << 25  # bytes; smaller tensors the C library takes from memory freed before


class GroupedLinear(nn.Module):
    """y_i = W[s_i] x_i + b[s_i]. weight: [S, O, I], bias: [S, O]; layout and initial values of S nn.Linear.

    One stacked parameter, so that a scenario without rows has a zero gradient and not None.

    backend: "loop" (a GEMM per non-empty slice), "padded" (one batched GEMM over as many rows for all, and the loop for
    rows beyond), "by_row" (weights copied for every row; for a few numbers), "grouped_mm" (one call, made for GPUs;
    needs fp32 or bf16) or "auto" (the fastest one).
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
    """GroupedLinear for a batch of one scenario, given as the only element of route.scenario_B;
    cost independent of S.
    """

    def __init__(self, weight_SOI: Tensor, bias_SO: Tensor) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight_SOI.detach().clone())
        self.bias = nn.Buffer(bias_SO.detach().clone())

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        s = int(route.scenario_B)  # views: index_select would copy the weights for every request
        return torch.addmm(self.bias[s], x_BI, self.weight[s].t())


def grouped_linear(x_BI: Tensor, weight_SOI: Tensor, bias_SO: Tensor, route: Route, backend: str = "auto") -> Tensor:
    """W[s_i] x_i + b[s_i] for rows sorted by scenario, with weights that may themselves be computed: [B, O]."""
    if torch.jit.is_scripting():
        return _sliced(x_BI, weight_SOI, bias_SO, route.counts)
    if backend == "auto" or x_BI.shape[0] == 0:  # only the loop takes a batch without rows
        backend = _fastest(weight_SOI, route.counts)
    if backend == "grouped_mm":
        return _grouped_mm(x_BI, weight_SOI, route.ends_S) + bias_SO.index_select(0, route.scenario_B)
    if backend == "by_row":
        return _by_row(x_BI, weight_SOI, bias_SO, route.scenario_B)
    function = _Loop if backend == "loop" else _Padded
    return function.apply(x_BI, weight_SOI, bias_SO, route.scenario_B, route.counts)


def _fastest(weight_SOI: Tensor, counts: Sequence[int]) -> str:
    if sum(rows > 0 for rows in counts) <= LOOP_LIMIT:
        return "loop"
    if weight_SOI.device.type != "cpu":
        return "grouped_mm"
    if weight_SOI[0].numel() <= TINY:
        return "by_row"
    return "loop" if weight_SOI[0].numel() > LARGE and torch.get_num_threads() == 1 else "padded"


def _sliced(x_BI: Tensor, weight_SOI: Tensor, bias_SO: Tensor, counts: list[int]) -> Tensor:
    """The loop in plain operations, for TorchScript."""
    pieces = [x_BI.new_zeros([0, weight_SOI.shape[1]])]
    start = 0
    for s, rows in enumerate(counts):
        if rows > 0:
            pieces.append(torch.addmm(bias_SO[s], x_BI[start : start + rows], weight_SOI[s].t()))
            start += rows
    return torch.cat(pieces)


def pieces(
    counts: Sequence[int], of_rows: Sequence[Tensor], of_scenarios: Sequence[Tensor]
) -> Iterator[tuple[Tensor, ...]]:
    """For each scenario that has rows: its rows of every [B, ...], and its entry of every [S, ...].

    All are views, made at once.
    """
    views = [*(value.split(counts) for value in of_rows), *(value.unbind() for value in of_scenarios)]
    return (piece for rows, piece in zip(counts, zip(*views, strict=True), strict=True) if rows > 0)


def gradient_of(weight_S: Tensor, counts: Sequence[int]) -> Tensor:
    """A tensor for the gradient of [S, ...]: zero where a scenario has no rows, and not yet written where it has.

    On a CPU a large one is new to the process each time, and four fifths of the time to write it went by while the
    system cleared its pages one by one. numpy, unlike torch, asks for huge pages.
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
    """The loop as one node of the graph: slices write straight into the results,
    which makes it as fast as one Linear.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BI: Tensor, weight_SOI: Tensor, bias_SO: Tensor, scenario_B: Tensor, counts: list[int]
    ) -> Tensor:
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


class _Padded(torch.autograd.Function):
    """One batched product over `cap` rows of each scenario; a loop over the rows beyond, of busy scenarios. See _cap.

    Where a scenario has fewer rows, rows of others fill up x, whose products nobody reads, and zeros fill up the
    gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BI: Tensor, weight_SOI: Tensor, bias_SO: Tensor, scenario_B: Tensor, counts: list[int]
    ) -> Tensor:
        assert sum(counts) == x_BI.shape[0], "the route is another batch's"
        cap = _cap(counts)
        row_R, place_B = _places(scenario_B, counts, cap)
        x_SCI = x_BI.index_select(0, row_R).view(len(counts), cap, -1)
        ctx.save_for_backward(x_BI, x_SCI, weight_SOI, place_B)
        ctx.beyond = _beyond(counts, cap)
        y_BO = _unpad(torch.baddbmm(bias_SO.unsqueeze(1), x_SCI, weight_SOI.transpose(1, 2)), place_B)
        for s, at in ctx.beyond:
            torch.addmm(bias_SO[s], x_BI[at], weight_SOI[s].t(), out=y_BO[at])
        return y_BO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BO: Tensor) -> tuple[Tensor | None, ...]:
        x_BI, x_SCI, weight_SOI, place_B = ctx.saved_tensors
        grad_RO = grad_BO.new_zeros(x_SCI.shape[:2].numel() + 1, grad_BO.shape[1]).index_copy_(0, place_B, grad_BO)
        grad_SCO = grad_RO[:-1].view(*x_SCI.shape[:2], -1)
        grad_weight, grad_bias = torch.bmm(grad_SCO.transpose(1, 2), x_SCI), grad_SCO.sum(1)
        grad_x = _unpad(torch.bmm(grad_SCO, weight_SOI), place_B) if ctx.needs_input_grad[0] else None
        for s, at in ctx.beyond:
            grad_weight[s].addmm_(grad_BO[at].t(), x_BI[at])
            grad_bias[s].add_(grad_BO[at].sum(0))
            if grad_x is not None:
                torch.mm(grad_BO[at], weight_SOI[s], out=grad_x[at])
        return grad_x, grad_weight, grad_bias, None, None


def _by_row(x_BI: Tensor, weight_SOI: Tensor, bias_SO: Tensor, scenario_B: Tensor) -> Tensor:
    """A product and a sum over [B, O, I], in plain operations."""
    weight_BOI = F.embedding(scenario_B, weight_SOI.flatten(1)).unflatten(1, weight_SOI.shape[1:])
    return (weight_BOI * x_BI.unsqueeze(1)).sum(2) + F.embedding(scenario_B, bias_SO)


def _cap(counts: list[int]) -> int:
    """Rows to make room for in each scenario: the least work with that for scenarios that have more, by themselves."""
    beyond_R = len(counts) - np.bincount(counts).cumsum()
    work_R = len(counts) * np.arange(len(beyond_R)) + PRODUCT * beyond_R
    return max(1, int(work_R[: math.ceil(SPARE * sum(counts) / len(counts)) + 1].argmin()))


def _places(scenario_B: Tensor, counts: list[int], cap: int) -> tuple[Tensor, Tensor]:
    """Which row lies at each of S x cap places, and where each row lies; rows beyond the cap are at S cap."""
    rows, device = len(scenario_B), scenario_B.device
    counts_S = torch.tensor(counts, device=device)
    first_S = counts_S.cumsum(0) - counts_S
    row_SC = first_S.unsqueeze(1) + torch.arange(cap, device=device)
    slot_B = torch.arange(rows, device=device) - first_S.index_select(0, scenario_B)
    place_B = torch.where(slot_B < cap, scenario_B * cap + slot_B, len(counts) * cap)
    return row_SC.clamp(max=rows - 1).flatten(), place_B


def _beyond(counts: list[int], cap: int) -> list[tuple[int, slice]]:
    """(scenario, its rows beyond the cap) of the scenarios that have any."""
    ends = itertools.accumulate(counts)
    return [
        (s, slice(end - rows + cap, end)) for s, (rows, end) in enumerate(zip(counts, ends, strict=True)) if rows > cap
    ]


def _unpad(value_SCO: Tensor, place_B: Tensor) -> Tensor:
    """[B, O]; rows beyond the cap hold what is to be overwritten."""
    value_RO = value_SCO.flatten(0, 1)
    return value_RO.index_select(0, place_B.clamp(max=value_RO.shape[0] - 1))


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
