"""CSII and SFPNet row by row, as their equations say, and what is peculiar to each."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from batches import ITEM, dims, random_rows, score, sorted_rows
from torch import Tensor, nn

from swrec_prod.errors import ConfigError
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.models import build

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def trained(
    name: str, options: dict[str, Any] | None = None, scenarios: int = 3, data: Dims | None = None
) -> nn.Module:
    """In eval mode, with buffers and parameters away from their start."""
    torch.manual_seed(0)
    model = build(name, options or {}, data or dims(scenarios))
    for step in range(4):
        model(sorted_rows(60, scenarios, seed=step).inputs(scenarios))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def held_to(model: nn.Module, row: Any, scenarios: int = 3) -> None:
    """The model, its script and its folded graph against `row(model, inputs, b, s)`,
    the equations for row b of scenario s.
    """
    rows = sorted_rows(8 * scenarios, scenarios)
    inputs = rows.inputs(scenarios)
    expected = torch.stack([row(model, inputs, b, s) for b, s in enumerate(inputs.route.scenario_B.tolist())])
    torch.testing.assert_close(model(inputs), expected, **CLOSE)
    torch.testing.assert_close(torch.jit.script(model)(inputs), expected, **CLOSE)
    folded = torch.jit.script(model.fold())
    for s in range(scenarios):
        got = folded(rows.of(s).inputs(scenarios), torch.tensor([s]))
        torch.testing.assert_close(got, expected[rows.scenario_B == s], **CLOSE)


# CSII


def said(model: nn.Module, x: Tensor, s: int) -> Tensor:
    """F_s(x)."""
    for layer in model.experts.experts.layers:
        x = layer.linears[0].weight[s] @ x + layer.linears[0].bias[s]
        if layer.norm is not None:
            x = F.layer_norm(x, x.shape) * layer.norm.affine.scale[s] + layer.norm.affine.shift[s]
        x = x.relu()
    return x


def moved(model: nn.Module, x: Tensor, s: int, t: int) -> Tensor:
    """x through the filter from s to t."""
    f, parts = model.experts.filter, []
    for field in dims().fields:
        at = slice(field.start, field.start + field.width)
        y = x[at] * (1 + f.source[s, at] * f.target[t, at]) + f.shift[t, at]
        parts.append(y * torch.exp(-(y - f.anchor[t, at]).norm() / math.sqrt(field.width)))
    return torch.cat(parts)


def summary(model: nn.Module, u: Tensor) -> Tensor:
    """The mean of the slots of u after they have attended to each other."""
    inside = model.attention.inside
    slots = u.view(model.attention.slots, -1)
    width = slots.shape[1]
    q, k, v = torch.stack([w @ slot + b for w, b, slot in zip(inside.weight, inside.bias, slots, strict=True)]).split(
        width, 1
    )
    return ((q @ k.t() / math.sqrt(width)).softmax(1) @ v).mean(0)


def csii_row(model: nn.Module, inputs: Inputs, b: int, s: int) -> Tensor:
    x, attention = inputs.x_BD[b], model.attention
    h, query = said(model, x, s), attention.query
    q = query.first(h) + query.scenario.net(query.scenario.weight[s])
    logits, values = [], []
    for t in model.targets.chosen[s].tolist():
        assert t != s
        key, value = (attention.key_value.weight @ summary(model, said(model, moved(model, x, s, t), t))).split(
            attention.split
        )
        logits.append(q @ key / math.sqrt(len(q)))
        values.append(value)
    u = torch.stack(logits).softmax(0) @ torch.stack(values) if logits else torch.zeros_like(h)
    shared = model.shared(x)
    return model.head(torch.cat([torch.sigmoid(model.alpha[s]) * u + h, shared]))


@pytest.mark.parametrize(
    ("options", "scenarios"),
    [
        ({}, 3),
        ({}, 2),
        ({"cross_topm": 1, "norm": "layer", "expert": [12]}, 3),
        ({"cross_topm": None, "slots": 1}, 5),
        ({"cross_topm": 3}, 20),  # more than the loop over scenarios serves
        ({}, 1),
    ],
)
def test_csii_is_its_equations(options: dict[str, Any], scenarios: int) -> None:
    held_to(trained("csii", options, scenarios), csii_row, scenarios)


def test_csii_visits_as_many_scenarios_as_it_is_told() -> None:
    for options, scenarios, visits in (({}, 2, 1), ({"cross_topm": 4}, 20, 4), ({"cross_topm": None}, 7, 6)):
        assert build("csii", options, dims(scenarios)).targets.chosen.shape == (scenarios, visits)


def test_a_row_of_csii_reads_the_experts_of_its_targets_only() -> None:
    model, rows = trained("csii", {"cross_topm": 1}, 4), random_rows(40, 4)
    before = score(model, rows, 4)
    with torch.no_grad():
        model.experts.experts.layers[0].linears[0].bias[2].add_(1.0)
    changed = (score(model, rows, 4) != before).any(1)
    visitors = {2} | {s for s in range(4) if 2 in model.targets.chosen[s]}
    assert {int(s) for s in rows.scenario_B[changed]} == visitors
    assert visitors != set(range(4))


def test_two_tasks_of_csii_share_all_but_the_last_layer() -> None:
    sizes = [sum(p.numel() for p in build("csii", {}, dims(num_tasks=tasks)).parameters()) for tasks in (1, 2)]
    assert sizes[1] - sizes[0] == 64 + 1


def test_csii_says_which_slots_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="slots: 5 slots do not divide an expert of width 64"):
        build("csii", {"slots": 5}, dims())


# SFPNet


def pooled(history: Tensor, stat: str) -> Tensor:
    if len(history) == 0:
        return torch.zeros(ITEM * (1 if stat == "none" else 2))
    mean = history.mean(0)
    var = (history - mean).square().mean(0)
    return torch.cat({"std": [mean, (var + 1e-6).sqrt()], "var": [mean, var], "none": [mean]}[stat])


def tailored(block: nn.Module, x: Tensor, history: Tensor, target: Tensor, s: int) -> tuple[Tensor, Tensor]:
    stat = block.pool.stat
    p, gate = pooled(history, stat), block.gate
    hidden = gate.first(torch.cat([x, p])) + gate.scenario.net(gate.scenario.weight[s])
    g = 2 * gate.rest(hidden.clone()).sigmoid()
    g_x, g_b = g[: len(x)], g[len(x) :]
    x, history = g_x * x, g_b * history
    scales = {"std": [g_b, g_b], "var": [g_b, g_b**2], "none": [g_b]}[stat]
    context = block.context(torch.cat([x, p * torch.cat(scales)]))
    c_x, c_b = context[: len(x)], context[len(x) :]
    residuals = [block.residual((block.behaviour(b) + c_b + block.target(target)).relu()) for b in history]
    behaviours = [block.norm_b(b + residual) for b, residual in zip(history, residuals, strict=True)]
    return block.norm_x(x + c_x), torch.stack(behaviours) if behaviours else history


def sfpnet_row(model: nn.Module, inputs: Inputs, b: int, s: int) -> Tensor:
    x, history, target = inputs.x_BD[b], inputs.history_UNd[b][inputs.mask_UN[b]], inputs.target_Bd[b]
    for block in model.blocks:
        x, history = tailored(block, x, history, target, s)
    if model.attention is None:
        return model.head(torch.cat([x, pooled(history, model.pool.stat)]))
    attention, logits = model.attention, []
    for behaviour in history:
        hidden = attention.behaviour(torch.cat([behaviour, target * behaviour])) + attention.target(target)
        logits.append(attention.rest(hidden)[0])
    v = torch.stack(logits).softmax(0) @ history if logits else torch.zeros(ITEM)
    return model.head(torch.cat([x, v]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"blocks": 1, "dap_stat": "var", "readout": "dap"},
        {"blocks": 3, "dap_stat": "none", "block_norm": "none"},
        {"readout": "dap", "attention": [16, 8]},
        {"attention": [16, 8]},
    ],
)
def test_sfpnet_is_its_equations(options: dict[str, Any]) -> None:
    held_to(trained("sfpnet", options), sfpnet_row)


def test_gates_of_sfpnet_lie_in_0_2_and_pass_no_gradient_to_what_they_read() -> None:
    model, inputs = trained("sfpnet", {"blocks": 1, "block_norm": "none"}), sorted_rows(20).inputs(3)
    block, x_BD = model.blocks[0], inputs.x_BD.clone().requires_grad_()
    with torch.no_grad():
        for parameter in block.context.parameters():
            parameter.zero_()
    ones = torch.ones_like(x_BD)
    given, _ = block(x_BD, inputs.history_UNd, inputs.mask_UN, inputs.target_Bd, inputs.route)
    gate_BD = given.detach() / x_BD.detach()
    assert ((gate_BD > 0) & (gate_BD < 2)).all()
    given.backward(ones)
    torch.testing.assert_close(x_BD.grad, gate_BD, atol=1e-4, rtol=1e-4)


def test_sfpnet_does_not_read_the_order_of_behaviours() -> None:
    model, rows = trained("sfpnet"), random_rows(20)
    before = score(model, rows, 3)
    for history, mask in zip(rows.history_BNd, rows.mask_BN, strict=True):
        history[mask] = history[mask].flip(0)
    torch.testing.assert_close(score(model, rows, 3), before, **CLOSE)


def test_another_scenario_adds_an_embedding_to_each_block_of_sfpnet() -> None:
    sizes = [sum(p.numel() for p in build("sfpnet", {}, dims(n)).parameters()) for n in (3, 4)]
    assert sizes[1] - sizes[0] == 2 * 16


def test_sfpnet_needs_behaviours() -> None:
    with pytest.raises(ConfigError, match="sfpnet reads behaviours, but the data have none"):
        build("sfpnet", {}, Dims(x=4, num_scenarios=2))
