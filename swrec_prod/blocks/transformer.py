"""Transformers: tokens of the same row, be they fields or behaviours, that attend to each other.

Shapes: B rows, U rows of users (B or 1), D input width, N tokens (behaviours, or P fields), d their width, H heads, h
width of a head, I width of an item's embedding.
Sequences are padded on the right, oldest first; masks are True at real behaviours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.layers.fields import FieldTokens
from swrec_prod.layers.inputs import Dims, Field, Inputs, Route
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.pooling import masked_softmax
from swrec_prod.layers.scenario import ConditionedMLP

Kind = Literal["auto", "field_transformer", "none"]


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

    def forward(self, t_BNd: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """[B, N, d]. mask: the tokens that can be seen; what the others become is finite and means nothing."""
        t_BNd = t_BNd + self.attend(self.before_attention(t_BNd), mask_BN)
        return t_BNd + self.mlp(self.before_mlp(t_BNd).flatten(0, 1)).view_as(t_BNd)

    def attend(self, t_BNd: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """Multi-head self-attention: [B, N, d]"""
        rows, tokens, width = t_BNd.shape
        q, k, v = (
            self.qkv(t_BNd).view(rows, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        )
        seen = None if mask_BN is None else mask_BN.view(rows, 1, 1, tokens)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.out(mixed.transpose(1, 2).reshape(rows, tokens, width))


class FieldTransformer(nn.Module):
    """The fields of the same row attend to each other: [B, D] -> [B, P d] after `layers` pre-norm encoder layers."""

    def __init__(
        self, fields: Sequence[Field], d_in: int, width: int, layers: int, heads: int, feedforward: int
    ) -> None:
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


class BehaviourTransformer(nn.Module):
    """v: behaviours that attend to each other, mixed for the row's target item and scenario (M2M, WSDM 2022, sec. 4.1).

        b_n = EncoderLayers(W h_n + p_n + c_n)
        v = sum_n softmax_n(q . k_n / sqrt(width)) v_n in each head, with q from [t ; e_s], k_n and v_n from norm(b_n)

    p: of the behaviour's position, counted from the latest one back, `positions` of them; older ones share the last. c:
    of the scenario it happened in. Both start at 0. v is zero for an empty history.
    """

    def __init__(
        self,
        num_scenarios: int,
        scenario_dim: int,
        d_in: int,
        width: int,
        layers: int,
        heads: int,
        feedforward: int,
        positions: int,
    ) -> None:
        super().__init__()
        self.token = nn.Linear(d_in, width)
        self.position = nn.Parameter(torch.zeros(positions, width))
        self.happened_in = nn.Parameter(torch.zeros(num_scenarios, width))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, feedforward) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.query = ConditionedMLP(num_scenarios, scenario_dim, d_in, (), width)
        self.key_value = nn.Linear(width, 2 * width)
        self.in_heads, self.two_in_heads = [heads, width // heads], [2, heads, width // heads]

    def forward(self, inputs: Inputs) -> Tensor:
        """v: [B, d]"""
        mask_UN = inputs.mask_UN
        b_UNd = self.tokens(inputs)
        seen_UN = mask_UN | ~mask_UN.any(1, keepdim=True)  # not every kernel knows a softmax over nothing
        for layer in self.layers:
            b_UNd = layer(b_UNd, seen_UN)
        return self.aggregate(self.norm(b_UNd), mask_UN, inputs.target_Bd, inputs.route)

    def tokens(self, inputs: Inputs) -> Tensor:
        """W h_n + p_n + c_n: [U, N, d]"""
        age_UN = (inputs.mask_UN.flip(1).cumsum(1).flip(1) - 1).clamp(0, self.position.shape[0] - 1)
        # of a behaviour whose scenario is not known (index S) the mean of all
        happened_in = torch.cat([self.happened_in, self.happened_in.mean(0, keepdim=True)])
        place_UNd = F.embedding(age_UN, self.position) + F.embedding(inputs.history_scenario_UN, happened_in)
        return self.token(inputs.history_UNd) + place_UNd

    def aggregate(self, b_UNd: Tensor, mask_UN: Tensor, target_BI: Tensor, route: Route) -> Tensor:
        """Multi-head attention of one query a row: [B, d]"""
        q_BHh = self.query(target_BI, route).unflatten(1, self.in_heads)
        k_UHNh, v_UHNh = self.key_value(b_UNd).unflatten(2, self.two_in_heads).permute(2, 0, 3, 1, 4).unbind(0)
        return attention(q_BHh, k_UHNh, v_UHNh, mask_UN)


def attention(q_BHh: Tensor, k_UHNh: Tensor, v_UHNh: Tensor, mask_UN: Tensor) -> Tensor:
    """One query a row in each head: [B, H h]. To the behaviours of one user it is a product a head."""
    scale = q_BHh.shape[2] ** 0.5
    if k_UHNh.shape[0] != q_BHh.shape[0]:
        logit_HBN = q_BHh.transpose(0, 1) @ k_UHNh[0].transpose(1, 2) / scale
        return (masked_softmax(logit_HBN, mask_UN) @ v_UHNh[0]).transpose(0, 1).flatten(1)
    logit_BHN = (k_UHNh @ q_BHh.unsqueeze(3)).squeeze(3) / scale
    a_BHN = masked_softmax(logit_BHN, mask_UN.unsqueeze(1))
    return (a_BHN.unsqueeze(2) @ v_UHNh).reshape(q_BHh.shape[0], -1)


class Backbone(nn.Module):
    """M2M's F = [x ; v] with v of a BehaviourTransformer, or [Fields(x) ; v] with a FieldTransformer;
    v only where behaviours are read.

    kind: "field_transformer", "none", or "auto": "none" with behaviours, "field_transformer" without. width, heads,
    feedforward: of both. The attribute d_out holds the width of F.
    """

    def __init__(
        self,
        dims: Dims,
        kind: Kind,
        reads: bool,
        scenario_dim: int,
        width: int,
        layers: int,
        history_layers: int,
        heads: int,
        feedforward: int,
        positions: int,
    ) -> None:
        super().__init__()
        attend = kind == "field_transformer" or (kind == "auto" and not reads)
        fields = FieldTransformer(dims.fields, dims.x, width, layers, heads, feedforward) if attend else None
        self.fields = nn.Identity() if fields is None else fields
        sizes = width, history_layers, heads, feedforward, positions
        self.behaviours = BehaviourTransformer(dims.num_scenarios, scenario_dim, dims.item, *sizes) if reads else None
        self.d_out = (dims.x if fields is None else fields.d_out) + (width if reads else 0)

    def forward(self, inputs: Inputs) -> Tensor:
        """F: [B, d_out]"""
        x = self.fields(inputs.x_BD)
        return x if self.behaviours is None else torch.cat([x, self.behaviours(inputs)], 1)
