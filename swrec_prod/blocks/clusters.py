"""Clusters of rows, found while training: the routing of ADL (Li et al., SIGIR 2023; AdaptDHM, arXiv 2211.12105).

Shapes: B rows, I width, K clusters.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.layers.ranks import of_first_rank, sum_over_ranks

Mode = Literal["stable", "paper"]

ITERATIONS = 3  # of the routing, a batch
STARVED = 1e-3  # a centre with a smaller share of the soft assignments stays where it is
CANDIDATES = 8  # for a new centre
DEAD = 0.005, 100  # a cluster with a smaller share of the rows for so many batches begins anew


class Clusters(nn.Module):
    """k = argmax_k x . c_k, the cluster of each row; in training the centres move first. centre: [K, I], unit vectors.

    Each batch, three times: r = softmax_k(x . c_k / temperature), c_k <- normalise(momentum c_k + (1 - momentum) m_k).
    "paper": m_k = sum_i r_ik x_i with temperature 1; centres that start anywhere soon agree there and one cluster takes
    all rows. "stable": x has unit length, m_k is the normalised mean, centres start at rows far from each other after
    `warmup` batches that are assigned at random (early embeddings say nothing), and dead clusters begin anew. idle: for
    how many batches in a row a cluster has been dead, [K]. With several ranks all of them move the centres alike.
    """

    def __init__(self, d_in: int, clusters: int, mode: Mode, momentum: float, temperature: float, warmup: int) -> None:
        super().__init__()
        self.centre = nn.Buffer(F.normalize(torch.randn(clusters, d_in), dim=1))
        self.idle = nn.Buffer(torch.zeros(clusters, dtype=torch.int64))
        self.steps = nn.Buffer(torch.zeros((), dtype=torch.int64))
        self.mode, self.momentum, self.warmup = mode, momentum, warmup
        self.temperature = temperature if mode == "stable" else 1.0

    def forward(self, x_BI: Tensor) -> Tensor:
        """k: int64 [B], without gradient."""
        if torch.jit.is_scripting():
            return self.nearest(x_BI.detach())
        return self.learn(x_BI.detach()) if self.training else self.nearest(x_BI.detach())

    def nearest(self, x_BI: Tensor) -> Tensor:
        """The most similar centre; the length of x does not matter."""
        return (x_BI @ self.centre.t()).argmax(1)

    def learn(self, x_BI: Tensor) -> Tensor:
        """The clusters of a training batch, after it has moved the centres."""
        step = int(self.steps)
        self.steps.add_(1)
        if self.mode == "paper":
            return self.follow(x_BI)
        if step < self.warmup:
            return torch.randint(self.centre.shape[0], x_BI.shape[:1], device=x_BI.device)
        x_BI = F.normalize(x_BI, dim=1)
        if step == self.warmup:
            self.centre.copy_(_spread_rows(x_BI, self.centre.shape[0]))
        k_B = self.follow(x_BI)
        self.revive(x_BI, k_B)
        return k_B

    def follow(self, x_BI: Tensor) -> Tensor:
        """Move the centres towards their rows, then assign."""
        for _ in range(ITERATIONS):
            r_BK = (x_BI @ self.centre.t() / self.temperature).softmax(1)
            sums_KI = sum_over_ranks(torch.cat([r_BK.t() @ x_BI, r_BK.sum(0).unsqueeze(1)], 1))
            pull_KI, mass_K1 = sums_KI[:, :-1], sums_KI[:, -1:]
            if self.mode == "stable":
                starved_K1 = mass_K1 < STARVED * mass_K1.sum()
                pull_KI = torch.where(starved_K1, self.centre, F.normalize(pull_KI, dim=1))
            self.centre.copy_(F.normalize(self.momentum * self.centre + (1 - self.momentum) * pull_KI, dim=1))
        return self.nearest(x_BI)

    def revive(self, x_BI: Tensor, k_B: Tensor) -> None:
        """Put the centres of clusters that have long been dead where rows are far from every centre."""
        share, patience = DEAD
        rows_K = sum_over_ranks(torch.bincount(k_B, minlength=self.idle.shape[0]))
        self.idle.copy_(torch.where(rows_K < share * rows_K.sum(), self.idle + 1, 0))
        for k in (self.idle >= patience).nonzero()[:, 0].tolist():
            self.centre[k] = _far_row(x_BI, self.centre)
            self.idle[k] = 0


def _spread_rows(x_BI: Tensor, count: int) -> Tensor:
    """`count` rows of the batch, chosen as greedy k-means++ does: [count, I]."""
    first = torch.randint(x_BI.shape[0], (1,), device=x_BI.device)
    chosen_KI = of_first_rank(x_BI[first])
    for _ in range(count - 1):
        chosen_KI = torch.cat([chosen_KI, _far_row(x_BI, chosen_KI).unsqueeze(0)])
    return chosen_KI


def _far_row(x_BI: Tensor, centre_KI: Tensor) -> Tensor:
    """The row that leaves all rows nearest to a centre, of a few drawn with odds of their squared distance: [I]."""
    distance_B = (1 - (x_BI @ centre_KI.t()).amax(1)).clamp(min=1e-6)
    drawn_CI = x_BI[torch.multinomial(distance_B, CANDIDATES, replacement=True)]
    left_BC = torch.minimum(distance_B.unsqueeze(1), 1 - x_BI @ drawn_CI.t())
    return of_first_rank(drawn_CI[left_BC.sum(0).argmin()])
