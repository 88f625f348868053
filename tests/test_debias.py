from __future__ import annotations

import math

import pytest
import torch
from batches import dims, sorted_rows
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from swrec_prod.blocks.debias import ScenarioBiasEliminator, Scorer, Scores, ranking_score
from swrec_prod.layers.inputs import Inputs, make_route
from swrec_prod.losses import debiased_loss
from swrec_prod.models import build

S = 3


class WithLoss(nn.Module):
    """A model with an auxiliary loss."""

    def forward(self, inputs: Inputs) -> torch.Tensor:
        return inputs.x_BD[:, :2]

    def forward_with_losses(self, inputs: Inputs) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.forward(inputs) + 1, {"gate": inputs.x_BD.mean()}


def scorer_of(name: str = "shared_bottom") -> Scorer:
    torch.manual_seed(0)
    return Scorer(build(name, {}, dims(S)), ScenarioBiasEliminator(S, 2)).eval()


def test_the_label_logit_is_interest_times_the_scenarios_probability() -> None:
    scorer, inputs = scorer_of(), sorted_rows(20).inputs(S)
    scores = scorer(inputs)
    torch.testing.assert_close(scores.interest_BT, scorer.model(inputs))
    torch.testing.assert_close(scores.logit_BT, scores.interest_BT * torch.sigmoid(scores.scenario_BT))


def test_the_scenario_logit_depends_on_the_scenario_only() -> None:
    rows = sorted_rows(30)
    scenario_BT = scorer_of()(rows.inputs(S)).scenario_BT
    for s in range(S):
        assert len(scenario_BT[rows.scenario_B == s].unique(dim=0)) == 1
    assert len(scenario_BT.unique(dim=0)) == S


def test_without_eliminator_the_logit_is_the_interest() -> None:
    scorer, inputs = Scorer(build("shared_bottom", {}, dims(S))), sorted_rows(5).inputs(S)
    scores = scorer(inputs)
    assert scores.scenario_BT.shape == (5, 0)
    assert torch.equal(scores.logit_BT, scores.interest_BT)
    assert torch.equal(ranking_score(scores, 3.0), scores.interest_BT)


def test_apart_the_model_is_trained_as_it_would_be_alone() -> None:
    torch.manual_seed(0)
    eliminator = ScenarioBiasEliminator(S, 2)
    scorer, rows = Scorer(build("shared_bottom", {}, dims(S)), eliminator, apart=True), sorted_rows(20)
    scores = scorer(rows.inputs(S))
    torch.testing.assert_close(scores.logit_BT, scorer.model(rows.inputs(S)))
    torch.testing.assert_close(scores.interest_BT * torch.sigmoid(scores.scenario_BT), scores.logit_BT)
    torch.testing.assert_close(ranking_score(scores, 2.0), scores.logit_BT - 2 * torch.sigmoid(scores.scenario_BT))
    labels_BT = torch.randint(0, 2, (20, 2)).float()
    debiased_loss(scores, labels_BT, alpha=0.3).backward()
    gradients = [p.grad.clone() for p in scorer.parameters()]
    scorer.zero_grad()
    alone_BT, scenario_BT = scorer.model(rows.inputs(S)), eliminator(rows.inputs(S).route)
    entropy = nn.functional.binary_cross_entropy_with_logits
    (2 * entropy(alone_BT, labels_BT) + 0.3 * 2 * entropy(scenario_BT, labels_BT)).backward()
    for ours, plain in zip(gradients, scorer.parameters(), strict=True):
        torch.testing.assert_close(ours, plain.grad)
    folded = scorer.fold()
    for s in range(S):
        own = rows.take((rows.scenario_B == s).nonzero()[:, 0])
        torch.testing.assert_close(folded(own.inputs(S), torch.tensor([s])), scorer.eval()(own.inputs(S)))


@given(y_m=st.floats(-20, 20), y_s=st.floats(-20, 20), c=st.floats(-5, 5))
def test_the_ranking_score_is_equation_12(y_m: float, y_s: float, c: float) -> None:
    sigma = 1 / (1 + math.exp(-y_s))
    interest, scenario = torch.tensor([[y_m]]), torch.tensor([[y_s]])
    got = ranking_score(Scores(interest * sigma, interest, scenario), c)
    assert got.item() == pytest.approx(y_m * sigma - c * sigma, abs=1e-4)


def test_c_changes_how_scenarios_compare() -> None:
    scores = Scores(torch.zeros(2, 1), torch.tensor([[2.0], [1.8]]), torch.tensor([[2.0], [-2.0]]))
    assert ranking_score(scores, 0.0).argmax() == 0
    assert ranking_score(scores, 3.0).argmax() == 1
    per_row = ranking_score(scores, torch.tensor([[0.0], [3.0]]))
    assert per_row.tolist() == [ranking_score(scores, 0.0)[0].tolist(), ranking_score(scores, 3.0)[1].tolist()]


def test_both_branches_learn_and_absent_scenarios_have_a_zero_gradient() -> None:
    scorer, rows = scorer_of().train(), sorted_rows(40)
    rows = rows.take((rows.scenario_B != 1).nonzero()[:, 0])
    scorer(rows.inputs(S)).logit_BT.sum().backward()
    assert all(p.grad is not None for p in scorer.parameters())
    grad_SE = scorer.eliminator.table.weight.grad
    assert (grad_SE[1] == 0).all()
    assert (grad_SE[[0, 2]] != 0).any(1).all()


def test_a_thousand_scenarios_fold_to_one_table() -> None:
    eliminator = ScenarioBiasEliminator(1000, 2)
    folded = Scorer(nn.Identity(), eliminator).fold().scorer.eliminator.table
    assert [tuple(b.shape) for b in folded.buffers()] == [(1000, 2)]
    assert list(folded.parameters()) == []
    route = make_route(torch.tensor([3, 999]), 1000)
    torch.testing.assert_close(folded(route), eliminator(route))


def test_auxiliary_losses_come_with_the_scores() -> None:
    inputs = sorted_rows(6).inputs(S)
    scores, losses = Scorer(WithLoss()).forward_with_losses(inputs)
    assert torch.equal(scores.logit_BT, inputs.x_BD[:, :2] + 1)
    assert list(losses) == ["gate"]
    plain, none = scorer_of().forward_with_losses(inputs)
    torch.testing.assert_close(plain.logit_BT, scorer_of()(inputs).logit_BT)
    assert none == {}
