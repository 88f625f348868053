"""Packages of format 1 and 2: their three programs take rows that hold the user again beside every candidate.

    sparse.pt        ids -> embeddings
    dense.pt         embeddings -> scores, rows of any scenarios mixed
    dense_one.pt     embeddings -> scores, all rows of one scenario, given as an index

Programs of format 1 take one sequence of bare items, each array by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from swrec_prod.encoding.pack import Packed, PackedRequest, pack, take
from swrec_prod.encoding.unpack import unpack
from swrec_prod.export.logits import Logits, in_calls, together
from swrec_prod.schema.layout import Layout


@dataclass(frozen=True)
class EarlierPrograms:
    """Called as export.loaded.Programs are. modules: by the names of their files."""

    modules: Mapping[str, nn.Module]
    layout: Layout
    format: int

    def request(self, packed: PackedRequest, scenario: int) -> Logits:
        """Candidates of one scenario."""
        return self._run("dense_one.pt", with_user_repeated(self.layout, packed), torch.tensor([scenario]))

    def mixed(self, packed: Packed) -> Logits:
        """Rows of any scenarios."""
        columns, rows = unpack(self.layout, packed), np.arange(len(packed.scenario_B))
        some = [pack(self.layout, take(columns, of), packed.scenario_B[of]) for of in in_calls(rows)]
        scored = [self._run("dense.pt", rows, torch.from_numpy(rows.scenario_B)) for rows in some]
        return together(scored)

    def _run(self, name: str, packed: Packed, scenario: Tensor) -> Logits:
        with torch.inference_mode():
            arrays = [torch.from_numpy(array) for array in packed[:-1]]
            if self.format == 1:
                embedded = self.modules["sparse.pt"](*arrays[:5])
                return Logits(*self.modules[name](*embedded, arrays[-1], scenario))
            return Logits(*self.modules[name](self.modules["sparse.pt"](arrays), arrays[-1], scenario))


def with_user_repeated(layout: Layout, request: PackedRequest) -> Packed:
    """The candidates of a request as rows of the whole layout."""
    scenario_B = request.items.scenario_B
    user = unpack(layout.user_half, request.user)
    if len(request.user.scenario_B) == 1:
        user = take(user, np.zeros(len(scenario_B), np.int64))
    return pack(layout, user | unpack(layout.item_half, request.items), scenario_B)
