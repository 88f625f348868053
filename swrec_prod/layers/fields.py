"""The fields of a row: picked out of x, or as tokens of one width.

Shapes: B rows, D input width, P fields, d token width, w width of a field, n fields of one width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from swrec_prod.layers.inputs import Dims, Field


class Pick(nn.Module):
    """x [B, D] -> the chosen fields side by side, [B, d_out].

    `fields` are those of x, in order; `chosen` some of their names.
    """

    def __init__(self, fields: Sequence[Field], chosen: Sequence[str]) -> None:
        super().__init__()
        self.widths = [f.width for f in fields]
        self.chosen = [i for i, f in enumerate(fields) if f.name in chosen]
        self.d_out = sum(self.widths[i] for i in self.chosen)

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, d_out]. A split, whose backward is one concatenation."""
        pieces = x_BD.split(self.widths, 1)
        return torch.cat([pieces[i] for i in self.chosen], 1)


def what_is_read(dims: Dims, dense: bool) -> tuple[nn.Module, int]:
    """A module that takes from x what a model reads, and its width: x itself, or without `dense` what is embedded."""
    if dense:
        return nn.Identity(), dims.x
    pick = Pick(dims.fields, [f.name for f in dims.fields if f.kind != "dense"])
    return pick, pick.d_out


class FieldTokens(nn.Module):
    """t_p = W_p x_p + b_p: every field as a token of the same width, [B, D] -> [B, P, d];
    fields of one width are one product.

    Tokens are ordered by the width of their field. Without fields x is one token.
    """

    def __init__(self, fields: Sequence[Field], d_in: int, width: int) -> None:
        super().__init__()
        fields = fields or (Field("x", 0, d_in, "context", "dense"),)
        sizes = sorted({f.width for f in fields})
        self.groups = nn.ModuleList(_SameWidth(fields, size, width) for size in sizes)
        self.d_out = len(fields) * width

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, P, d]"""
        tokens = []
        for group in self.groups:
            tokens.append(group(x_BD))
        return torch.cat(tokens, 1)


class _SameWidth(nn.Module):
    """The tokens of all fields of width w, with the initial values of nn.Linear."""

    def __init__(self, fields: Sequence[Field], size: int, width: int) -> None:
        super().__init__()
        names = [f.name for f in fields if f.width == size]
        self.pick = Pick(fields, names)
        self.weight = nn.Parameter(torch.empty(len(names), size, width).uniform_(-(size**-0.5), size**-0.5))
        self.bias = nn.Parameter(torch.empty(len(names), width).uniform_(-(size**-0.5), size**-0.5))

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, n, d]"""
        n, size, _ = self.weight.shape
        x_nBw = self.pick(x_BD).view(-1, n, size).transpose(0, 1)
        return torch.baddbmm(self.bias.unsqueeze(1), x_nBw, self.weight).transpose(0, 1)
