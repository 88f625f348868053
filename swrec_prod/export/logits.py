"""What programs of a package say of rows, and how far two of them are apart.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from swrec_prod.blocks import debias

MOST_ROWS = 4096  # of a call offline: bounds its memory


class Logits(NamedTuple):
    """logit_BT: of the label (y_uis); interest_BT: y_m; scenario_BT: y_s, [B, 0] for a model without causal split."""

    logit_BT: Tensor
    interest_BT: Tensor
    scenario_BT: Tensor

    def ranking_score(self, c: float, after: Sequence[int]) -> Tensor:
        """What to rank by, [B, T], as blocks.debias.ranking_score defines it. after: of the package's layout."""
        return debias.ranking_score(debias.Scores(*self), c, after)

    def take(self, rows: np.ndarray) -> Logits:
        """The given rows, in the given order."""
        return Logits(*(logits[torch.from_numpy(rows)] for logits in self))


def in_calls(rows: np.ndarray) -> list[np.ndarray]:
    """Numbers of rows, cut into what is scored by one call."""
    return np.array_split(rows, -(-len(rows) // MOST_ROWS))


def together(parts: Sequence[Logits]) -> Logits:
    """The rows of `parts`, one after the other."""
    return Logits(*(torch.cat(logits) for logits in zip(*parts, strict=True)))


def difference(logits: Logits, expected: Sequence[np.ndarray]) -> float:
    """The largest |a - b| / max(1, |b|); NaN when a value is not finite."""
    worst = 0.0
    for scored, wanted in zip(logits, expected, strict=True):
        far = np.abs(scored.numpy() - wanted) / np.maximum(1.0, np.abs(wanted))
        if not np.isfinite(far).all():
            return float("nan")
        worst = max(worst, float(far.max(initial=0.0)))
    return worst
