"""The search of operators/search_one_user.py as one loop, on one thread and within the first-level cache.

numba compiles it when this module is imported, which takes seconds. Lanes of vectors are candidates, so that they are
full whatever the number of hidden units.

Shapes: B candidates, N behaviours, K of them in the scenario, G groups of A hidden units, L lanes.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray

LANES = 64  # candidates at a time
GROUP = 8  # hidden units in a group, which numba has to know
GROUPED = "float32[:, :, ::1]"  # contiguous
Floats = NDArray[np.float32]
Extreme = Callable[[float, float], float]


@numba.njit
def _larger(x: float, y: float) -> float:
    """One instruction, unlike max, which treats NaN otherwise."""
    return x if x > y else y


@numba.njit
def _smaller(x: float, y: float) -> float:
    return x if x < y else y


@numba.njit
def _add(extreme: Extreme, pair_GA: Floats, target_GAL: Floats, first: int, end: int, sum_L: Floats) -> None:
    """Add the extremes of a pair and each lane's target, of groups of hidden units, to the lane's sum.

    target_GAL: [G, A L].
    """
    for g in range(first, end):
        pair_A, target_AL = pair_GA[g], target_GAL[g]
        for lane in range(LANES):
            total = sum_L[lane]
            for a in range(GROUP):
                total += extreme(pair_A[a], target_AL[a * LANES + lane])
            sum_L[lane] = total


@numba.njit
def _pairs(history_NGA: Floats, same_KGA: Floats) -> Floats:
    """history + same: [N, K, G, A]"""
    behaviours, groups, _ = history_NGA.shape
    pair_NKGA = np.empty((behaviours, len(same_KGA), groups, GROUP), np.float32)
    for n in range(behaviours):
        for k in range(len(same_KGA)):
            for g in range(groups):
                for a in range(GROUP):
                    pair_NKGA[n, k, g, a] = history_NGA[n, g, a] + same_KGA[k, g, a]
    return pair_NKGA


@numba.njit
def _search_lanes(pair_NKGA: Floats, target_GAL: Floats, positive: int, best_NL: Floats) -> None:
    """The best sum of each behaviour and lane."""
    behaviours, same, groups, _ = pair_NKGA.shape
    sum_L = np.empty(LANES, np.float32)
    for n in range(behaviours):
        for k in range(same):
            for lane in range(LANES):
                sum_L[lane] = 0
            _add(_larger, pair_NKGA[n, k], target_GAL, 0, positive, sum_L)
            _add(_smaller, pair_NKGA[n, k], target_GAL, positive, groups, sum_L)
            for lane in range(LANES):
                best_NL[n, lane] = sum_L[lane] if k == 0 else _larger(best_NL[n, lane], sum_L[lane])


@numba.njit(f"({GROUPED}, {GROUPED}, {GROUPED}, int64, float32[:, ::1])", nogil=True)
def search(history_NGA: Floats, same_KGA: Floats, target_BGA: Floats, positive: int, out_BN: Floats) -> None:
    """The operator's result into `out_BN`. positive: how many groups."""
    rows, groups, group = target_BGA.shape
    if group != GROUP:
        raise ValueError("a group is of GROUP hidden units")
    pair_NKGA = _pairs(history_NGA, same_KGA)
    target_GAL = np.zeros((groups, GROUP * LANES), np.float32)
    best_NL = np.empty((len(history_NGA), LANES), np.float32)
    for start in range(0, rows, LANES):
        lanes = min(LANES, rows - start)
        for lane in range(lanes):
            for g in range(groups):
                for a in range(GROUP):
                    target_GAL[g, a * LANES + lane] = target_BGA[start + lane, g, a]
        _search_lanes(pair_NKGA, target_GAL, positive, best_NL)
        for lane in range(lanes):
            for n in range(len(best_NL)):
                out_BN[start + lane, n] = best_NL[n, lane]
