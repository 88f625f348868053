"""Requests: one user's behaviours and candidates; and the models, with options that change what they read of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from batches import ITEM, WIDTH, Rows, dims
from hypothesis import strategies as st
from torch import Tensor

from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Inputs
from swrec_prod.models import MODELS, build

S = 3
VARIANTS = {
    **{name: (name, {}) for name in MODELS},
    "mscan without co-attention": ("mscan", {"use_saca": False}),
    "mscan, three of the same": ("mscan", {"max_same": 3, "attention": 5}),
    "m2m with fields": ("m2m", {"backbone": "field_transformer", "cond": "scenario_user"}),
    "sar_net, two softmaxes": ("sar_net", {"renorm_attention": False, "attention": (6, 4)}),
    "sar_net, linear attention": ("sar_net", {"attention": ()}),
    "sfpnet, pooled": ("sfpnet", {"readout": "dap", "dap_stat": "var"}),
    "sfpnet, maximum": ("sfpnet", {"readout": "dap", "dap_stat": "max"}),
    "sfpnet, one block": ("sfpnet", {"blocks": 1, "dap_stat": "none"}),
}


def shaken_model(variant: str) -> ScenarioModel:
    """In eval mode, with no parameter at its start."""
    torch.manual_seed(0)
    name, options = VARIANTS[variant]
    model = build(name, options, dims(S)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@dataclass(frozen=True)
class Request:
    """A user's behaviours, one row, and the candidates, sorted by scenario."""

    scenario_B: Tensor
    x_BD: Tensor
    history: tuple[Tensor, Tensor, Tensor]

    def inputs(self, users: int) -> Inputs:
        """With the user's row as it is (1), or once for every candidate."""
        return Rows(self.scenario_B, self.x_BD, *(each.expand(users, *each.shape[1:]) for each in self.history)).inputs(
            S
        )

    def of(self, scenario: int) -> Request:
        return replace(self, scenario_B=torch.full_like(self.scenario_B, scenario))


def request_of(rows: int, length: int, share: float, seed: int) -> Request:
    g = torch.Generator().manual_seed(seed)
    mask_1N = torch.arange(length).unsqueeze(0) < round(share * length)
    user, items = torch.randn(1, ITEM, generator=g), torch.randn(rows, WIDTH - ITEM, generator=g)
    history = torch.randn(1, length, ITEM, generator=g) * mask_1N.unsqueeze(2)
    where = torch.randint(0, S + 1, (1, length), generator=g) * mask_1N  # S: in a scenario that is not known
    scenario_B = torch.randint(0, S, (rows,), generator=g).sort().values
    return Request(scenario_B, torch.cat([user.expand(rows, -1), items], 1), (history, mask_1N, where))


requests = st.builds(
    request_of,
    rows=st.integers(1, 40),
    length=st.integers(0, 9),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 999),
)
