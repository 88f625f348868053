"""M3oE's experts of scenarios and of tasks: the one that is the row's,
and the mean of the others (Zhang et al., SIGIR 2024).

Shapes: B rows, S scenarios, T tasks, E experts, I input width, H output width.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.blocks.experts import ParallelMLP, parallel_linear
from swrec_prod.layers.grouped import GroupedLinear
from swrec_prod.layers.inputs import Route
from swrec_prod.layers.ranks import of_first_rank
from swrec_prod.layers.scenario import ScenarioLayerNorm

Others = Literal["exact", "sampled", "ema_expert"]


class DomainExperts(nn.Module):
    """beta f_s(x) + (1 - beta) mean of f_j(x) over j != s; f_s(x) alone for S = 1.

    f is Linear -> layer norm -> ReLU, beta a learned number, 0.73 at the start. The mean is, according to `others`:
    "exact": over all j, as one product whose cost grows with S. "sampled": in training over the j among `samples`
    scenarios drawn for the batch, at least 2; exact in eval. "ema_expert": what one more expert says, whose weights
    follow the mean of all experts' weights; it costs a row the same whatever S is, in training and in eval.
    """

    def __init__(self, num_scenarios: int, d_in: int, width: int, others: Others = "exact", samples: int = 8) -> None:
        super().__init__()
        self.linear = GroupedLinear(num_scenarios, d_in, width)
        self.norm = ScenarioLayerNorm(num_scenarios, width)
        self.share = nn.Parameter(torch.ones(()))
        self.average = _AverageExpert(self.weights()) if others == "ema_expert" else None
        self.samples = samples if others == "sampled" else num_scenarios

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, H]"""
        own_BH = self.norm(self.linear(x_BI, route), route).relu()
        return torch.lerp(self.others(x_BI, own_BH, route.scenario_B), own_BH, self.share.sigmoid())

    def others(self, x_BI: Tensor, own_BH: Tensor, scenario_B: Tensor) -> Tensor:
        """The mean of the other experts: [B, H]."""
        weights = self.weights()
        if weights[0].shape[0] == 1:
            return own_BH
        if self.average is not None:
            if self.training:
                self.average.follow(weights)
            return self.average(x_BI)
        drawn_E = torch.arange(weights[0].shape[0], device=x_BI.device)
        if self.training and self.samples < drawn_E.shape[0]:
            drawn_E = of_first_rank(torch.randperm(drawn_E.shape[0], device=x_BI.device)[: self.samples])
            weights = [weight.index_select(0, drawn_E) for weight in weights]
        own_drawn_B1 = (scenario_B.unsqueeze(1) == drawn_E).sum(1, keepdim=True)
        return (_say(x_BI, weights).sum(1) - own_drawn_B1 * own_BH) / (drawn_E.shape[0] - own_drawn_B1)

    def weights(self) -> list[Tensor]:
        """Weight, bias, scale and shift of all experts, [S, ...] each."""
        return [self.linear.weight, self.linear.bias, self.norm.affine.scale, self.norm.affine.shift]


class TaskExperts(nn.Module):
    """alpha (beta f_t(x) + (1 - beta) mean of f_j(x) over j != t) for each task t, of at least two;
    alpha, beta learned numbers.
    """

    def __init__(self, num_tasks: int, d_in: int, width: int) -> None:
        super().__init__()
        self.experts = ParallelMLP(num_tasks, d_in, (width,), "layer")
        self.alpha = nn.Parameter(torch.ones(()))
        self.share = nn.Parameter(torch.ones(()))

    def forward(self, x_BI: Tensor) -> Tensor:
        """[B, T, H]"""
        f_BTH = self.experts(x_BI)
        others_BTH = (f_BTH.sum(1, keepdim=True) - f_BTH) / (f_BTH.shape[1] - 1)
        return self.alpha.sigmoid() * torch.lerp(others_BTH, f_BTH, self.share.sigmoid())


class _AverageExpert(nn.Module):
    """One expert whose weights follow, as exponential averages, the mean of all experts' weights."""

    def __init__(self, weights: list[Tensor], decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.weight, self.bias, self.scale, self.shift = (
            nn.Buffer(weight.detach().mean(0, keepdim=True)) for weight in weights
        )

    def forward(self, x_BI: Tensor) -> Tensor:
        # Clones, because `follow` may move the weights before the gradient of this step is taken.
        return _say(x_BI, [weight.clone() for weight in self.weights()]).squeeze(1)

    def follow(self, weights: list[Tensor]) -> None:
        for average, weight in zip(self.weights(), weights):  # noqa: B905  TorchScript knows no strict
            average.lerp_(weight.detach().mean(0, keepdim=True), 1 - self.decay)

    def weights(self) -> list[Tensor]:
        return [self.weight, self.bias, self.scale, self.shift]


def _say(x_BI: Tensor, weights: list[Tensor]) -> Tensor:
    """What the experts with these weights say: [B, E, H]."""
    y_BEH = parallel_linear(x_BI, weights[0], weights[1])
    return (F.layer_norm(y_BEH, [y_BEH.shape[2]]) * weights[2] + weights[3]).relu()
