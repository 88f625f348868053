"""From a padded sequence to one vector a row.

Shapes: B rows, U rows of users (B or 1), N behaviours (K of the row's own scenario), d width of a behaviour, G width
of the state.
Sequences are padded on the right, oldest first; masks are True at real behaviours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LastState(nn.Module):
    """The state of a GRU after the last real behaviour; zero for an empty sequence. K must be at least 1."""

    def __init__(self, d_in: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(d_in, width, batch_first=True)

    def forward(self, x_BKd: Tensor, mask_BK: Tensor) -> Tensor:
        """[B, G]"""
        rows, steps = mask_BK.shape
        states_BKG, _ = self.gru(x_BKd)
        length_B = mask_BK.sum(1)
        last_B = torch.arange(rows, device=length_B.device) * steps + (length_B - 1).clamp(min=0)
        state_BG = states_BKG.reshape(rows * steps, -1).index_select(0, last_B)
        return state_BG.masked_fill((length_B == 0).unsqueeze(1), 0.0)


def masked_softmax(logit_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """Softmax over the True positions of the last dimension; all zeros, never NaN, where there are none.

    A mask of one row is that of all.
    """
    if mask_BN.shape[0] != logit_BN.shape[0]:
        return _softmax_of_one_mask(logit_BN, mask_BN)
    padding_BN = ~mask_BN
    return logit_BN.masked_fill(padding_BN, -float("inf")).softmax(-1).masked_fill(padding_BN, 0.0)


def _softmax_of_one_mask(logit_BN: Tensor, mask_1N: Tensor) -> Tensor:
    """`masked_softmax` without masked_fill, which takes longer than the softmax where it has to repeat the mask."""
    some_11 = mask_1N.any(-1, keepdim=True)
    floor_1N = torch.zeros_like(mask_1N, dtype=logit_BN.dtype).masked_fill(some_11 & ~mask_1N, -float("inf"))
    return (logit_BN + floor_1N).softmax(-1) * some_11


def dot(query_Bd: Tensor, history_UNd: Tensor) -> Tensor:
    """q . h_n for every behaviour of the row's user: [B, N]"""
    if history_UNd.shape[0] == query_Bd.shape[0]:
        return torch.bmm(history_UNd, query_Bd.unsqueeze(2)).squeeze(2)
    return query_Bd @ history_UNd[0].t()


def weighted_sum(weight_BN: Tensor, history_UNd: Tensor) -> Tensor:
    """sum_n a_n h_n: [B, d]"""
    if history_UNd.shape[0] == weight_BN.shape[0]:
        return torch.bmm(weight_BN.unsqueeze(1), history_UNd).squeeze(1)
    return weight_BN @ history_UNd[0]
