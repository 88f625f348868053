"""M-scan's scenario-aware co-attention, and the behaviours of the row's own scenario that it needs.

Shapes: B rows, N behaviours in all scenarios, K behaviours in the row's scenario, d their width, A attention width.
Sequences are padded on the right, oldest first; masks are True at real behaviours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from swrec_prod.layers.pooling import masked_softmax


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
    position_BK = torch.zeros([rows, size + 1], dtype=torch.int64, device=mask_BN.device).scatter(
        1, slot_BN, position_N
    )[:, :size]
    own_BK = torch.arange(size, device=mask_BN.device).unsqueeze(0) < count_B1
    return _take(history_BNd, position_BK), own_BK


class CoAttention(nn.Module):
    """R_h, the history weighted by its best match in S_u (M-scan, WWW 2024, eq. 5 and 14-17).

    C_jk = w ReLU(W_h h_j + W_i i + W_s s_k + b); c_j = max_k C_jk; R_h = sum_j softmax_j(c) h_j. Without a bias behind
    w: the softmax would cancel it. An empty S_u is one learned null behaviour, an empty history gives R_h = 0.

    Neither the [B, N, K, A] tensor of all pairs nor a [B, N, A] one ever exists, see _BestMatch; values and gradients
    are those of the full form.
    """

    def __init__(self, d: int, width: int) -> None:
        super().__init__()
        self.history = nn.Linear(d, width, bias=False)
        self.target = nn.Linear(d, width)
        self.same = nn.Linear(d, width, bias=False)
        self.out = nn.Linear(width, 1, bias=False)
        self.null = nn.Parameter(torch.randn(d) * 0.1)

    def forward(
        self, history_BNd: Tensor, mask_BN: Tensor, same_BKd: Tensor, same_mask_BK: Tensor, target_Bd: Tensor
    ) -> Tensor:
        """R_h: [B, d]"""
        empty_B1 = ~same_mask_BK.any(1, keepdim=True)
        same_BKd = torch.where(empty_B1.unsqueeze(2), self.null, same_BKd)
        c_BN = best_match(
            history_BNd,
            self.history.weight,
            self.target(target_Bd),
            self.same(same_BKd),
            same_mask_BK | empty_B1,
            self.out.weight[0],
        )
        beta_BN = masked_softmax(c_BN, mask_BN)
        return torch.bmm(beta_BN.unsqueeze(1), history_BNd).squeeze(1)


def best_match(history_BNd: Tensor, W_Ad: Tensor, i_BA: Tensor, s_BKA: Tensor, mask_BK: Tensor, w_A: Tensor) -> Tensor:
    """c_j = max_k w ReLU(W h_j + i + s_k) over the True k, of which every row has one: [B, N].

    Scripted, without gradient.
    """
    if torch.jit.is_scripting():
        return _search(history_BNd.detach(), W_Ad.detach(), i_BA.detach(), s_BKA.detach(), mask_BK, w_A.detach())[0]
    return _BestMatch.apply(history_BNd, W_Ad, i_BA, s_BKA, mask_BK, w_A)


class _BestMatch(torch.autograd.Function):
    """Forward searches the best k, backward visits the winning pairs only;
    both in chunks of rows that stay in cache.
    """

    @staticmethod
    def forward(
        ctx: Any, history_BNd: Tensor, W_Ad: Tensor, i_BA: Tensor, s_BKA: Tensor, mask_BK: Tensor, w_A: Tensor
    ) -> Tensor:
        c_BN, best_BN = _search(history_BNd, W_Ad, i_BA, s_BKA, mask_BK, w_A)
        ctx.save_for_backward(history_BNd, W_Ad, i_BA, s_BKA, w_A, best_BN)
        return c_BN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BN: Tensor) -> tuple[Tensor | None, ...]:
        history_BNd, W_Ad, i_BA, s_BKA, w_A, best_BN = ctx.saved_tensors
        rows, n, d = history_BNd.shape
        k, width = s_BKA.shape[1:]
        grad_history, grad_i = torch.empty_like(history_BNd), torch.zeros_like(i_BA)
        grad_W, grad_s, grad_w = torch.zeros_like(W_Ad), torch.zeros_like(s_BKA), torch.zeros_like(w_A)
        chunk = _chunk_rows(history_BNd, n * width)
        for start in range(0, rows if n > 0 else 0, chunk):
            at = slice(start, start + chunk)
            flat = _flat_index(best_BN[at], k)
            hidden = _project(history_BNd[at], W_Ad, i_BA[at]).view(-1, width)
            hidden.add_(s_BKA[at].reshape(-1, width).index_select(0, flat)).relu_()
            grad_w.addmv_(hidden.t(), grad_BN[at].reshape(-1))
            grad_hidden = hidden.sign_().mul_(w_A).mul_(grad_BN[at].reshape(-1, 1))
            grad_s[at].view(-1, width).index_add_(0, flat, grad_hidden)
            grad_W.addmm_(grad_hidden.t(), history_BNd[at].reshape(-1, d))
            grad_history[at] = (grad_hidden @ W_Ad).view(-1, n, d)
            grad_i[at] = grad_hidden.view(-1, n, width).sum(1)
        return grad_history, grad_W, grad_i, grad_s, None, grad_w


def _search(
    history_BNd: Tensor, W_Ad: Tensor, i_BA: Tensor, s_BKA: Tensor, mask_BK: Tensor, w_A: Tensor
) -> tuple[Tensor, Tensor]:
    """Maximum and arg-max over k of w ReLU(W h_j + i + s_k): [B, N] each. All chunks share one buffer."""
    rows, n, _ = history_BNd.shape
    k, width = s_BKA.shape[1], s_BKA.shape[2]
    c_BN = s_BKA.new_zeros([rows, n])
    best_BN = torch.zeros([rows, n], dtype=torch.int64, device=s_BKA.device)
    chunk = min(rows, _chunk_rows(s_BKA, n * k * width))
    buffer = s_BKA.new_empty([chunk, n, k, width])
    for start in range(0, rows if n > 0 else 0, max(1, chunk)):
        at = slice(start, start + chunk)
        pairs = buffer[: min(chunk, rows - start)]
        torch.add(_project(history_BNd[at], W_Ad, i_BA[at]).unsqueeze(2), s_BKA[at].unsqueeze(1), out=pairs)
        score = torch.mv(pairs.relu_().view(-1, width), w_A).view(-1, n, k)
        c_BN[at], best_BN[at] = score.masked_fill_(~mask_BK[at].unsqueeze(1), -float("inf")).max(2)
    return c_BN, best_BN


def _project(history_BNd: Tensor, W_Ad: Tensor, i_BA: Tensor) -> Tensor:
    """W h_j + i: [B, N, A]"""
    rows, n, d = history_BNd.shape
    return (history_BNd.reshape(rows * n, d) @ W_Ad.t()).view(rows, n, -1).add_(i_BA.unsqueeze(1))


def _chunk_rows(x: Tensor, floats_a_row: int) -> int:
    """How many rows make a chunk of 2 MB on a CPU, and of 256 MB where a launch costs more than a cache miss."""
    floats = 1 << 26 if x.is_cuda else 1 << 19
    return max(1, floats // max(1, floats_a_row))


def _take(x_BKD: Tensor, index_BN: Tensor) -> Tensor:
    """x[b, index[b, n]]: [B, N, D]. A gather of whole rows, whose backward is much faster than that of torch.gather."""
    rows, size, width = x_BKD.shape
    flat = x_BKD.reshape(rows * size, width).index_select(0, _flat_index(index_BN, size))
    return flat.view(rows, index_BN.shape[1], width)


def _flat_index(index_BN: Tensor, size: int) -> Tensor:
    """Positions in [B, size] flattened: [B N]."""
    first_B1 = torch.arange(index_BN.shape[0], device=index_BN.device).unsqueeze(1) * size
    return (index_BN + first_B1).reshape(-1)
