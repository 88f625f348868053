"""Random batches for the tests of blocks and models: rows of four features and a history, sorted by scenario."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from swrec_prod.layers.inputs import Dims, Field, Inputs, make_route

ITEM = 8
WIDTH = 3 * ITEM + 1


def dims(num_scenarios: int = 3, num_tasks: int = 2) -> Dims:
    """user, item and tag of width 8, and one number."""
    fields = (
        Field("user", 0, ITEM, "user", "id"),
        Field("item", ITEM, ITEM, "item", "id"),
        Field("tag", 2 * ITEM, ITEM, "item", "bag"),
        Field("age", 3 * ITEM, 1, "user", "dense"),
    )
    return Dims(WIDTH, num_scenarios, num_tasks, ITEM, fields, user="user", target="item")


@dataclass
class Rows:
    """Rows in any order, before they are sorted for a model."""

    scenario_B: Tensor
    x_BD: Tensor
    history_BNd: Tensor
    mask_BN: Tensor
    history_scenario_BN: Tensor

    def take(self, index: Tensor) -> Rows:
        return Rows(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def inputs(self, num_scenarios: int) -> Inputs:
        """The rows as they stand; scenario_B must be sorted."""
        route = make_route(self.scenario_B, num_scenarios)
        target_Bd = self.x_BD[:, ITEM : 2 * ITEM]
        return Inputs(self.x_BD, route, target_Bd, self.history_BNd, self.mask_BN, self.history_scenario_BN)

    def of(self, scenario: int) -> Rows:
        return self.take((self.scenario_B == scenario).nonzero()[:, 0])


def random_rows(rows: int, num_scenarios: int = 3, length: int = 6, seed: int = 0) -> Rows:
    """Unsorted rows. Every fourth row has no history, the others 0 to `length` behaviours in any scenario."""
    g = torch.Generator().manual_seed(seed)
    lengths_B = torch.randint(0, length + 1, (rows,), generator=g)
    lengths_B[::4] = 0
    mask_BN = torch.arange(length) < lengths_B[:, None]
    return Rows(
        torch.randint(0, num_scenarios, (rows,), generator=g),
        torch.randn(rows, WIDTH, generator=g),
        torch.randn(rows, length, ITEM, generator=g) * mask_BN[..., None],
        mask_BN,
        torch.randint(0, num_scenarios, (rows, length), generator=g) * mask_BN,
    )


def sorted_rows(rows: int, num_scenarios: int = 3, length: int = 6, seed: int = 0) -> Rows:
    unsorted = random_rows(rows, num_scenarios, length, seed)
    return unsorted.take(unsorted.scenario_B.argsort(stable=True))


@torch.no_grad()
def score(model: nn.Module, rows: Rows, num_scenarios: int) -> Tensor:
    """The model's logits in the order of `rows`: sorts, scores, unsorts."""
    order = rows.scenario_B.argsort(stable=True)
    sorted_BT = model(rows.take(order).inputs(num_scenarios))
    return torch.empty_like(sorted_BT).index_copy_(0, order, sorted_BT)


def count_flops(work: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products in `work`; grouped_mm, which torch does not count, included."""

    def grouped(a: torch.Size, b: torch.Size, *_: Any, **__: Any) -> int:
        # [rows, I] x [S, I, O], or the weight's gradient [I, rows] x [rows, O]: each row meets one matrix either way.
        return 2 * a[0] * a[1] * b[-1]

    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten._grouped_mm: grouped}) as counter:
        work()
    return counter.get_total_flops()
