"""AdaSparse's pruner: a factor for every neuron, zero for those that a row's scenario does without.

Shapes: B rows, N neurons of a layer, O output width, L layers.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from swrec_prod.layers.ranks import sum_over_ranks

Form = Literal["fusion", "binarization", "scaling"]


class Ramp(nn.Module):
    """A number that goes from `start` to `end` in a straight line, one of `steps` steps at each call in training."""

    def __init__(self, start: float, end: float, steps: int) -> None:
        super().__init__()
        self.start, self.end, self.steps = start, end, steps
        self.done = nn.Buffer(torch.zeros((), dtype=torch.int64))

    def forward(self) -> Tensor:
        """The number, 0-d."""
        value = self.start + (self.end - self.start) * (self.done / self.steps).clamp(max=1.0)
        if self.training:
            self.done.add_(1)
        return value


class Pruner(nn.Module):
    """Factors pi of a layer's neurons from v_in = Q h + q, q the scenario's share (Yang et al., CIKM 2022, eq. 4-6).

        "fusion"         v = beta sigmoid(alpha v_in),  pi = v 1[v > epsilon]
        "binarization"   v = sigmoid(alpha v_in),       pi = 1[v > epsilon]
        "scaling"        pi = beta sigmoid(v_in)

    Without reads_layer v_in = q. The step's gradient is that of sigmoid(10 (v - epsilon)), straight through. A row's
    strongest neuron is always kept, so that no row is left without any.
    """

    def __init__(self, width: int, form: Form, alpha: Ramp, beta: float, epsilon: float, reads_layer: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width, bias=False) if reads_layer else None
        self.alpha = alpha
        self.form = form
        self.scale = 1.0 if form == "binarization" else beta
        self.epsilon = epsilon

    def forward(self, h_BN: Tensor, q_BN: Tensor) -> tuple[Tensor, Tensor]:
        """pi, and the step 1[v > epsilon] in it (all ones for "scaling"):
        [B, N] each, or [1, N] where q is and h is not read.
        """
        if self.layer is not None:
            q_BN = q_BN + self.layer(h_BN)
        if self.form == "scaling":
            return self.scale * q_BN.sigmoid(), torch.ones_like(q_BN)
        v_BN = self.scale * (self.alpha() * q_BN).sigmoid()
        keep_BN = self.step(v_BN)
        return (keep_BN if self.form == "binarization" else v_BN * keep_BN), keep_BN

    def step(self, v_BN: Tensor) -> Tensor:
        """1[v > epsilon or v is the row's largest]."""
        hard_BN = ((v_BN > self.epsilon) | (v_BN >= v_BN.amax(1, keepdim=True))).to(v_BN.dtype)
        if not self.training:
            return hard_BN
        soft_BN = (10 * (v_BN - self.epsilon)).sigmoid()
        return hard_BN + (soft_BN - soft_BN.detach())


class PrunedLinear(nn.Module):
    """W (pi * h) + b with h = activation(y)."""

    def __init__(self, activation: nn.Module, pruner: Pruner, linear: nn.Linear) -> None:
        super().__init__()
        self.activation, self.pruner, self.linear = activation, pruner, linear

    def forward(self, y_BN: Tensor, q_BN: Tensor) -> tuple[Tensor, Tensor]:
        """[B, O], and the pruner's step [B, N] (or [1, N]). q: the scenario's share of the pruner's input."""
        h_BN = self.activation(y_BN)
        pi_BN, keep_BN = self.pruner(h_BN, q_BN)
        return self.linear(pi_BN * h_BN), keep_BN


def pruned_share(keeps: list[Tensor]) -> Tensor:
    """r_l, the part of zeros in each layer's step, over the rows of all ranks: [L]."""
    kept_L = torch.stack([keep_BN.mean() for keep_BN in keeps])
    rows = kept_L.new_full([1], keeps[0].shape[0])
    sums = sum_over_ranks(torch.cat([kept_L * rows, rows]))
    return 1 - sums[:-1] / sums[-1]
