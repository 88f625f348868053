"""What every model must keep to, by being registered in MODELS."""

from __future__ import annotations

import pytest
import torch
from batches import Rows, count_flops, dims, random_rows, score, sorted_rows
from torch import Tensor, nn

from swrec_prod.blocks.debias import ScenarioBiasEliminator, Scorer, ranking_score
from swrec_prod.errors import ConfigError
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.models import MODELS, build, option_types

S = 3
KNOWS_SCENARIO = {"dnn": {"scenario_as_feature": True}}  # without it, a plain network
every_model = pytest.mark.parametrize("name", sorted(MODELS))


def model_of(name: str, num_scenarios: int = S, seed: int = 0) -> nn.Module:
    """A trained-looking model in eval mode: buffers have moved, biases are not at their start."""
    torch.manual_seed(seed)
    model = build(name, KNOWS_SCENARIO.get(name, {}), dims(num_scenarios))
    for step in range(3):
        model(sorted_rows(64, num_scenarios, seed=step).inputs(num_scenarios))
    return model.eval()


def training_output(model: nn.Module, inputs: Inputs) -> Tensor:
    """One number that depends on everything the model is trained on."""
    if not hasattr(model, "forward_with_losses"):
        logit_BT, losses = model(inputs), {}
    else:
        logit_BT, losses = model.forward_with_losses(inputs)
    torch.manual_seed(1)
    return (logit_BT * torch.randn(logit_BT.shape)).sum() + sum(losses.values(), torch.zeros(()))


@every_model
def test_logits_have_one_column_a_task(name: str) -> None:
    assert model_of(name)(sorted_rows(10).inputs(S)).shape == (10, 2)


@every_model
def test_a_score_does_not_depend_on_the_rest_of_the_batch(name: str) -> None:
    model, rows = model_of(name), random_rows(33)
    together = score(model, rows, S)
    alone = torch.cat([score(model, rows.take(torch.tensor([i])), S) for i in range(33)])
    halves = torch.cat(
        [score(model, rows.take(torch.arange(0, 16)), S), score(model, rows.take(torch.arange(16, 33)), S)]
    )
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(halves, together, atol=1e-5, rtol=1e-5)


