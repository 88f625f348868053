"""Folding: the graph that scores a batch of one scenario, at the cost of a plain network and independent of S.

Every block that holds something per scenario computes it once for all scenarios (`folded`), stacked [S, ...]; the
graph then selects one row by index. Models have nothing to add: they inherit `fold`.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from swrec_prod.layers.inputs import Inputs, Route


@runtime_checkable
class ScenarioBlock(Protocol):
    """A block whose form for a batch of one scenario is cheaper than its own."""

    def folded(self) -> nn.Module:
        """A module with the same forward, for a route whose scenario_B has one element."""


class ScenarioModel(nn.Module):
    """What every model of the zoo is: forward(inputs: Inputs) -> logits [B, T].

    reads_history: the model needs the behaviours in Inputs; "optional": it reads them where the data have them, unless
    its option use_history is false. debiased: it is trained with the scenario bias eliminator unless the run says
    otherwise. A model with auxiliary losses also has forward_with_losses(inputs) -> (logits [B, T], {name: scalar
    loss}).
    """

    reads_history: ClassVar[bool | Literal["optional"]] = False
    debiased: ClassVar[bool] = False

    def fold(self) -> FoldedModel:
        """An eval copy for batches of one scenario; equals the model to rounding."""
        return FoldedModel(fold_blocks(self)).eval()


class FoldedModel(nn.Module):
    """forward(inputs, scenario): logits [B, T] of a batch of one scenario. Scriptable."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs, scenario: Tensor) -> Tensor:
        """scenario: int64 with one element. inputs.route is ignored."""
        return self.model(one_scenario(inputs, scenario))


def fold_blocks(module: nn.Module) -> nn.Module:
    """An eval copy of `module` without gradients, with every block in it folded."""
    folded = copy.deepcopy(module).eval()
    _fold_children(folded)
    return folded.requires_grad_(False)


def one_scenario(inputs: Inputs, scenario: Tensor) -> Inputs:
    """`inputs` with a route that names one scenario for the whole batch, as folded blocks expect it."""
    route = Route(scenario.reshape(1), [inputs.x_BD.shape[0]], inputs.route.ends_S)
    return Inputs(inputs.x_BD, route, inputs.target_Bd, inputs.history_UNd, inputs.mask_UN, inputs.history_scenario_UN)


def _fold_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, ScenarioBlock):
            setattr(module, name, child.folded().eval())
        else:
            _fold_children(child)
