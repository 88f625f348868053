"""MMoE, PLE, AESM2 and M3oE against their papers' equations, written out for one row, and what is peculiar to them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from batches import count_flops, dims, sorted_rows
from torch import Tensor, nn

from swrec_prod.blocks.domain_experts import DomainExperts
from swrec_prod.blocks.experts import own
from swrec_prod.blocks.selection import chosen_softmax, scores
from swrec_prod.errors import ConfigError
from swrec_prod.layers.folding import fold_blocks
from swrec_prod.layers.grouped import LOOP_LIMIT
from swrec_prod.layers.inputs import Inputs, Route, make_route
from swrec_prod.models import build

S = 3
FEW = 4  # and LOOP_LIMIT: up to there no products are padded, so that work can be compared exactly


def model_and_rows(name: str, options: dict, num_tasks: int = 2, rows: int = 24) -> tuple[nn.Module, Inputs]:
    """A model in eval mode none of whose parameters is at its start, and rows for it."""
    torch.manual_seed(0)
    model = build(name, options, dims(S, num_tasks)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, sorted_rows(rows, S).inputs(S)


def check_every_row(model: nn.Module, inputs: Inputs, equation) -> None:
    """`equation` (model, x, s) of each row is the model's logit, its script's and its folded graph's."""
    expected = torch.stack(
        [equation(model, x, int(s)) for x, s in zip(inputs.x_BD, inputs.route.scenario_B, strict=True)]
    )
    for got in (model(inputs), torch.jit.script(model)(inputs)):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    script = torch.jit.script(model.fold())
    for s in range(S):
        at = inputs.route.scenario_B == s
        one = inputs._replace(x_BD=inputs.x_BD[at])
        torch.testing.assert_close(script(one, torch.tensor([s])), expected[at], atol=1e-5, rtol=1e-5)


def relu_layers(layers, x: Tensor, e: int) -> Tensor:
    """Expert e of a ParallelMLP without norms."""
    for layer in layers:
        x = (layer.linear.weight[e] @ x + layer.linear.bias[e]).relu()
    return x


def tower(tower, x: Tensor, s: int) -> Tensor:
    """Scenario s' tower, with layer norms where it has them."""
    for hidden in tower.hidden:
        x = hidden.linear.weight[s] @ x + hidden.linear.bias[s]
        if hidden.norm is not None:
            x = F.layer_norm(x, x.shape) * hidden.norm.affine.scale[s] + hidden.norm.affine.shift[s]
        x = x.relu()
    return tower.out.weight[s] @ x + tower.out.bias[s]


# MMoE


def mmoe(model: nn.Module, x: Tensor, s: int) -> Tensor:
    g = (model.gate.weight[s] @ x + model.gate.bias[s]).softmax(0)
    return tower(model.tower, sum(g[e] * relu_layers(model.experts.layers, x, e) for e in range(len(g))), s)


def test_mmoe_is_its_equation() -> None:
    check_every_row(*model_and_rows("mmoe", {"num_experts": 3, "expert": [12, 8]}), mmoe)


# PLE


def specific(level: nn.Module, x: Tensor, s: int) -> list[Tensor]:
    """f_s of a level with one layer an expert."""
    linear = level.specific.layers[0].linears[0]
    return list((linear.weight[s] @ x + linear.bias[s]).relu().view(level.specific.layers[0].num_experts, -1))


def shared(level: nn.Module, x: Tensor) -> list[Tensor]:
    linear = level.shared.layers[0].linear
    return list((linear.weight @ x + linear.bias).relu())


def weighted(logits: Tensor, experts: list[Tensor]) -> Tensor:
    return logits.softmax(0) @ torch.stack(experts)


