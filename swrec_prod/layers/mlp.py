"""MLP: Linear -> norm -> ReLU -> dropout for every hidden layer, then, where asked for, a plain Linear.

Shapes: B rows, D width, I input width, O output width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.layers.options import Norm
from swrec_prod.layers.ranks import several_ranks, sum_over_ranks


class MLP(nn.Sequential):
    """x [..., I] -> [..., O]; with norm "batch" x is [B, I].

    O is d_out, or without d_out the last hidden width (I when there is none). The attribute d_out holds O.
    """

    def __init__(
        self, d_in: int, widths: Sequence[int], d_out: int | None = None, norm: Norm = "none", dropout: float = 0.0
    ) -> None:
        layers: list[nn.Module] = []
        last = d_in
        for width in widths:
            layers += [nn.Linear(last, width), *activation(width, norm, dropout)]
            last = width
        if d_out is not None:
            layers.append(nn.Linear(last, d_out))
        super().__init__(*layers)
        self.d_out = last if d_out is None else d_out


def activation(width: int, norm: Norm, dropout: float) -> list[nn.Module]:
    """What follows the Linear of a hidden layer. The ReLU works in place: what it overwrites is never needed again."""
    norms: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "batch": BatchNorm}
    layers: list[nn.Module] = [] if norm == "none" else [norms[norm](width)]
    layers.append(nn.ReLU(inplace=True))
    if dropout > 0:
        layers.append(nn.Dropout(dropout))
    return layers


class BatchNorm(nn.BatchNorm1d):
    """nn.BatchNorm1d over [B, D] that, in training with several ranks,
    normalises with the statistics of all ranks' rows.
    """

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, D]"""
        if torch.jit.is_scripting():  # of a graph that scores
            return F.batch_norm(x_BD, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return self.over_ranks(x_BD) if self.training and several_ranks() else super().forward(x_BD)

    def over_ranks(self, x_BD: Tensor) -> Tensor:
        """[B, D]; moves the running statistics. In two passes: E[x^2] - mean^2 would cancel."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        sums = sum_over_ranks(torch.cat([x_BD.sum(0), x_BD.new_full([1], x_BD.shape[0])]))
        rows = sums[-1].detach()
        mean_D = sums[:-1] / rows
        centred_BD = x_BD - mean_D
        var_D = sum_over_ranks(centred_BD.square().sum(0)) / rows
        self.running_mean.lerp_(mean_D.detach(), self.momentum)
        self.running_var.lerp_(var_D.detach() * rows / (rows - 1), self.momentum)
        self.get_buffer("num_batches_tracked").add_(1)
        y_BD = centred_BD * (var_D + self.eps).rsqrt()
        return torch.addcmul(self.bias, y_BD, self.weight) if self.affine else y_BD
