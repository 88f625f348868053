"""Rows of embedding tables -> the tensors that models read: bags pooled, behaviours padded, candidates beside them.

One definition for training and for packages: TorchScript compiles it.

Shapes: B rows, D width of all looked-up features, d width of a behaviour, N behaviours.
"""

# Without `from __future__ import annotations`: TorchScript reads the annotations.

from typing import NamedTuple

import torch
from torch import Tensor, nn

from swrec_prod.layers.inputs import Behaviours
from swrec_prod.schema.layout import Layout, width_of


class History(NamedTuple):
    """The behaviours of one sequence, padded: layers.inputs.Behaviours without the candidate."""

    history_UNd: Tensor
    mask_UN: Tensor
    scenario_UN: Tensor


class Assembly(nn.Module):
    """What lies where in the arrays of encoding.pack.Packed, for one layout."""

    singles: list[str]
    weighted: list[bool]
    parts: list[list[str]]
    compared: list[list[int]]
    widths: list[list[int]]

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        names = [f.name for f in layout.looked_up]
        self.singles = [f.pooling if f.kind == "bag" else "one" for f in layout.looked_up]
        self.weighted = [f.weights is not None for f in layout.looked_up]
        self.parts = [[part.kind for part in s.parts] for s in layout.sequences]
        self.compared = [[names.index(c) if c in names else -1 for c in s.compared] for s in layout.sequences]
        self.widths = [[width_of(part) for part in s.parts] for s in layout.sequences]

    def sizes(self, lengths: Tensor, bag_lengths: Tensor) -> list[int]:
        """How many values each looked-up feature, and each id or bag of each sequence, has in sequence_values."""
        features = len(self.singles) + len(self.parts)
        if features == 0:
            return []
        counts: list[int] = lengths.reshape(features, -1).sum(1).tolist()
        sizes = counts[: len(self.singles)]
        bags = 0
        for k, parts in enumerate(self.parts):
            behaviours = counts[len(self.singles) + k]
            for part in parts:
                if part == "id":
                    sizes.append(behaviours)
                elif part == "bag":
                    sizes.append(int(bag_lengths[bags : bags + behaviours].sum().item()))
                    bags += behaviours
        return sizes

    def forward(
        self,
        pooled_BD: Tensor,
        runs: list[Tensor],
        lengths: Tensor,
        behaviour_scenario: Tensor,
        bag_lengths: Tensor,
        numbers: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, list[Behaviours]]:
        """[pooled ; looked up] [B, D], and the behaviours of each sequence.

        runs: the rows of tables, [n, width] for each of `sizes`. The others are arrays of Packed.
        """
        rows = pooled_BD.shape[0]
        looked_up = self.looked_up(runs, lengths, weights, rows)
        behaviours: list[Behaviours] = []
        for k, history in enumerate(self.histories(runs, lengths, behaviour_scenario, bag_lengths, numbers)):
            target_Bd = self._target(k, looked_up, pooled_BD)
            behaviours.append(Behaviours(target_Bd, history.history_UNd, history.mask_UN, history.scenario_UN))
        features = [pooled_BD]
        features.extend(looked_up)
        return torch.cat(features, 1), behaviours

    def histories(
        self, runs: list[Tensor], lengths: Tensor, behaviour_scenario: Tensor, bag_lengths: Tensor, numbers: Tensor
    ) -> list[History]:
        """The behaviours of each sequence; see forward."""
        rows = lengths.numel() // (len(self.singles) + len(self.parts))
        histories: list[History] = []
        run, bags, number, start = len(self.singles), 0, 0, 0
        for k, parts in enumerate(self.parts):
            at = len(self.singles) + k
            lengths_B = lengths[at * rows : (at + 1) * rows]
            count = int(lengths_B.sum().item())
            columns: list[Tensor] = []
            for part in parts:
                if part == "dense":
                    columns.append(numbers[number : number + count].unsqueeze(1))
                    number += count
                elif part == "bag":
                    columns.append(pooled(runs[run], bag_lengths[bags : bags + count], "mean"))
                    bags += count
                    run += 1
                else:
                    columns.append(runs[run])
                    run += 1
            values = columns[0] if len(columns) == 1 else torch.cat(columns, 1)
            scenario = behaviour_scenario[start : start + count]
            histories.append(alone(values, scenario) if rows == 1 else pad(values, lengths_B, scenario))
            start += count
        return histories

    def looked_up(self, runs: list[Tensor], lengths: Tensor, weights: Tensor, rows: int) -> list[Tensor]:
        """[B, width] of each looked-up feature; see forward."""
        looked_up: list[Tensor] = []
        start = 0
        for i, how in enumerate(self.singles):
            values = runs[i]
            if self.weighted[i]:
                weights_i = weights[start : start + values.shape[0]]
                start += values.shape[0]
                looked_up.append(weighted(values, weights_i, lengths[i * rows : (i + 1) * rows], how))
            elif how == "one":
                looked_up.append(values)
            else:
                looked_up.append(pooled(values, lengths[i * rows : (i + 1) * rows], how))
        return looked_up

    def _target(self, k: int, looked_up: list[Tensor], pooled_BD: Tensor) -> Tensor:
        """What the candidate has of each part, [B, d]; zeros where it has nothing."""
        columns: list[Tensor] = []
        for i, at in enumerate(self.compared[k]):
            width = self.widths[k][i]
            columns.append(pooled_BD.new_zeros(pooled_BD.shape[0], width) if at < 0 else looked_up[at])
        return columns[0] if len(columns) == 1 else torch.cat(columns, 1)