def ple(model: nn.Module, x: Tensor, s: int) -> Tensor:
    u = v = x
    for level in model.levels:
        f_s, f = specific(level, u, s), shared(level, v)
        u_next = weighted(level.gate.weight[s] @ u + level.gate.bias[s], f_s + f)
        if level.own_gate is not None:
            own_logits = level.own_gate.weight[s] @ v + level.own_gate.bias[s]
            v = weighted(torch.cat([own_logits, level.shared_gate(v)]), f_s + f)
        elif level.shared_gate is not None:
            v = weighted(level.shared_gate(v), f)
        else:
            v = f[0]
        u = u_next
    return tower(model.tower, u, s)


def ple_of_all(model: nn.Module, x: Tensor, s: int) -> Tensor:
    """The paper's form: the paths of all scenarios, u[j], up to the last level."""
    u, v = [x] * S, x
    for level in model.wide:
        linear, M = level.specific.layers[0].linear, level.M
        f = [[(linear.weight[j * M + m] @ u[j] + linear.bias[j * M + m]).relu() for m in range(M)] for j in range(S)]
        f_shared = shared(level, v)
        u = [weighted(level.gate.weight[j] @ u[j] + level.gate.bias[j], f[j] + f_shared) for j in range(S)]
        v = weighted(level.shared_gate(v), [expert for of_j in f for expert in of_j] + f_shared)
    (last,) = model.levels
    u_s = weighted(last.gate.weight[s] @ u[s] + last.gate.bias[s], specific(last, u[s], s) + shared(last, v))
    return tower(model.tower, u_s, s)