@every_model
def test_a_score_does_not_depend_on_the_order_of_rows(name: str) -> None:
    model, rows = model_of(name), random_rows(40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(score(model, rows.take(order), S), score(model, rows, S)[order], atol=1e-5, rtol=1e-5)


@every_model
def test_rows_of_one_scenario_leave_the_others_alone(name: str) -> None:
    model, rows = model_of(name), random_rows(40)
    before = score(model, rows, S)
    changed = rows.scenario_B == 1
    rows.x_BD = rows.x_BD + changed[:, None]
    after = score(model, rows, S)
    torch.testing.assert_close(after[~changed], before[~changed], atol=1e-6, rtol=1e-6)
    assert (after[changed] != before[changed]).any()


@every_model
def test_the_scenario_matters(name: str) -> None:
    model, rows = model_of(name), random_rows(20)
    scores = []
    for scenario in range(S):
        rows.scenario_B = torch.full((20,), scenario)
        scores.append(score(model, rows, S))
    assert not torch.allclose(scores[0], scores[1])
    assert not torch.allclose(scores[1], scores[2])


@every_model
@pytest.mark.parametrize("scenarios", [[0], [2], [0, 0, 2, 2], [1] * 12])
def test_training_stands_one_row_and_absent_scenarios(name: str, scenarios: list[int]) -> None:
    model = model_of(name).train()
    rows = random_rows(len(scenarios))
    rows.scenario_B = torch.tensor(scenarios)
    training_output(model, rows.inputs(S)).backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter


@every_model
def test_gradient_reaches_every_parameter_and_input(name: str) -> None:
    model = model_of(name).train()
    rows = sorted_rows(256)
    rows.x_BD.requires_grad_()
    rows.history_BNd.requires_grad_()
    training_output(model, rows.inputs(S)).backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter
        assert value.grad.count_nonzero() > 0, parameter
    assert (rows.x_BD.grad.abs().sum(0) > 0).all()
    if type(model).reads_history:
        assert rows.history_BNd.grad[rows.mask_BN].count_nonzero() > 0
        assert rows.history_BNd.grad[~rows.mask_BN].count_nonzero() == 0


@every_model
def test_a_second_step_does_not_reach_back_into_the_first(name: str) -> None:
    model, rows = model_of(name).train(), sorted_rows(64)
    rows.x_BD.requires_grad_()
    for _ in range(2):
        training_output(model, rows.inputs(S)).backward()
    assert all(not buffer.requires_grad for buffer in model.buffers())


@every_model
def test_what_lies_in_the_padding_does_not_matter(name: str) -> None:
    model, rows = model_of(name), random_rows(30)
    before = score(model, rows, S)
    rows.history_BNd = torch.where(rows.mask_BN[..., None], rows.history_BNd, 7.0)
    rows.history_scenario_BN = torch.where(rows.mask_BN, rows.history_scenario_BN, 2)
    torch.testing.assert_close(score(model, rows, S), before, atol=1e-6, rtol=1e-6)


@every_model
def test_a_model_can_be_saved_and_loaded(name: str) -> None:
    model, other, rows = model_of(name), model_of(name, seed=1), random_rows(20)
    assert not torch.equal(score(other, rows, S), score(model, rows, S))
    other.load_state_dict(model.state_dict())
    assert torch.equal(score(other, rows, S), score(model, rows, S))


@every_model
@pytest.mark.parametrize("debias", [False, True])
def test_torchscript_gives_the_same_scores(name: str, debias: bool) -> None:
    scorer = Scorer(model_of(name), ScenarioBiasEliminator(S, 2) if debias else None).eval()
    script = torch.jit.script(scorer)
    for seed, rows in enumerate((1, 5, 60)):
        inputs = sorted_rows(rows, seed=seed).inputs(S)
        for got, expected in zip(script(inputs), scorer(inputs), strict=True):
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@every_model
@pytest.mark.parametrize("debias", [False, True])
def test_the_folded_graph_gives_the_same_scores_in_every_scenario(name: str, debias: bool) -> None:
    scorer = Scorer(model_of(name), ScenarioBiasEliminator(S, 2) if debias else None).eval()
    rows = sorted_rows(50)
    expected = scorer(rows.inputs(S))
    folded = scorer.fold()
    script = torch.jit.script(folded)
    for scenario in range(S):
        at = rows.scenario_B == scenario
        inputs = rows.of(scenario).inputs(S)
        for graph, index in ((folded, torch.tensor(scenario)), (script, torch.tensor([scenario]))):
            for got, want in zip(graph(inputs, index), expected, strict=True):
                torch.testing.assert_close(got, want[at], atol=1e-5, rtol=1e-5)


@every_model
def test_folding_leaves_the_model_as_it_was(name: str) -> None:
    model, rows = model_of(name), random_rows(20)
    before = score(model, rows, S)
    folded = model.train().fold()
    assert model.training
    assert not any(module.training for module in folded.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    one = rows.of(0)
    torch.testing.assert_close(
        folded(one.inputs(S), torch.tensor(0)), before[rows.scenario_B == 0], atol=1e-5, rtol=1e-5
    )


@every_model
def test_the_folded_graph_does_not_grow_with_the_number_of_scenarios(name: str) -> None:
    few, many = (len(list(model_of(name, n).fold().modules())) for n in (3, 50))
    assert many == few


# Their exact forms compare a row with every scenario: M3oE sums over the other scenarios' experts,
# AESM2 compares all gates.
SCENARIO_FREE = {"m3oe": {"other_experts": "ema_expert"}}
GROWING = {"aesm2"}


def flops(name: str, num_scenarios: int) -> int:
    """Of a training step, on as many rows of each scenario, and behaviours of the row's own:
    the longest S_u whatever S is.
    """
    torch.manual_seed(0)
    model, rows = build(name, SCENARIO_FREE.get(name, {}), dims(num_scenarios)), sorted_rows(2048, num_scenarios)
    rows.scenario_B = (torch.arange(2048) % num_scenarios).sort().values
    rows.history_scenario_BN = rows.scenario_B[:, None] * rows.mask_BN
    return count_flops(lambda: training_output(model, rows.inputs(num_scenarios)).backward())


@pytest.mark.parametrize("name", sorted(MODELS.keys() - GROWING))
def test_the_work_for_a_row_does_not_grow_with_the_number_of_scenarios(name: str) -> None:
    # from 17 on one back-end, which pads scenarios' rows, does both
    assert flops(name, 68) == pytest.approx(flops(name, 20), rel=0.05)


@every_model
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_scores_and_gradients_stay_finite(name: str, scale: float) -> None:
    model, rows = model_of(name).train(), sorted_rows(24)
    rows.x_BD = (rows.x_BD * scale).requires_grad_()
    rows.history_BNd = rows.history_BNd * scale
    logit_BT = model(rows.inputs(S))
    assert logit_BT.isfinite().all()
    logit_BT.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert rows.x_BD.grad.isfinite().all()


@every_model
@pytest.mark.parametrize("length", [0, 1, 6])
def test_rows_without_any_history_have_scores(name: str, length: int) -> None:
    model, rows = model_of(name), random_rows(12, length=length)
    empty = Rows(rows.scenario_B, rows.x_BD, rows.history_BNd * 0, rows.mask_BN & False, rows.history_scenario_BN * 0)
    none = random_rows(12, length=0)
    none.scenario_B, none.x_BD = rows.scenario_B, rows.x_BD
    got = score(model, empty, S)
    assert got.isfinite().all()
    torch.testing.assert_close(got, score(model, none, S), atol=1e-6, rtol=1e-6)
    training_output(model.train(), none.take(none.scenario_B.argsort()).inputs(S)).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_model
def test_c_never_changes_the_order_inside_a_scenario(name: str) -> None:
    scorer = Scorer(model_of(name), ScenarioBiasEliminator(S, 2)).eval()
    for scenario in range(S):
        scores = scorer(sorted_rows(40).of(scenario).inputs(S))
        order = ranking_score(scores, 0.0).argsort(0)
        for c in (-2.0, 0.5, 3.0):
            ranked = ranking_score(scores, c).gather(0, order)
            assert (ranked.diff(dim=0) >= -1e-6).all()


@every_model
def test_a_model_learns(name: str) -> None:
    torch.manual_seed(0)
    model, rows = build(name, {}, dims(num_tasks=1)), sorted_rows(128)
    labels_BT = (rows.x_BD[:, :1] + rows.scenario_B[:, None] - 1 > 0).float()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = nn.functional.binary_cross_entropy_with_logits(model(rows.inputs(S)), labels_BT)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@every_model
def test_options_are_the_keyword_arguments_and_have_defaults(name: str) -> None:
    assert option_types(MODELS[name])
    assert isinstance(build(name, {}, dims()), MODELS[name])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("shared_botom", {}, "model.name: unknown model 'shared_botom'; did you mean shared_bottom? (known: "),
        (
            "shared_bottom",
            {"towers": [8]},
            "model.towers: unknown option of shared_bottom; did you mean tower? (known: bottom, tower, norm",
        ),
        ("shared_bottom", {"bottom": 128}, "model.bottom: input should be a list, not 128"),
        ("shared_bottom", {"bottom": [64, "32"]}, "model.bottom.1: input should be a valid integer, not '32'"),
        ("shared_bottom", {"tower": [0]}, "model.tower.0: input should be greater than 0, not 0"),
        ("shared_bottom", {"norm": "bach"}, "model.norm: input should be 'none', 'layer' or 'batch', not 'bach'"),
        ("mscan", {"dropout": 1}, "model.dropout: input should be less than 1, not 1"),
        ("mscan", {"gru": True}, "model.gru: input should be a valid integer, not True"),
    ],
)
def test_build_names_the_option_and_what_would_be_right(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, options, dims())
    assert str(caught.value).startswith(message)


