"""torch.ops.swrec.search_one_user: M-scan's search for the best match, for all candidates of one user at once.

Importing this module registers it, which must come before torch.jit.load.

    c_bn = max_k (sum_{a < positive} max(p_nka, target_ba) + sum_{a >= positive} min(p_nka, target_ba)),
    p_nka = history_na + same_ka

Where numba is installed it is the compiled loop of operators/search_loop.py, made at the first call, and else passes of
torch, which take over four times as long; torch's own fused form of such sums, cdist with p = 1, takes nine times.

Shapes: B candidates, N behaviours, K of them in the scenario, A hidden units.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

GROUP = 8  # the compiled loop takes whole groups of so many hidden units; the same there
CHUNK = 1 << 18  # floats that stay in cache


def search_in_passes(history_NA: Tensor, same_KA: Tensor, target_BA: Tensor, positive: int) -> Tensor:
    """c_BN by operations of torch, on any device."""
    rows, n, k = len(target_BA), len(history_NA), len(same_KA)
    if n == 0:
        return target_BA.new_empty([rows, 0])
    pair_AKN = same_KA.t().unsqueeze(2) + history_NA.t().unsqueeze(1)
    c_BM = sums_of_extremes(pair_AKN.contiguous().flatten(1), target_BA.t().contiguous(), positive)
    return c_BM.reshape(rows, k, n).amax(1)


def _search_on_cpu(history_NA: Tensor, same_KA: Tensor, target_BA: Tensor, positive: int) -> Tensor:
    loop, width = compiled_loop(), target_BA.shape[1]
    if loop is None or width % GROUP or positive % GROUP or target_BA.dtype != torch.float32:
        return search_in_passes(history_NA, same_KA, target_BA, positive)
    c_BN = target_BA.new_empty([len(target_BA), len(history_NA)])
    shape = (width // GROUP, GROUP)
    arrays = [x.detach().contiguous().view(len(x), *shape).numpy() for x in (history_NA, same_KA, target_BA)]
    loop(*arrays, positive // GROUP, c_BN.numpy())
    return c_BN


@cache
def compiled_loop() -> Callable[..., None] | None:
    """search_loop.search; None where numba is not installed, or does not fit to this numpy."""
    try:
        from swrec_prod.operators.search_loop import search
    except ImportError:
        return None
    return search


def sums_of_extremes(pair_AM: Tensor, target_AB: Tensor, positive: int) -> Tensor:
    """sum_a max(pair_am, target_ab) over the first `positive` a, plus the sum of the minima over the others: [B, M].

    In chunks that stay in cache, over vectors of whichever of M and B is larger.
    """
    if pair_AM.shape[1] < target_AB.shape[1]:
        return _sums_along(target_AB, pair_AM, positive).t()
    return _sums_along(pair_AM, target_AB, positive)


def _sums_along(long_AL: Tensor, short_AS: Tensor, positive: int) -> Tensor:
    """The same over vectors of L: [S, L]. The loop has few operations: beside a chunk each of them counts."""
    width, length = long_AL.shape
    chunk = min(max(1, CHUNK // max(1, width * length)), short_AS.shape[1])
    # Planes a whole number of 4 KB apart would have the same lines of the cache.
    plane = -(-chunk * length // 1024) * 1024 + 16
    extremes_ACL = long_AL.new_empty([width, plane])[:, : chunk * length].view(width, chunk, length)
    above, below, long_AL1 = extremes_ACL[:positive], extremes_ACL[positive:], long_AL.unsqueeze(1)
    totals = []
    for short_AC1 in short_AS.unsqueeze(2).split(chunk, 1):
        rows = short_AC1.shape[1]
        if rows < chunk:
            extremes_ACL, above, below = extremes_ACL[:, :rows], above[:, :rows], below[:, :rows]
        torch.maximum(long_AL1[:positive], short_AC1[:positive], out=above)
        torch.minimum(long_AL1[positive:], short_AC1[positive:], out=below)
        totals.append(extremes_ACL.sum(0))
    return torch.cat(totals)


NAME = "swrec::search_one_user"
torch.library.define(NAME, "(Tensor history_NA, Tensor same_KA, Tensor target_BA, int positive) -> Tensor")
torch.library.impl(NAME, "default", search_in_passes)
torch.library.impl(NAME, "cpu", _search_on_cpu)