@pytest.mark.parametrize(("levels", "num_shared"), [(1, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize("scope", ["own", "shared_only", "all"])
def test_ple_is_its_equation(levels: int, num_shared: int, scope: str) -> None:
    options = {"levels": levels, "num_specific": 2, "num_shared": num_shared, "expert": [8], "shared_gate_scope": scope}
    check_every_row(*model_and_rows("ple", options), ple_of_all if scope == "all" else ple)


@pytest.mark.parametrize("scope", ["own", "shared_only", "all"])
def test_gradient_reaches_every_parameter_of_a_ple_with_levels(scope: str) -> None:
    torch.manual_seed(0)
    model = build("ple", {"levels": 3, "shared_gate_scope": scope, "expert": [16, 8], "norm": "layer"}, dims(S))
    model(sorted_rows(64, S).inputs(S)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name


def test_only_the_papers_shared_gate_grows_with_the_number_of_scenarios() -> None:
    def flops(scope: str, scenarios: int) -> int:
        model = build("ple", {"levels": 2, "shared_gate_scope": scope}, dims(scenarios))
        inputs = sorted_rows(64, scenarios).inputs(scenarios)
        return count_flops(lambda: model(inputs))

    for scope in ("own", "shared_only"):
        assert flops(scope, LOOP_LIMIT) == flops(scope, FEW)
    assert flops("all", LOOP_LIMIT) > 2 * flops("all", FEW)


def test_experts_without_layers_are_a_mistake_in_the_run_file() -> None:
    for name in ("mmoe", "ple", "aesm2"):
        with pytest.raises(ConfigError, match="model: expert: an expert needs at least one layer"):
            build(name, {"expert": []}, dims(S))


# AESM2


def aesm2(model: nn.Module, x: Tensor, s: int) -> Tensor:
    h = x
    for layer in model.layers:
        net, E = layer.gates.net, layer.gates.num_experts
        G = (net.first.weight @ h + net.first.bias + net.scenario.net.weight @ net.scenario.weight[s]).view(E, -1)
        if layer.gates.scenario_SR is not None:
            G = G @ layer.gates.scenario_SR.T
        P = G.softmax(1)
        alone, uniform = F.one_hot(torch.tensor(s), S).float(), torch.full((S,), 1 / S)
        specific_of = [F.kl_div(P[k].log(), alone, reduction="sum").item() for k in range(E)]
        shared_of = [F.kl_div(P[k].log(), uniform, reduction="sum").item() for k in range(E)]
        chosen = {*sorted(range(E), key=specific_of.__getitem__)[:2], *sorted(range(E), key=shared_of.__getitem__)[:2]}
        chosen = sorted(chosen)
        h = weighted(G[chosen, s], [relu_layers(layer.experts.layers, h, k) for k in chosen])
    return model.tower(h)


@pytest.mark.parametrize("gate_form", ["full", "lowrank"])
@pytest.mark.parametrize("layers", [1, 2])
def test_aesm2_is_its_equation(gate_form: str, layers: int) -> None:
    check_every_row(
        *model_and_rows("aesm2", {"gate_form": gate_form, "layers": layers, "num_experts": 6}, rows=60), aesm2
    )


def test_the_scores_of_aesm2_are_divergences() -> None:
    torch.manual_seed(0)
    G_BES, scenario_B = torch.randn(5, 4, S) * 3, torch.tensor([0, 1, 1, 2, 2])
    specific_BE, shared_BE = scores(G_BES, own(G_BES.transpose(1, 2), scenario_B), G_BES.mean(2))
    log_P = G_BES.log_softmax(2)
    torch.testing.assert_close(specific_BE, -torch.stack([log_P[b, :, s] for b, s in enumerate(scenario_B)]))
    uniform = torch.full((5, 4, S), 1 / S)
    torch.testing.assert_close(shared_BE, (uniform * (uniform.log() - log_P)).sum(2), atol=1e-5, rtol=1e-5)


def test_an_expert_that_is_not_chosen_cannot_win_and_a_choice_counts_once() -> None:
    logit = torch.tensor([[-5.0, -900.0, 2.0, 1.0]])
    got = chosen_softmax(logit, torch.tensor([[0, 1, 0]]))
    torch.testing.assert_close(got, torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    got = chosen_softmax(logit, torch.tensor([[2, 3, 3]]))
    assert got[0, 3].item() == pytest.approx(1 / (1 + math.e), rel=1e-5)


def test_aesm2_is_noisy_in_training_only_and_only_in_its_choice() -> None:
    model, inputs = model_and_rows("aesm2", {"noise_scale": 5.0})
    assert torch.equal(model(inputs), model(inputs))
    model.train()
    assert not torch.equal(model(inputs), model(inputs))
    # both experts are chosen, come what may
    every, inputs = model_and_rows("aesm2", {"noise_scale": 5.0, "num_experts": 2})
    assert torch.equal(every.train()(inputs), every.eval()(inputs))


def test_the_losses_of_aesm2_are_the_weighted_mean_scores_of_the_chosen() -> None:
    options = {"specific_weight": 0.5, "shared_weight": 2.0, "noise_scale": 0.0}
    model, inputs = model_and_rows("aesm2", options)
    logit_BT, losses = model.forward_with_losses(inputs)
    assert torch.equal(logit_BT, model(inputs))
    layer = model.layers[0]
    specific_BE, shared_BE = scores(*layer.gates(inputs.x_BD, inputs.route))
    assert losses["specific"].item() == pytest.approx(0.5 * specific_BE.sort(1).values[:, :2].mean().item(), rel=1e-5)
    assert losses["shared"].item() == pytest.approx(2.0 * shared_BE.sort(1).values[:, :2].mean().item(), rel=1e-5)


@pytest.mark.parametrize("gate_form", ["full", "lowrank"])
def test_with_one_scenario_aesm2_mixes_all_experts(gate_form: str) -> None:
    torch.manual_seed(0)
    model = build("aesm2", {"gate_form": gate_form}, dims(1)).eval()
    inputs = sorted_rows(6, 1).inputs(1)
    layer = model.layers[0]
    G_BE, f_BEH = layer.gates(inputs.x_BD, inputs.route)[1], layer.experts(inputs.x_BD)
    torch.testing.assert_close(model(inputs), model.tower(torch.einsum("be,beh->bh", G_BE.softmax(1), f_BEH)))
    _, losses = model.forward_with_losses(inputs)
    assert all(loss.item() == pytest.approx(0, abs=1e-5) for loss in losses.values())


def test_aesm2_cannot_choose_more_experts_than_there_are() -> None:
    with pytest.raises(ConfigError, match="model: num_specific and num_shared choose from num_experts 2, not 3"):
        build("aesm2", {"num_experts": 2, "num_shared": 3}, dims(S))


# M3oE


def norm_relu(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return (F.layer_norm(x, x.shape) * scale + shift).relu()


def domain_expert(domain: DomainExperts, h: Tensor, j: int) -> Tensor:
    affine = domain.norm.affine
    return norm_relu(domain.linear.weight[j] @ h + domain.linear.bias[j], affine.scale[j], affine.shift[j])


def parallel_expert(experts: nn.Module, h: Tensor, e: int) -> Tensor:
    layer = experts.layers[0]
    scale, shift = (value.view(len(layer.linear.weight), -1)[e] for value in (layer.norm.scale, layer.norm.shift))
    return norm_relu(layer.linear.weight[e] @ h + layer.linear.bias[e], scale, shift)


def m3oe(model: nn.Module, x: Tensor, s: int, T: int = 2) -> Tensor:
    star = model.star
    r = (star.weight * star.group_weight[s]) @ x + star.bias + star.group_bias[s]
    h = model.star_map(r) + model.skip(x)
    beta = model.domain.share.sigmoid()
    D = beta * domain_expert(model.domain, h, s)
    D = D + sum((1 - beta) / (S - 1) * domain_expert(model.domain, h, j) for j in range(S) if j != s)
    logits = []
    for t in range(T):
        gate = (model.gate.weight[s] @ h + model.gate.bias[s]).view(T, -1)[t].softmax(0)
        m = sum(gate[e] * parallel_expert(model.experts, h, e) for e in range(len(gate))) + model.alpha_d.sigmoid() * D
        if T > 1:
            beta_t = model.task.share.sigmoid()
            task = beta_t * parallel_expert(model.task.experts, h, t)
            task = task + sum(
                (1 - beta_t) / (T - 1) * parallel_expert(model.task.experts, h, j) for j in range(T) if j != t
            )
            m = m + model.task.alpha.sigmoid() * task
        logits.append(tower(model.towers[t], m, s))
    return torch.cat(logits)


@pytest.mark.parametrize("num_tasks", [1, 2])
@pytest.mark.parametrize("others", ["exact", "sampled"])
def test_m3oe_is_its_equation(num_tasks: int, others: str) -> None:
    model, inputs = model_and_rows(
        "m3oe", {"other_experts": others, "samples": 2, "star": 16, "hidden": 12, "expert": 8}, num_tasks
    )
    check_every_row(model, inputs, lambda model, x, s: m3oe(model, x, s, num_tasks))


def test_m3oe_of_one_scenario_has_its_own_expert_only() -> None:
    torch.manual_seed(0)
    model, inputs = build("m3oe", {}, dims(1)), sorted_rows(4, 1).inputs(1)
    model(inputs).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    h_BI = torch.randn(4, 64)
    got = model.domain(h_BI, inputs.route)
    torch.testing.assert_close(got, torch.stack([domain_expert(model.domain, h, 0) for h in h_BI]))


def domain_experts(others: str, num_scenarios: int = 6, samples: int = 2) -> tuple[DomainExperts, Tensor, Route]:
    torch.manual_seed(0)
    block = DomainExperts(num_scenarios, 5, 4, others, samples)
    with torch.no_grad():
        block.norm.affine.scale.uniform_(0.5, 2)
    return block, torch.randn(8, 5), make_route(torch.randint(0, num_scenarios, (8,)).sort().values, num_scenarios)


def test_sampled_experts_have_the_exact_mean_as_their_mean() -> None:
    block, x_BI, route = domain_experts("sampled")
    with torch.no_grad():
        sampled = torch.stack([block(x_BI, route) for _ in range(3000)])
        exact = block.eval()(x_BI, route)
    error = (sampled.mean(0) - exact).abs()
    assert (error < 5 * sampled.std(0) / math.sqrt(3000) + 1e-5).all()
    assert sampled.std(0).max() > 0.01


def test_the_row_s_own_expert_is_never_one_of_the_others() -> None:
    block, x_BI, route = domain_experts("sampled")
    with torch.no_grad():
        block.norm.affine.scale.zero_()
        block.norm.affine.shift.copy_(torch.arange(6.0).unsqueeze(1).expand(6, 4))  # expert j says j
        own_BH = route.scenario_B.unsqueeze(1).expand(8, 4).float()
        for _ in range(50):
            others = block.others(x_BI, own_BH, route.scenario_B)
            drawn = others[:, 0] * torch.tensor([[1.0], [2.0]])  # the sum of one or of two experts
            assert (others >= 0).all()
            assert (others <= 5).all()
            assert ((drawn - drawn.round()).abs() < 1e-5).any(0).all()


def test_the_average_expert_follows_the_mean_weights_in_training_only() -> None:
    block, x_BI, route = domain_experts("ema_expert")
    start = [weight.mean(0, keepdim=True).detach().clone() for weight in block.weights()]
    with torch.no_grad():
        for parameter in (block.linear.weight, block.linear.bias):
            parameter.add_(1.0)
    block.eval()(x_BI, route)
    torch.testing.assert_close(block.average.weight, start[0])
    block.train()(x_BI, route)
    torch.testing.assert_close(block.average.weight, start[0] + 0.01)
    torch.testing.assert_close(block.average.bias, start[1] + 0.01)
    for s in range(6):
        beta = block.share.sigmoid()
        average = block.average
        other = norm_relu(average.weight[0] @ x_BI[0] + average.bias[0], average.scale[0], average.shift[0])
        one = make_route(torch.tensor([s]), 6)
        torch.testing.assert_close(
            block.eval()(x_BI[:1], one)[0],
            beta * domain_expert(block, x_BI[0], s) + (1 - beta) * other,
            atol=1e-5,
            rtol=1e-5,
        )


@pytest.mark.parametrize("others", ["exact", "sampled", "ema_expert"])
def test_domain_experts_fold_and_script(others: str) -> None:
    block, x_BI, route = domain_experts(others)
    expected = block.eval()(x_BI, route)
    torch.testing.assert_close(torch.jit.script(block)(x_BI, route), expected, atol=1e-5, rtol=1e-5)
    folded = torch.jit.script(fold_blocks(block))
    for s in route.scenario_B.unique():
        at = route.scenario_B == s
        got = folded(x_BI[at], Route(s.reshape(1), [int(at.sum())], route.ends_S))
        torch.testing.assert_close(got, expected[at], atol=1e-5, rtol=1e-5)


def test_the_other_experts_need_not_cost_more_with_more_scenarios() -> None:
    def flops(others: str, scenarios: int, training: bool) -> int:
        model = build("m3oe", {"other_experts": others, "samples": 2}, dims(scenarios)).train(training)
        inputs = sorted_rows(64, scenarios).inputs(scenarios)
        return count_flops(lambda: model(inputs))

    assert (
        flops("ema_expert", LOOP_LIMIT, True)
        == flops("ema_expert", FEW, True)
        == flops("ema_expert", LOOP_LIMIT, False)
    )
    assert flops("sampled", LOOP_LIMIT, True) == flops("sampled", FEW, True)
    assert flops("sampled", 68, False) == flops("exact", 68, False) > 2 * flops("ema_expert", 68, False)


def test_two_batches_before_the_gradient_are_fine_with_an_average_expert() -> None:
    block, x_BI, route = domain_experts("ema_expert")
    x_BI.requires_grad_()
    (block(x_BI, route).sum() + block(x_BI, route).sum()).backward()
    assert x_BI.grad.isfinite().all()
