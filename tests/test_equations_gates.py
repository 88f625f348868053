"""EPNet, PPNet, PEPNet, HAMUR and M2M against their papers' equations, row by row with the models' own weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from batches import ITEM, Rows, count_flops, dims, score, sorted_rows
from torch import Tensor, nn

from swrec_prod.blocks.hyper import InstanceWeights
from swrec_prod.errors import ConfigError
from swrec_prod.layers.inputs import Dims
from swrec_prod.models import build

S = 3
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("epnet", {"gate_hidden": 8, "hidden": []}),
    ("ppnet", {"tower": "shared", "gates": "per_scenario", "gate_hidden": 8}),
    ("ppnet", {"gates": "per_scenario", "prior": ["tag"], "norm": "layer"}),
    ("pepnet", {"tower": "per_scenario", "norm": "batch"}),
    ("ppnet", {"tower": "last_layer"}),
    ("hamur", {"hyper_cond": "scenario", "adapters": 2, "backbone": "shared"}),
    ("hamur", {"backbone": "last_layer"}),
    ("hamur", {"adapter_norm": "scenario", "norm": "batch", "adapter_act": "relu"}),
    ("m2m", {"backbone": "none", "attention_layers": 2, "tower_layers": 3}),
    ("m2m", {"cond": "scenario_user", "tower_layers": 2, "use_history": False}),
    ("m2m", {"cond": "scenario_user", "backbone": "field_transformer", "history_layers": 2, "positions": 2}),
)
every_variant = pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[f"{n}-{'-'.join(map(str, o))}" for n, o in VARIANTS]
)


def model_of(name: str, options: dict[str, Any] | None = None, num_scenarios: int = S) -> nn.Module:
    """In eval mode, with every parameter moved away from its start."""
    torch.manual_seed(0)
    model = build(name, options or {}, dims(num_scenarios))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    for step in range(3):
        model(sorted_rows(200, num_scenarios, seed=step).inputs(num_scenarios))
    return model.eval()


def rows_of(rows: Rows) -> list[tuple[Tensor, int]]:
    return list(zip(rows.x_BD, rows.scenario_B.tolist(), strict=True))


def gate_nu(first: nn.Linear, second: nn.Linear, a: Tensor) -> Tensor:
    return 2 * torch.sigmoid(second(first(a).relu()))


def input_gate(gate: nn.Module, x: Tensor, s: int) -> Tensor:
    """delta of EPNet: GateNU([e_s ; x])."""
    from_scenario, first, second = gate.mlp.scenario.net, gate.mlp.first, gate.mlp.rest[1]
    return 2 * torch.sigmoid(second((first(x) + from_scenario(gate.mlp.scenario.weight[s])).relu()))


def personal_gates(gates: nn.Module, o: Tensor, a: Tensor) -> list[Tensor]:
    """delta_l of PPNet with shared gates: GateNU_l([o ; a]), each with its own slice of the first product."""
    deltas, start = [], 0
    for second in gates.second:
        width = second.layer.in_features
        weight = torch.cat([gates.first.layer.weight, gates.first_others.layer.weight], 1)[start : start + width]
        bias = (gates.first.layer.bias + gates.first_others.layer.bias)[start : start + width]
        deltas.append(2 * torch.sigmoid(second.layer((weight @ torch.cat([o, a]) + bias).relu())))
        start += width
    return deltas


def test_epnet_is_its_equation() -> None:
    model, rows = model_of("epnet"), sorted_rows(20)
    for (x, s), got in zip(rows_of(rows), model(rows.inputs(S)), strict=True):
        torch.testing.assert_close(got, model.mlp(input_gate(model.gate, x, s) * x), atol=1e-5, rtol=1e-5)


def test_ppnet_is_its_equations() -> None:
    model, rows = model_of("ppnet"), sorted_rows(20)
    for (x, s), got in zip(rows_of(rows), model(rows.inputs(S)), strict=True):
        h = x
        for layer, delta in zip(
            model.tower.hidden, personal_gates(model.gates, x[: 2 * ITEM], x[2 * ITEM :]), strict=True
        ):
            h = (layer.linear.weight[s] @ h + layer.linear.bias[s]).relu() * delta
        torch.testing.assert_close(got, model.tower.out.weight[s] @ h + model.tower.out.bias[s], atol=1e-5, rtol=1e-5)


def test_pepnet_is_its_equations() -> None:
    model, rows = model_of("pepnet"), sorted_rows(20)
    for (x, s), got in zip(rows_of(rows), model(rows.inputs(S)), strict=True):
        h = gated = input_gate(model.input_gate, x, s) * x
        for layer, delta in zip(
            model.tower.hidden, personal_gates(model.gates, x[: 2 * ITEM], gated[2 * ITEM :]), strict=True
        ):
            h = layer.layer[0](h).relu() * delta
        torch.testing.assert_close(got, model.tower.out.layer(h), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cond", ["instance", "scenario"])
def test_hamur_is_its_equations(cond: str) -> None:
    model, rows = model_of("hamur", {"hyper_cond": cond, "hidden": [12, 10, 8], "adapters": 2}), sorted_rows(20)
    for (x, s), got in zip(rows_of(rows), model(rows.inputs(S)), strict=True):
        first, _, last = model.hyper.net
        H = last(first(x if cond == "instance" else model.hyper.weight[s]).relu()).view(35, 35)
        h = x
        for layer, adapter in zip([*model.plain, *model.adapted], [None, *model.adapters], strict=True):
            h = layer.linear.weight[s] @ h + layer.linear.bias[s]
            h = (F.layer_norm(h, h.shape) * layer.norm.affine.scale[s] + layer.norm.affine.shift[s]).relu()
            if adapter is not None:
                a = F.silu(h @ (adapter.down.U @ H @ adapter.down.V) + adapter.down.bias)
                h = h + adapter.norm.layer(a @ (adapter.up.U @ H @ adapter.up.V) + adapter.up.bias)
        torch.testing.assert_close(got, model.out.weight[s] @ h + model.out.bias[s], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("use_history", [False, True])
@pytest.mark.parametrize("backbone", ["auto", "field_transformer", "none"])
def test_m2m_is_its_equations(backbone: str, use_history: bool) -> None:
    model, rows = (
        model_of("m2m", {"backbone": backbone, "tower_layers": 2, "use_history": use_history}),
        sorted_rows(20),
    )
    q, m, act = 32, 16, model.act
    read = model.backbone.behaviours(rows.inputs(S)) if use_history else torch.zeros(20, 0)
    for (x, s), v_n, got in zip(rows_of(rows), read, model(rows.inputs(S)), strict=True):
        experts = act(model.experts(torch.cat([model.backbone.fields(x[None])[0], v_n]))).view(4, m)
        sizes = (q * q, q, m * m, m, m * m, m)
        W, w, *tower = model.meta.net(model.meta.weight[s]).split(sizes)
        for t in range(2):
            attention = [
                model.attention.v(act(torch.cat([e, model.attention.task_Tm[t]]) @ W.view(q, q) + w)) for e in experts
            ]
            L = torch.cat(attention).softmax(0) @ experts
            for V, v in (tower[:2], tower[2:]):
                L = act(L @ V.view(m, m) + v + L)
            torch.testing.assert_close(got[t], model.out(model.head(L))[t], atol=1e-5, rtol=1e-5)


def test_m2m_starts_without_meta_weights_of_its_own() -> None:
    torch.manual_seed(0)
    W, w, V, v = build("m2m", {}, dims()).meta(torch.zeros(1, 1), sorted_rows(3).inputs(S).route)
    for got, start in ((W, torch.eye(32)), (w, torch.zeros(32)), (V, torch.zeros(16, 16)), (v, torch.zeros(16))):
        torch.testing.assert_close(got, start.expand_as(got), atol=0.02, rtol=0)


def test_the_units_of_hamurs_adapter_learn_and_differ() -> None:
    torch.manual_seed(0)
    model, rows = build("hamur", {}, dims()), sorted_rows(64)
    adapter = model.adapters[0]
    model(rows.inputs(S)).sum().backward()
    for part in (adapter.down.U, adapter.down.V, adapter.up.U, adapter.up.V):
        assert part.grad.count_nonzero() > 0.9 * part.numel()
    inner = adapter.down(torch.randn(64, 128), model.hyper(rows.x_BD, rows.inputs(S).route)[0], rows.inputs(S).route)
    assert (torch.corrcoef(inner.t()) - torch.eye(32)).abs().max() < 0.95
    assert isinstance(model.hyper, InstanceWeights)


def test_every_embedding_learns_through_ppnets_tower() -> None:
    model, rows = model_of("ppnet"), sorted_rows(64)
    rows.x_BD.requires_grad_()
    inputs = rows.inputs(S)
    tower = model.tower(
        rows.x_BD, [gate.detach() for gate in model.gates(rows.x_BD, rows.x_BD, inputs.route)], inputs.route
    )
    (through_tower,) = torch.autograd.grad(tower.sum(), rows.x_BD)
    (all_of_it,) = torch.autograd.grad(model(inputs).sum(), rows.x_BD)
    torch.testing.assert_close(all_of_it[:, 2 * ITEM :], through_tower[:, 2 * ITEM :])  # sg(a): the tower alone
    assert (through_tower[:, 2 * ITEM :] != 0).any(0).all()
    assert not torch.allclose(all_of_it[:, : 2 * ITEM], through_tower[:, : 2 * ITEM])  # o: the gates as well


@every_variant
def test_options_keep_scores_of_rows_alone_and_fold(name: str, options: dict[str, Any]) -> None:
    model, rows = model_of(name, options), sorted_rows(30)
    together = model(rows.inputs(S))
    alone = torch.cat([score(model, rows.take(torch.tensor([i])), S) for i in range(30)])
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)
    script, folded = torch.jit.script(model), torch.jit.script(model.fold())
    torch.testing.assert_close(script(rows.inputs(S)), together, atol=1e-4, rtol=1e-4)
    for scenario in range(S):
        got = folded(rows.of(scenario).inputs(S), torch.tensor(scenario))
        torch.testing.assert_close(got, together[rows.scenario_B == scenario], atol=1e-4, rtol=1e-4)


@every_variant
def test_options_train_every_parameter_on_any_batch(name: str, options: dict[str, Any]) -> None:
    model = model_of(name, options).train()
    for rows in (sorted_rows(256), sorted_rows(256).take(torch.tensor([0])), sorted_rows(256).of(2)):
        model.zero_grad()
        model(rows.inputs(S)).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        if len(rows.x_BD) == 256:
            assert [n for n, p in model.named_parameters() if p.grad.count_nonzero() == 0] == []


@every_variant
def test_the_folded_graph_of_every_option_costs_the_same_for_any_number_of_scenarios(
    name: str, options: dict[str, Any]
) -> None:
    work = []
    for num_scenarios in (2, 30):
        rows, folded = (
            sorted_rows(64, num_scenarios).take(torch.arange(8)),
            model_of(name, options, num_scenarios).fold(),
        )
        inputs = rows.inputs(num_scenarios)
        work.append(count_flops(lambda inputs=inputs, folded=folded: folded(inputs, torch.tensor(0))))
    assert work[0] == work[1]


@pytest.mark.parametrize(
    ("name", "options", "data", "message"),
    [
        ("ppnet", {"prior": ["usr"]}, dims(), "model: prior: no feature is called 'usr'; did you mean user?"),
        (
            "pepnet",
            {},
            Dims(x=4, num_scenarios=2),
            "model: the gates read the ids of user and item, but the data have neither",
        ),
        ("hamur", {"adapters": 3}, dims(), "model: adapters: 3 of them do not fit behind 2 hidden layers"),
        ("m2m", {"heads": 3}, dims(), "model: 3 attention heads do not divide a token of width 16"),
        (
            "m2m",
            {"cond": "scenario_user"},
            Dims(x=4, num_scenarios=2),
            "model: weights for every user need features with side: user",
        ),
        ("epnet", {"gate_hidden": 0}, dims(), "model.gate_hidden: input should be greater than 0, not 0"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(name: str, options: dict[str, Any], data: Dims, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, options, data)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
