"""The fields of a row: picked out of x, or as tokens that attend to each other.

Shapes: B rows, D input width, P fields, d token width, w width of a field, n fields of one width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.blocks.inputs import Dims, Field
from swrec_prod.blocks.mlp import MLP


class Pick(nn.Module):
    """x [B, D] -> the chosen fields side by side, [B, d_out]. `fields` are those of x, in order; `chosen` some of their names."""

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
    """t_p = W_p x_p + b_p: every field as a token of the same width, [B, D] -> [B, P, d]; fields of one width are one product.

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


class FieldTransformer(nn.Module):
    """The fields of the same row attend to each other: [B, D] -> [B, P d] after `layers` pre-norm encoder layers."""

    def __init__(self, fields: Sequence[Field], d_in: int, width: int, layers: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.tokens = FieldTokens(fields, d_in, width)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, feedforward) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.d_out = self.tokens.d_out

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, P d]"""
        t_BPd = self.tokens(x_BD)
        for layer in self.layers:
            t_BPd = layer(t_BPd)
        return self.norm(t_BPd).flatten(1)


class EncoderLayer(nn.Module):
    """t + Attention(norm(t)), then t + MLP(norm(t)). Raises ValueError where the heads do not divide the width."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} attention heads do not divide a token of width {width}")
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = MLP(width, (feedforward,), width)

    def forward(self, t_BPd: Tensor) -> Tensor:
        """[B, P, d]"""
        t_BPd = t_BPd + self.attend(self.before_attention(t_BPd))
        return t_BPd + self.mlp(self.before_mlp(t_BPd).flatten(0, 1)).view_as(t_BPd)

    def attend(self, t_BPd: Tensor) -> Tensor:
        """Multi-head self-attention: [B, P, d]"""
        rows, tokens, width = t_BPd.shape
        q, k, v = self.qkv(t_BPd).view(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(rows, tokens, width))
