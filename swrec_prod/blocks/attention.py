"""M-scan's scenario-aware co-attention, and the behaviours of the row's own scenario that it needs.

Shapes: B rows, U rows of users (B or 1), G rows of users in a scenario (1 where both are one, else B), N behaviours in
all scenarios, K behaviours in the row's scenario, d their width, A attention width. Sequences are padded on the right,
oldest first; masks are True at real behaviours.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from swrec_prod.layers.pooling import masked_softmax, weighted_sum
from swrec_prod.operators.search_one_user import GROUP


def same_scenario(
    history_UNd: Tensor, mask_UN: Tensor, history_scenario_UN: Tensor, scenario_B: Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """The latest `limit` behaviours of each row's own scenario, moved together: S_u [G, K, d] and its mask [G, K].

    K is the longest one in the batch, at least 1. scenario_B: [B], or [1] for a batch of one scenario.
    """
    same_GN = mask_UN & (history_scenario_UN == scenario_B.unsqueeze(1))
    rows, length = same_GN.shape
    if length == 0:
        return history_UNd.new_zeros([rows, 1, history_UNd.shape[2]]), same_GN.new_zeros([rows, 1])
    rank_GN = same_GN.cumsum(1)
    count_G1 = rank_GN[:, -1:]
    slot_GN = rank_GN - 1 - (count_G1 - limit).clamp(min=0)
    size = max(1, int(count_G1.clamp(max=limit).max())) if rows > 0 else 1
    # What is not kept goes to a slot behind the last one, which is cut off.
    slot_GN = torch.where(same_GN & (slot_GN >= 0), slot_GN, size)
    position_N = torch.arange(length, device=same_GN.device).expand(rows, length)
    position_GK = torch.zeros([rows, size + 1], dtype=torch.int64, device=same_GN.device).scatter(
        1, slot_GN, position_N
    )[:, :size]
    own_GK = torch.arange(size, device=same_GN.device).unsqueeze(0) < count_G1
    return _take(history_UNd, position_GK), own_GK


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
        self, history_UNd: Tensor, mask_UN: Tensor, same_GKd: Tensor, same_mask_GK: Tensor, target_Bd: Tensor
    ) -> Tensor:
        """R_h: [B, d]"""
        rows = target_Bd.shape[0]
        empty_G1 = ~same_mask_GK.any(1, keepdim=True)
        same_GKd = torch.where(empty_G1.unsqueeze(2), self.null, same_GKd)
        c_BN = best_match(
            history_UNd.expand(rows, -1, -1),
            self.history.weight,
            self.target(target_Bd),
            self.same(same_GKd).expand(rows, -1, -1),
            (same_mask_GK | empty_G1).expand(rows, -1),
            self.out.weight[0],
        )
        return weighted_sum(masked_softmax(c_BN, mask_UN), history_UNd)

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The form that searches the pairs of one user for all candidates at once."""
        return OneUserCoAttention(self)


class OneUserCoAttention(nn.Module):
    """CoAttention for scoring; when all rows are one user's, by the operator of operators/search_one_user.py.

    c_jk = w ReLU(p_jk + i) with p_jk = W_h h_j + W_s s_k, and ReLU(p + i) = max(p, -i) + i. The last i does not depend
    on j and k, so that the softmax cancels it, and what remains is a sum of maxima of w p and -w i, or of minima where
    w is negative. Hidden units with w >= 0 come first; each sign's are filled up with zeros to whole groups.
    """

    def __init__(self, attention: CoAttention) -> None:
        super().__init__()
        self.of_rows = copy.deepcopy(attention)
        w_A = attention.out.weight[0]
        above, below = _in_groups(w_A.clamp(min=0)), _in_groups(w_A.clamp(max=0))
        scale_SA, self.positive = torch.cat([above, below]), len(above)
        self.history = nn.Buffer(scale_SA @ attention.history.weight)
        self.same = nn.Buffer(scale_SA @ attention.same.weight)
        self.target = nn.Buffer(-scale_SA @ attention.target.weight)
        self.target_bias = nn.Buffer(-scale_SA @ attention.target.bias)
        self.null = nn.Buffer(attention.null.detach().clone())

    def forward(
        self, history_UNd: Tensor, mask_UN: Tensor, same_GKd: Tensor, same_mask_GK: Tensor, target_Bd: Tensor
    ) -> Tensor:
        """R_h: [B, d]"""
        if history_UNd.shape[0] > 1 or same_GKd.shape[0] > 1:
            return self.of_rows(history_UNd, mask_UN, same_GKd, same_mask_GK, target_Bd)
        same_Kd = same_GKd[0] if bool(same_mask_GK[0, 0]) else self.null.unsqueeze(0)
        history_NS, same_KS = F.linear(history_UNd[0], self.history), F.linear(same_Kd, self.same)
        target_BS = F.linear(target_Bd, self.target, self.target_bias)
        c_BN = torch.ops.swrec.search_one_user(history_NS, same_KS, target_BS, self.positive)
        return weighted_sum(masked_softmax(c_BN, mask_UN), history_UNd)


def _in_groups(scale_A: Tensor) -> Tensor:
    """Rows of diag(scale) whose scale is not 0, and zeros up to a whole number of groups: [S, A]."""
    rows_SA = torch.diag(scale_A)[scale_A != 0]
    return F.pad(rows_SA, (0, 0, 0, -len(rows_SA) % GROUP))


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
            flat = _flat_index(best_BN[at], best_BN[at].shape[0], k)
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


def _take(x_UND: Tensor, index_GK: Tensor) -> Tensor:
    """x[g, index[g, k]], or x[0, index[g, k]] of one user: [G, K, D].

    A gather of whole rows, whose backward is much faster than that of torch.gather.
    """
    users, size, width = x_UND.shape
    flat = x_UND.reshape(users * size, width).index_select(0, _flat_index(index_GK, users, size))
    return flat.view(index_GK.shape[0], index_GK.shape[1], width)


def _flat_index(index_BN: Tensor, rows: int, size: int) -> Tensor:
    """Positions in [rows, size] flattened, with rows B or 1: [B N]."""
    first_B1 = torch.arange(rows, device=index_BN.device).unsqueeze(1) * size
    return (index_BN + first_B1).reshape(-1)
