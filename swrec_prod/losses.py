"""What training minimises. Losses are computed from logits, which is stable where probabilities are not.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class Scores(Protocol):
    """The logits that a scorer gives (blocks.debias.Scores)."""

    @property
    def logit_BT(self) -> Tensor:
        """Of the label."""

    @property
    def scenario_BT(self) -> Tensor:
        """Of the label given the scenario alone; [B, 0] without bias eliminator."""


def bce(scores: Scores, labels_BT: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of the label logits: summed over tasks, averaged over rows, sum_i w_i l_i / sum_i w_i.

    With chained logits (blocks.entire_space) this is ESMM's L(pCTR) + L(pCTCVR), over all rows (Ma et al., SIGIR 2018,
    eq. 4). Every row counts the same, so a scenario counts by its traffic. labels_BT: [B, T] in {0, 1}, as float;
    weight_B: [B] >= 0, default 1. All weights zero: 0, not NaN.
    """
    return _row_mean(scores.logit_BT, labels_BT, weight_B)


def debiased_loss(scores: Scores, labels_BT: Tensor, weight_B: Tensor | None = None, alpha: float = 0.1) -> Tensor:
    """M-scan's L = BCE(y_uis) + alpha BCE(y_s) (WWW 2024, eq. 9-11), both against the label, both as in `bce`."""
    if scores.scenario_BT.shape != labels_BT.shape:
        given = list(scores.scenario_BT.shape)
        raise ValueError(
            f"debiased_loss needs scenario logits of shape {list(labels_BT.shape)}, "
            f"not {given}: is there no bias eliminator?"
        )
    return bce(scores, labels_BT, weight_B) + alpha * _row_mean(scores.scenario_BT, labels_BT, weight_B)


def _row_mean(logit_BT: Tensor, labels_BT: Tensor, weight_B: Tensor | None) -> Tensor:
    if weight_B is None:
        return F.binary_cross_entropy_with_logits(logit_BT, labels_BT) * labels_BT.shape[1]
    loss_B = F.binary_cross_entropy_with_logits(logit_BT, labels_BT, reduction="none").sum(1)
    return (loss_B * weight_B).sum() / weight_B.sum().clamp(min=1e-12)
