"""Outcomes that can only follow others, judged on every row:
the entire space of ESMM (Ma et al., SIGIR 2018, eq. 1 and 3).

A model's column for such a task is the logit of P(outcome | the one before it). What a label holds is whether all of
them happened, with probability P(click) P(conversion | click), so the loss on labels needs no choice of rows.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def both(first: Tensor, then: Tensor) -> Tensor:
    """The logit of sigmoid(first) sigmoid(then), elementwise.

    1 / p - 1 = (1 + e^-first)(1 + e^-then) - 1 is a sum of three exponentials, so its logarithm is stable wherever the
    logits are finite, and each of the two gradients is in [0, 1].
    """
    return -torch.logaddexp(torch.logaddexp(-first, -then), -first - then)


def chained(logit_BT: Tensor, after: list[int]) -> Tensor:
    """The label's logits [B, T] of logits that are each given the task before (FeatureSchema.after).

    after: for every task an earlier one that it follows, or -1; [] when none follows another.
    """
    if len(after) == 0 or max(after) < 0:
        return logit_BT
    columns = list(logit_BT.unbind(1))
    for task, first in enumerate(after):
        if first >= 0:
            columns[task] = both(columns[first], columns[task])
    return torch.stack(columns, 1)


class EntireSpace(nn.Module):
    """`chained` for one schema. after: one entry a task."""

    def __init__(self, after: Sequence[int]) -> None:
        super().__init__()
        self.after = list(after)

    def forward(self, logit_BT: Tensor) -> Tensor:
        """The label's logits: [B, T]"""
        return chained(logit_BT, self.after)
