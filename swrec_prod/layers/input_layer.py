"""InputLayer: embedded features, numbers and behaviours as what a model reads.

Shapes: B rows, U rows of users (B or 1), F numbers, E embedded numbers, D width of x, d width of a
behaviour, N behaviours.
"""

# Without `from __future__ import annotations`: TorchScript reads the annotations.

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from swrec_prod.layers.inputs import Behaviours, Inputs, Route
from swrec_prod.layers.pooling import dot, masked_softmax, weighted_sum

Summary = Literal["attention", "mean", "none"]


class InputLayer(nn.Module):
    """x = [embedded features ; numbers ; embedded numbers ; summaries of further sequences], and the history.

    numbers: how many of the F stand in x as they are; the others become vectors, whose widths are `embedded`.
    summaries: d of each sequence behind the first one, which is the history; how: what becomes of them. Without
    embedded numbers and further sequences it has no weight.
    """

    def __init__(self, numbers: int, embedded: Sequence[int], summaries: Sequence[int], how: Summary) -> None:
        super().__init__()
        self.numbers = numbers
        self.embed = EmbeddedNumbers(embedded) if embedded else None
        summary: type[nn.Module] = AttentionSummary if how == "attention" else MeanSummary
        self.summaries = nn.ModuleList([summary(d) for d in summaries if how != "none"])

    def forward(self, embedded_BD: Tensor, behaviours: list[Behaviours], dense_BF: Tensor, route: Route) -> Inputs:
        """embedded_BD: the looked-up features; behaviours: of every sequence, the history first."""
        parts = [embedded_BD, dense_BF[:, : self.numbers]]
        if self.embed is not None:
            parts.append(self.embed(dense_BF[:, self.numbers :]))
        for i, summary in enumerate(self.summaries):
            parts.append(summary(behaviours[i + 1]).expand(embedded_BD.shape[0], -1))
        x_BD = torch.cat(parts, 1)
        history = behaviours[0] if len(behaviours) > 0 else no_behaviours(x_BD)
        return Inputs(x_BD, route, history.target_Bd, history.history_UNd, history.mask_UN, history.scenario_UN)


class EmbeddedNumbers(nn.Module):
    """v -> v w + b, with w and b of its own for each number (Gorishniy et al., NeurIPS 2022, sec. 3.1)."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(sum(widths)) * 0.1)
        self.bias = nn.Parameter(torch.zeros(sum(widths)))
        owner = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths))
        self.owner = nn.Buffer(owner, persistent=False)

    def forward(self, numbers_BE: Tensor) -> Tensor:
        """[B, sum of widths]"""
        return numbers_BE.index_select(1, self.owner) * self.weight + self.bias


class AttentionSummary(nn.Module):
    """sum_n a_n h_n with a = softmax(h W t / sqrt(d)), t the candidate; zero without behaviours."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.query = nn.Linear(d, d, bias=False)

    def forward(self, behaviours: Behaviours) -> Tensor:
        """[B, d]"""
        query_Bd = self.query(behaviours.target_Bd)
        logit_BN = dot(query_Bd, behaviours.history_UNd) / query_Bd.shape[1] ** 0.5
        return weighted_sum(masked_softmax(logit_BN, behaviours.mask_UN), behaviours.history_UNd)


class MeanSummary(nn.Module):
    """The mean of the behaviours; zero for none."""

    def __init__(self, d: int) -> None:
        super().__init__()

    def forward(self, behaviours: Behaviours) -> Tensor:
        """[U, d]"""
        counts_U1 = behaviours.mask_UN.sum(1, keepdim=True).clamp(min=1)
        return (behaviours.history_UNd * behaviours.mask_UN.unsqueeze(2)).sum(1) / counts_U1


def no_behaviours(x_BD: Tensor) -> Behaviours:
    """What a model that reads no behaviours is given."""
    rows = x_BD.size(0)
    none = x_BD.new_zeros(rows, 0)
    empty = none.to(torch.int64)
    return Behaviours(none, x_BD.new_zeros(rows, 0, 0), empty.to(torch.bool), empty)
