"""M-scan's scenario-aware co-attention, and the behaviours of the row's own scenario that it needs.

Shapes: B rows, N behaviours in all scenarios, K behaviours in the row's scenario, d their width, A attention width.
Sequences are padded on the right, oldest first; masks are True at real behaviours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from swrec_prod.blocks.pooling import masked_softmax


def same_scenario(
    history_BNd: Tensor, mask_BN: Tensor, history_scenario_BN: Tensor, scenario_B: Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """The latest `limit` behaviours of each row's own scenario, moved together: S_u [B, K, d] and its mask [B, K].

    K is the longest one in the batch, at least 1. scenario_B: [B], or [1] for a batch of one scenario.
    """
    rows, length = mask_BN.shape
    if length == 0:
        return history_BNd.new_zeros([rows, 1, history_BNd.shape[2]]), mask_BN.new_zeros([rows, 1])
    same_BN = mask_BN & (history_scenario_BN == scenario_B.unsqueeze(1))
    rank_BN = same_BN.cumsum(1)
    count_B1 = rank_BN[:, -1:]
    slot_BN = rank_BN - 1 - (count_B1 - limit).clamp(min=0)
    size = max(1, int(count_B1.clamp(max=limit).max())) if rows > 0 else 1
    # What is not kept goes to a slot behind the last one, which is cut off.
    slot_BN = torch.where(same_BN & (slot_BN >= 0), slot_BN, size)
    position_N = torch.arange(length, device=mask_BN.device).expand(rows, length)
    position_BK = torch.zeros([rows, size + 1], dtype=torch.int64, device=mask_BN.device).scatter(1, slot_BN, position_N)[:, :size]
    own_BK = torch.arange(size, device=mask_BN.device).unsqueeze(0) < count_B1
    return _take(history_BNd, position_BK), own_BK


class CoAttention(nn.Module):
    """R_h, the history weighted by its best match in S_u (M-scan, WWW 2024, eq. 5 and 14-17).

    C_jk = w ReLU(W_h h_j + W_i i + W_s s_k + b); c_j = max_k C_jk; R_h = sum_j softmax_j(c) h_j. Without a bias behind w:
    the softmax would cancel it. An empty S_u is one learned null behaviour, an empty history gives R_h = 0.

    The [B, N, K, A] tensor of all pairs never exists: the arg-max over k is searched in chunks that stay in cache, and
    only the winning pairs are computed with gradients. Values and gradients are those of the full form.
    """

    def __init__(self, d: int, width: int) -> None:
        super().__init__()
        self.history = nn.Linear(d, width, bias=False)
        self.target = nn.Linear(d, width)
        self.same = nn.Linear(d, width, bias=False)
        self.out = nn.Linear(width, 1, bias=False)
        self.null = nn.Parameter(torch.randn(d) * 0.1)

    def forward(self, history_BNd: Tensor, mask_BN: Tensor, same_BKd: Tensor, same_mask_BK: Tensor, target_Bd: Tensor) -> Tensor:
        """R_h: [B, d]"""
        empty_B1 = ~same_mask_BK.any(1, keepdim=True)
        same_BKd = torch.where(empty_B1.unsqueeze(2), self.null, same_BKd)
        h_BNA = self.history(history_BNd) + self.target(target_Bd).unsqueeze(1)
        s_BKA = self.same(same_BKd)
        best_BN = _best_match(h_BNA.detach(), s_BKA.detach(), same_mask_BK | empty_B1, self.out.weight[0].detach())
        c_BN = self.out((h_BNA + _take(s_BKA, best_BN)).relu_()).squeeze(2)
        beta_BN = masked_softmax(c_BN, mask_BN)
        return torch.bmm(beta_BN.unsqueeze(1), history_BNd).squeeze(1)


def _take(x_BKD: Tensor, index_BN: Tensor) -> Tensor:
    """x[b, index[b, n]]: [B, N, D]. A gather of whole rows, whose backward is much faster than that of torch.gather."""
    rows, size, width = x_BKD.shape
    first_B1 = torch.arange(rows, device=index_BN.device).unsqueeze(1) * size
    return x_BKD.reshape(rows * size, width).index_select(0, (index_BN + first_B1).reshape(-1)).view(rows, -1, width)


def _best_match(h_BNA: Tensor, s_BKA: Tensor, mask_BK: Tensor, w_A: Tensor) -> Tensor:
    """argmax_k w ReLU(h_j + s_k) among the True k: int64 [B, N]. Chunks of rows share one buffer, which stays in cache."""
    rows, n, width = h_BNA.shape
    k = s_BKA.shape[1]
    best_BN = torch.zeros([rows, n], dtype=torch.int64, device=h_BNA.device)
    if k == 1 or n == 0:
        return best_BN
    floats = 1 << 26 if h_BNA.is_cuda else 1 << 19  # a buffer of 2 MB on a CPU, 256 MB where a launch costs more
    chunk = max(1, min(rows, floats // (n * k * width)))
    buffer = h_BNA.new_empty([chunk, n, k, width])
    for start in range(0, rows, chunk):
        part = slice(start, start + chunk)
        pairs = buffer[: min(chunk, rows - start)]
        torch.add(h_BNA[part].unsqueeze(2), s_BKA[part].unsqueeze(1), out=pairs)
        score = torch.mv(pairs.relu_().view(-1, width), w_A).view(-1, n, k)
        best_BN[part] = score.masked_fill_(~mask_BK[part].unsqueeze(1), -float("inf")).argmax(2)
    return best_BN
