"""MLP: Linear -> norm -> ReLU -> dropout for every hidden layer, then, where asked for, a plain Linear.

Shapes: I input width, O output width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from swrec_prod.blocks.options import Norm


class MLP(nn.Sequential):
    """x [..., I] -> [..., O]; with norm "batch" x is [B, I].

    O is d_out, or without d_out the last hidden width (I when there is none). The attribute d_out holds O.
    """

    def __init__(self, d_in: int, widths: Sequence[int], d_out: int | None = None, norm: Norm = "none", dropout: float = 0.0) -> None:
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
    norms: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}
    layers: list[nn.Module] = [] if norm == "none" else [norms[norm](width)]
    layers.append(nn.ReLU(inplace=True))
    if dropout > 0:
        layers.append(nn.Dropout(dropout))
    return layers
