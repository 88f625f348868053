"""The public benchmark's forms of the models (Scenario-Wise Rec, 2024), for reproducing its figures:
`compat: benchmark`.

COMPAT holds the options with which a model has the benchmark's inputs, layers, norms and initial values, and so its
number of parameters; widths that are not here are the benchmark's by default. Left out is what makes a score depend on
other rows or on what was scored before: STAR normalises with the statistics of the batch that it scores, AdaSparse's
alpha grows when it scores, ADL loses its centres. And what only hurts: AdaSparse turns the sign of a pruned neuron, ADL
never adds its biases. SAR-Net's scenarios have norms over the rows of all scenarios, which all_rows below does not give
it, as its other experts see each row once; its norms stay routed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from swrec_prod.blocks.experts import own
from swrec_prod.errors import ConfigError
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Inputs, make_route

NORMS = {"norm": "batch", "tower_norm": "batch", "norm_scope": "all_rows"}
EXPERTS = {**NORMS, "gate_norm": "batch", "expert": (16,)}
GROWTH = {"alpha": (1.0, 101.0), "ramp_steps": 1_000_000}  # by 0.0001 a step

COMPAT: dict[str, dict[str, Any]] = {
    "shared_bottom": NORMS,
    "mmoe": {**EXPERTS, "num_experts": "scenarios"},
    "ple": EXPERTS,
    "star": {"star_init": "kaiming", "rectify": True, "norm": "batch", "scenario_dim": 0, "norm_scope": "all_rows"},
    "sar_net": {"use_history": False, "dense": False, "transform_init": "random", "norm": "each", "head_norm": "batch"},
    "adasparse": {"dense": False, **GROWTH, "epsilon": 0.01, "sparsity": 0.0, "norm": "batch", "dropout": 0.2},
    "adl": {"dense": False, "adl_mode": "paper", "init": "xavier"},
    "epnet": {"hidden": ()},
}


def resolve(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the model `name`, and those that its `compat` stands for where they are not given.

    Raises ConfigError for an unknown value, and for a model that has no such form.
    """
    given = dict(options)
    compat = given.pop("compat", "none")
    if compat == "none":
        return given
    if compat != "benchmark":
        raise ConfigError(f"model.compat: expected none or benchmark, not {compat!r}")
    if name not in COMPAT:
        raise ConfigError(
            f"model.compat: {name} has no benchmark form; those that have one: {', '.join(sorted(COMPAT))}"
        )
    return {**COMPAT[name], **given}


def scope_types(name: str) -> dict[str, Any]:
    """norm_scope, for the models that have it: its type by its name."""
    return {"norm_scope": Literal["routed", "all_rows"]} if "norm_scope" in COMPAT.get(name, {}) else {}


class AllRows(ScenarioModel):
    """norm_scope "all_rows": in training every row passes through the networks of all scenarios, so that their batch
    norms see all rows, and the logit of its own scenario is taken. Costs S times as much. In eval it is `model`.
    """

    def __init__(self, model: ScenarioModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        if torch.jit.is_scripting():
            return self.model(inputs)
        return self.of_copies(inputs) if self.training else self.model(inputs)

    def of_copies(self, inputs: Inputs) -> Tensor:
        """Logits [B, T], from a batch that has a copy of every row in every scenario. The model reads no behaviours."""
        rows, S = inputs.x_BD.shape[0], len(inputs.route.counts)
        scenario = torch.arange(S, device=inputs.x_BD.device).repeat_interleave(rows)
        copies = inputs._replace(x_BD=inputs.x_BD.repeat(S, 1), route=make_route(scenario, S))
        return own(self.model(copies).unflatten(0, (S, rows)).transpose(0, 1), inputs.route.scenario_B)