def test_mscan_needs_behaviours() -> None:
    with pytest.raises(ConfigError, match="mscan reads behaviours"):
        build("mscan", {}, Dims(x=4, num_scenarios=2))


def test_lists_from_yaml_become_widths() -> None:
    model = build("shared_bottom", {"bottom": [32, 16], "tower": [], "norm": "layer", "dropout": 0}, dims())
    assert [m.out_features for m in model.bottom if isinstance(m, nn.Linear)] == [32, 16]
    assert len(model.tower.hidden) == 0


def test_shared_bottom_is_its_equation() -> None:
    model, rows = model_of("shared_bottom"), sorted_rows(20)
    first, hidden, out = model.bottom[0], model.tower.hidden[0].linear, model.tower.out
    for row, s, got in zip(rows.x_BD, rows.scenario_B, model(rows.inputs(S)), strict=True):
        h = (hidden.weight[s] @ first(row).relu() + hidden.bias[s]).relu()
        torch.testing.assert_close(got, out.weight[s] @ h + out.bias[s])


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_norms_of_shared_bottom_fold(norm: str) -> None:
    torch.manual_seed(0)
    model = build("shared_bottom", {"norm": norm, "tower_norm": norm}, dims())
    for step in range(5):
        model(sorted_rows(200, seed=step).inputs(S))
    model.eval()
    rows = sorted_rows(30)
    for scenario in range(S):
        got = model.fold()(rows.of(scenario).inputs(S), torch.tensor(scenario))
        torch.testing.assert_close(got, model(rows.inputs(S))[rows.scenario_B == scenario], atol=1e-5, rtol=1e-5)


def test_mscan_without_co_attention_reads_only_its_own_scenario() -> None:
    torch.manual_seed(0)
    rows = sorted_rows(40)
    foreign = rows.mask_BN & (rows.history_scenario_BN != rows.scenario_B[:, None])
    changed = Rows(
        rows.scenario_B, rows.x_BD, rows.history_BNd + foreign[..., None], rows.mask_BN, rows.history_scenario_BN
    )
    for use_saca in (False, True):
        model = build("mscan", {"use_saca": use_saca}, dims()).eval()
        same = torch.allclose(score(model, changed, S), score(model, rows, S))
        assert same is not use_saca


def test_a_plain_dnn_is_the_same_network_for_all_scenarios() -> None:
    torch.manual_seed(0)
    model, rows = build("dnn", {"hidden": [8, 4]}, dims()).eval(), sorted_rows(20)
    first, second, out = (layer for layer in model.net.layer if isinstance(layer, nn.Linear))
    expected = out(second(first(rows.x_BD).relu()).relu())
    torch.testing.assert_close(model(rows.inputs(S)), expected)
    torch.testing.assert_close(torch.jit.script(model)(rows.inputs(S)), expected)
    one = rows.of(1)
    torch.testing.assert_close(model.fold()(one.inputs(S), torch.tensor(1)), expected[rows.scenario_B == 1])
