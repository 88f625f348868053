from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from swrec_prod.blocks.debias import Scores
from swrec_prod.losses import bce, debiased_loss


def scores_of(logit_BT: torch.Tensor, scenario_BT: torch.Tensor | None = None) -> Scores:
    return Scores(logit_BT, logit_BT, logit_BT[:, :0] if scenario_BT is None else scenario_BT)


def labels_of(rows: int, tasks: int) -> torch.Tensor:
    labels_BT = torch.randint(0, 2, (rows, tasks)).float()
    labels_BT[0], labels_BT[1] = 0, 1
    return labels_BT


@given(rows=st.integers(2, 30), tasks=st.integers(1, 3), weighted=st.booleans(), seed=st.integers(0, 1000))
def test_bce_is_the_row_mean_of_the_sum_over_tasks(rows: int, tasks: int, weighted: bool, seed: int) -> None:
    torch.manual_seed(seed)
    logit_BT, labels_BT = torch.randn(rows, tasks), labels_of(rows, tasks)
    weight_B = torch.rand(rows) + 0.1 if weighted else None
    got = bce(scores_of(logit_BT), labels_BT, weight_B)
    probability = logit_BT.double().sigmoid().numpy()
    expected = sum(log_loss(labels_BT[:, t].numpy(), probability[:, t], sample_weight=weight_B) for t in range(tasks))
    assert got.item() == pytest.approx(expected, rel=1e-4)


def test_the_debiased_loss_adds_the_scenarios_part() -> None:
    torch.manual_seed(0)
    logit_BT, scenario_BT, labels_BT, weight_B = torch.randn(8, 2), torch.randn(8, 2), labels_of(8, 2), torch.rand(8)
    scores = scores_of(logit_BT, scenario_BT)
    expected = bce(scores, labels_BT, weight_B) + 0.3 * bce(scores_of(scenario_BT), labels_BT, weight_B)
    torch.testing.assert_close(debiased_loss(scores, labels_BT, weight_B, alpha=0.3), expected)
    torch.testing.assert_close(debiased_loss(scores, labels_BT, weight_B, alpha=0.0), bce(scores, labels_BT, weight_B))


def test_weights_of_one_change_nothing_and_weights_of_zero_remove_rows() -> None:
    torch.manual_seed(0)
    logit_BT, labels_BT = torch.randn(6, 2), labels_of(6, 2)
    plain = bce(scores_of(logit_BT), labels_BT)
    torch.testing.assert_close(bce(scores_of(logit_BT), labels_BT, torch.ones(6)), plain)
    some = bce(scores_of(logit_BT), labels_BT, torch.tensor([1.0, 1, 1, 0, 0, 0]))
    torch.testing.assert_close(some, bce(scores_of(logit_BT[:3]), labels_BT[:3]))
    assert bce(scores_of(logit_BT), labels_BT, torch.zeros(6)) == 0


def test_extreme_logits_have_finite_loss_and_gradient() -> None:
    logit_BT = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    loss = bce(scores_of(logit_BT), torch.tensor([[0.0], [1.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    assert logit_BT.grad.isfinite().all()


def test_the_debiased_loss_needs_an_eliminator() -> None:
    with pytest.raises(
        ValueError, match=r"scenario logits of shape \[4, 1\], not \[4, 0\]: is there no bias eliminator\?"
    ):
        debiased_loss(scores_of(torch.zeros(4, 1)), torch.zeros(4, 1))
