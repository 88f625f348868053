"""First layers in two parts: W x = W_u x_u + W_i x_i, with the user's columns x_u once a request.

The products are `linear` and not `addmm` on purpose: of an `addmm` with a constant TorchScript guesses a wrong shape,
and it makes one product of two, their inputs side by side, which must then have as many rows.

Shapes: B rows, U rows of users (B or 1), S scenarios, E experts, D width of x, D_u and D_i of its two parts, O output
width, H output width of an expert.
"""

# Without `from __future__ import annotations`: TorchScript reads the annotations.

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.blocks.experts import ParallelLinear
from swrec_prod.blocks.hyper import UserWeights
from swrec_prod.layers.composed import SelectedRankOne
from swrec_prod.layers.grouped import SelectedLinear
from swrec_prod.layers.inputs import Route
from swrec_prod.layers.scenario import ScenarioAffine


class SplitLinear(nn.Module):
    """An nn.Linear. user_D, item_D: int64, which of its input columns the two parts have, in their order."""

    def __init__(self, linear: nn.Linear, user_D: Tensor, item_D: Tensor) -> None:
        super().__init__()
        self.user, self.item = (nn.Buffer(linear.weight[:, columns]) for columns in (user_D, item_D))
        self.bias = nn.Buffer(linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias)

    def forward(self, user_UD: Tensor, item_BD: Tensor) -> Tensor:
        """[B, O]"""
        return F.linear(item_BD, self.item).add_(F.linear(user_UD, self.user, self.bias))


class SplitParallelLinear(nn.Module):
    """A ParallelLinear whose experts read the same rows."""

    def __init__(self, linear: ParallelLinear, user_D: Tensor, item_D: Tensor) -> None:
        super().__init__()
        experts, width, d_in = linear.weight.shape
        flat = nn.Linear(d_in, experts * width)
        flat.weight.copy_(linear.weight.flatten(0, 1))
        flat.bias.copy_(linear.bias.flatten())
        self.linear = SplitLinear(flat, user_D, item_D)
        self.shape = [experts, width]

    def forward(self, user_UD: Tensor, item_BD: Tensor) -> Tensor:
        """[B, E, H]"""
        return self.linear(user_UD, item_BD).unflatten(1, self.shape)


class SplitSelectedLinear(nn.Module):
    """A SelectedLinear."""

    def __init__(self, linear: SelectedLinear, user_D: Tensor, item_D: Tensor) -> None:
        super().__init__()
        self.user, self.item = (nn.Buffer(linear.weight[:, :, columns]) for columns in (user_D, item_D))
        self.bias = nn.Buffer(linear.bias)

    def forward(self, user_UD: Tensor, item_BD: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        s = int(route.scenario_B)  # views, as in SelectedLinear
        return F.linear(item_BD, self.item[s]).add_(F.linear(user_UD, self.user[s], self.bias[s]))


class SplitRankOne(nn.Module):
    """A SelectedRankOne, o_s * (W (i_s * x)) + b_s."""

    def __init__(self, linear: SelectedRankOne, user_D: Tensor, item_D: Tensor) -> None:
        super().__init__()
        self.user, self.item = (nn.Buffer(linear.weight[:, columns]) for columns in (user_D, item_D))
        self.user_in, self.item_in = (nn.Buffer(linear.group_in[:, columns]) for columns in (user_D, item_D))
        self.out, self.bias = nn.Buffer(linear.group_out), nn.Buffer(linear.group_bias)

    def forward(self, user_UD: Tensor, item_BD: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        of_user_UO = F.linear(user_UD * self.user_in.index_select(0, route.scenario_B), self.user)
        h_BO = F.linear(item_BD * self.item_in.index_select(0, route.scenario_B), self.item).add_(of_user_UO)
        return torch.addcmul(
            self.bias.index_select(0, route.scenario_B), h_BO, self.out.index_select(0, route.scenario_B)
        )


def beside(pieces: list[Tensor]) -> Tensor:
    """Side by side, [R, D], of pieces with R rows each, or 1."""
    rows = 1
    for piece in pieces:
        rows = max(rows, piece.size(0))
    return torch.cat([piece.expand(rows, -1) for piece in pieces], 1)


def of_user_alone(weights: UserWeights) -> UserWeights:
    """UserWeights that take the user's features themselves, [U, D_u], instead of x."""
    alone = copy.deepcopy(weights)
    alone.user = nn.Identity()  # type: ignore[assignment]
    return alone


def affine_of(affine: ScenarioAffine, columns_D: Tensor) -> ScenarioAffine:
    """A ScenarioAffine of some of its columns."""
    part = ScenarioAffine(affine.scale.shape[0], len(columns_D)).requires_grad_(False)
    part.scale.copy_(affine.scale[:, columns_D])
    part.shift.copy_(affine.shift[:, columns_D])
    return part
