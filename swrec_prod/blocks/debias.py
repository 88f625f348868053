"""M-scan's scenario bias eliminator, as a wrapper around any model (Zhu et al., WWW 2024, eq. 7, 8 and 12).

Shapes: B rows, S scenarios, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from swrec_prod.blocks.entire_space import EntireSpace, chained
from swrec_prod.layers.folding import fold_blocks, one_scenario
from swrec_prod.layers.inputs import Inputs, Route
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.scenario import ScenarioEmbedding


class Scores(NamedTuple):
    """What a scorer says about each row, all as logits.

    logit_BT: of the label, y_uis = y_m sigmoid(y_s) (eq. 8), or y_m without eliminator; sigmoid gives the probability.
    interest_BT: y_m, the user's interest. scenario_BT: y_s, the scenario's direct influence; [B, 0] without eliminator.
    Of a task that follows another, y_m and y_s are given that one; the label's logit is not (blocks.entire_space).
    """

    logit_BT: Tensor
    interest_BT: Tensor
    scenario_BT: Tensor


class ScenarioBiasEliminator(nn.Module):
    """y_s = FFN(e_s), eq. 7: how much the scenario alone makes a click likely. Folds to a table [S, T]."""

    def __init__(self, num_scenarios: int, num_tasks: int, dim: int = 16, hidden: Sequence[int] = (16,)) -> None:
        super().__init__()
        self.table = ScenarioEmbedding(num_scenarios, dim, MLP(dim, hidden, num_tasks))

    def forward(self, route: Route) -> Tensor:
        """y_s: [B, T]"""
        return self.table(route)


class Scorer(nn.Module):
    """A model and, where wanted, the eliminator: Inputs -> Scores.

    after: which task follows which (FeatureSchema.after).

    apart: what the model gives is the label's logit itself, and y_m is that over sigmoid(y_s), so that eq. 8 and 12
    hold as they do otherwise; y_s learns from the scenario loss alone. Otherwise the model gives y_m, and both learn
    from their product.
    """

    def __init__(
        self,
        model: nn.Module,
        eliminator: ScenarioBiasEliminator | None = None,
        after: Sequence[int] = (),
        *,
        apart: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.eliminator = eliminator
        self.apart = apart
        self.chain = EntireSpace(after) if after else nn.Identity()

    def forward(self, inputs: Inputs) -> Scores:
        """The scores of a batch, rows sorted by scenario."""
        return self.scores(self.model(inputs), inputs.route)

    def forward_with_losses(self, inputs: Inputs) -> tuple[Scores, dict[str, Tensor]]:
        """Scores, and the model's auxiliary losses by name (none for most models)."""
        with_losses: Any = getattr(self.model, "forward_with_losses", None)
        if with_losses is None:
            return self.forward(inputs), {}
        given_BT, losses = with_losses(inputs)
        return self.scores(given_BT, inputs.route), losses

    def scores(self, given_BT: Tensor, route: Route) -> Scores:
        """The scores of rows, from what the model gives of them."""
        if self.eliminator is None:
            return Scores(self.chain(given_BT), given_BT, given_BT[:, :0])
        scenario_BT = self.eliminator(route).expand_as(given_BT)
        if self.apart:
            return Scores(self.chain(given_BT), given_BT / scenario_BT.sigmoid(), scenario_BT)
        return Scores(self.chain(given_BT * scenario_BT.sigmoid()), given_BT, scenario_BT)

    def fold(self) -> FoldedScorer:
        """An eval copy for batches of one scenario; equals the scorer to rounding."""
        return FoldedScorer(fold_blocks(self)).eval()


class FoldedScorer(nn.Module):
    """forward(inputs, scenario): Scores of a batch of one scenario. Scriptable."""

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, inputs: Inputs, scenario: Tensor) -> Scores:
        """scenario: int64 with one element. inputs.route is ignored."""
        return self.scorer(one_scenario(inputs, scenario))


def ranking_score(scores: Scores, c: float | Tensor, after: Sequence[int] = ()) -> Tensor:
    """y_db = sigmoid(y_s) (y_m - c), eq. 12: [B, T]; the label's logit without eliminator.

    c: the counterfactual reference of y_m, a number or broadcastable to [B, T]. after: FeatureSchema.after; a task that
    follows another has the chain of both scores. Within a scenario c never changes the order of a task that follows
    none.
    """
    if scores.scenario_BT.shape[1] == 0:
        return scores.logit_BT
    return chained(scores.scenario_BT.sigmoid() * (scores.interest_BT - c), list(after))