def owner_of(lengths: Tensor) -> Tensor:
    """For each value the row that it belongs to: int64 [sum of lengths]."""
    return torch.repeat_interleave(torch.arange(lengths.numel(), device=lengths.device), lengths.to(torch.int64))


def pooled(values: Tensor, lengths: Tensor, how: str) -> Tensor:
    """Mean, sum or maximum of each row's values [n, d] -> [rows, d]; zeros where a row has none."""
    index = owner_of(lengths)
    none = values.new_zeros(lengths.numel(), values.shape[1])
    if how == "max":
        spread = index.unsqueeze(1).expand_as(values)
        return none.scatter_reduce(0, spread, values, "amax", include_self=False)
    total = none.index_add(0, index, values)
    return total / lengths.clamp(min=1).unsqueeze(1) if how == "mean" else total


def weighted(values: Tensor, weights: Tensor, lengths: Tensor, how: str) -> Tensor:
    """The pooling of weighted values; the weighted mean divides by the sum of weights. Zeros where that is 0."""
    total = pooled(values * weights.unsqueeze(1), lengths, "sum" if how == "mean" else how)
    if how != "mean":
        return total
    sums = pooled(weights.unsqueeze(1), lengths, "sum")
    return total / sums.masked_fill(sums == 0, 1.0)


def pad(values: Tensor, lengths_B: Tensor, scenario: Tensor) -> History:
    """Jagged behaviours as dense tensors. values: [behaviours, d]; lengths_B: [B]; scenario: [behaviours]."""
    offsets = torch.ops.fbgemm.asynchronous_complete_cumsum(lengths_B.to(torch.int64))
    longest = max(1, int(lengths_B.max().item()))  # at least one, masked: fbgemm refuses a width of 0
    history_UNd = torch.ops.fbgemm.jagged_to_padded_dense(values, [offsets], [longest], 0.0)
    scenario_UN = torch.ops.fbgemm.jagged_1d_to_dense(scenario, offsets, longest, 0)
    mask_UN = torch.arange(longest, device=lengths_B.device).unsqueeze(0) < lengths_B.unsqueeze(1)
    return History(history_UNd, mask_UN, scenario_UN)


def alone(values: Tensor, scenario: Tensor) -> History:
    """`pad` for one row: nothing is moved."""
    if values.shape[0] == 0:
        none = torch.zeros([1, 1], dtype=torch.int64, device=values.device)
        return History(values.new_zeros([1, 1, values.shape[1]]), none.to(torch.bool), none)
    mask_UN = torch.ones([1, values.shape[0]], dtype=torch.bool, device=values.device)
    return History(values.unsqueeze(0), mask_UN, scenario.unsqueeze(0))
