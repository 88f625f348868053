"""What a model sees: one batch as tensors, and the widths it is built from.

Shapes: B rows, U rows of users, D input width, d width of an item embedding, N behaviours, S scenarios, T tasks.

One rule makes a request cheap: what depends on the user alone has U rows. In training and offline U = B; in a request
all candidates are one user's, U = 1, and the row broadcasts. Nothing repeats it before it meets what differs by row.
"""

# Without `from __future__ import annotations`: TorchScript resolves the fields of a nested NamedTuple only when their
# annotations are types and not strings.

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Route(NamedTuple):
    """The batch's grouping by scenario, made once. Rows reach every model sorted by scenario.

    scenario_B: int64, non-decreasing, values in [0, S).
    counts: rows of each scenario, a list of S ints (for the loop back-end: no device synchronisation).
    ends_S: int32, cumulative counts (the `offs` of torch.nn.functional.grouped_mm).
    """

    scenario_B: Tensor
    counts: list[int]
    ends_S: Tensor


class Behaviours(NamedTuple):
    """One sequence, embedded. target_Bd: the candidate, in the parts that a behaviour has too, zeros in others.

    Padded on the right, oldest first; mask_UN is True at real behaviours; scenario_UN is int64, 0 at padding and S
    where the scenario of a behaviour is not known.
    """

    target_Bd: Tensor
    history_UNd: Tensor
    mask_UN: Tensor
    scenario_UN: Tensor


class Inputs(NamedTuple):
    """One batch. x_BD holds every feature side by side, in the order of Dims.fields.

    The other tensors are those of the model's history (see Behaviours), and empty ([U, 0, ...]) for models that read
    none.
    """

    x_BD: Tensor
    route: Route
    target_Bd: Tensor
    history_UNd: Tensor
    mask_UN: Tensor
    history_scenario_UN: Tensor


@dataclass(frozen=True)
class Field:
    """One feature's slice of x: columns [start, start + width)."""

    name: str
    start: int
    width: int
    side: str
    kind: str


@dataclass(frozen=True)
class Dims:
    """The widths that a model is built from.

    x: D. num_scenarios: S. num_tasks: T. item: d, the width of a behaviour and of the target item (0 without a
    sequence). fields: the slices of x. user, target: the names of the fields that identify user and item, if any.
    """

    x: int
    num_scenarios: int
    num_tasks: int = 1
    item: int = 0
    fields: tuple[Field, ...] = ()
    user: str | None = None
    target: str | None = None


def make_route(scenario_B: Tensor, num_scenarios: int) -> Route:
    """The route of rows that are already sorted by scenario; scenario_B: int64 [B], non-decreasing."""
    counts_S = torch.bincount(scenario_B, minlength=num_scenarios)
    counts: list[int] = counts_S.tolist()
    return Route(scenario_B, counts, counts_S.cumsum(0).to(torch.int32))
