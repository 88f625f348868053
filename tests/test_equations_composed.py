"""STAR, ADL, AdaSparse and SAR-Net row by row, as their papers write them, and what is peculiar to each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from batches import WIDTH, dims, sorted_rows
from torch import Tensor, nn

from swrec_prod.errors import ConfigError
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.models import build

S = 3
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def trained(name: str, options: dict[str, Any] | None = None, data: Dims | None = None) -> nn.Module:
    """In eval mode, with buffers and parameters away from their start."""
    torch.manual_seed(0)
    model = build(name, options or {}, data or dims())
    for step in range(4):
        model(sorted_rows(120, seed=step).inputs(S))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def held_to(model: nn.Module, row: Any, inputs: Inputs) -> None:
    """The model and its folded graph against `row(model, inputs, b, s)`, the equations for row b of scenario s."""
    scenarios = inputs.route.scenario_B.tolist()
    expected = torch.stack([row(model, inputs, b, s) for b, s in enumerate(scenarios)])
    torch.testing.assert_close(model(inputs), expected, **CLOSE)
    rows, folded = sorted_rows(len(scenarios)), model.fold()
    for s in range(S):
        got = folded(rows.of(s).inputs(S), torch.tensor(s))
        torch.testing.assert_close(got, expected[inputs.route.scenario_B == s], **CLOSE)


@pytest.mark.parametrize("name", ["star", "adl", "adasparse", "sar_net"])
def test_training_steps_leave_no_graph_in_the_buffers(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, {"warmup": 0} if name == "adl" else {}, dims())
    for step in range(3):
        rows = sorted_rows(60, seed=step)
        rows.x_BD.requires_grad_()  # as embeddings do
        model(rows.inputs(S)).sum().backward()
        assert not any(buffer.requires_grad for buffer in model.buffers())


def composed(network: nn.Module, x: Tensor, group: int) -> Tensor:
    """h = ReLU((W * W_g) h + b + b_g), the last layer without ReLU."""
    for layer in (*network.hidden, network.out):
        x = (layer.weight * layer.group_weight[group]) @ x + layer.bias + layer.group_bias[group]
        x = x if layer is network.out else x.relu()
    return x


# STAR


def star_row(model: nn.Module, inputs: Inputs, b: int, s: int) -> Tensor:
    x, norm = inputs.x_BD[b], model.norm
    normal = x
    if norm is not None:
        affine = norm.affine
        normal = (x - norm.mean[s]) / (norm.var[s] + norm.eps).sqrt()
        normal = affine.shared_scale * affine.scale[s] * normal + affine.shared_shift + affine.shift[s]
    aux = model.aux
    first = aux.first(x) + aux.scenario.net(aux.scenario.weight[s])
    return composed(model.star, normal, s) + aux.rest(first)


@pytest.mark.parametrize("options", [{}, {"partitioned_norm": False}, {"fcn": [], "aux": [6, 5]}])
def test_star_is_its_equations(options: dict[str, Any]) -> None:
    held_to(trained("star", options), star_row, sorted_rows(40).inputs(S))


def test_star_begins_as_one_network() -> None:
    torch.manual_seed(0)
    model, rows = build("star", {"partitioned_norm": False}, dims()), sorted_rows(20)
    with torch.no_grad():
        model.aux.scenario.weight.zero_()
    scores = []
    for s in range(S):
        rows.scenario_B = torch.full((20,), s)
        scores.append(model(rows.inputs(S)))
    torch.testing.assert_close(scores[1], scores[0])
    torch.testing.assert_close(scores[2], scores[0])


# ADL


def adl_row(model: nn.Module, inputs: Inputs, b: int, s: int) -> Tensor:
    x = torch.cat([inputs.x_BD[b], model.scenario.weight[s]])
    similarity = [float((x @ c).detach()) for c in model.clusters.centre]
    return composed(model.network, x, similarity.index(max(similarity)))


@pytest.mark.parametrize(
    "options", [{}, {"warmup": 1}, {"warmup": 1, "clusters": 1}, {"adl_mode": "paper", "clusters": 4, "fcn": []}]
)
def test_adl_is_its_equations(options: dict[str, Any]) -> None:
    model, inputs = trained("adl", options), sorted_rows(60).inputs(S)
    held_to(model, adl_row, inputs)
    torch.testing.assert_close(model.clusters.centre.norm(dim=1), torch.ones(model.num_clusters))


def test_rows_of_one_scenario_belong_to_several_clusters() -> None:
    model, inputs = trained("adl", {"warmup": 1}), sorted_rows(60).of(1).inputs(S)
    e_BE = model.scenario(inputs.route)
    assert model.clusters(torch.cat([inputs.x_BD, e_BE], 1)).unique().numel() > 1


# AdaSparse


def factors(pruner: nn.Module, h: Tensor, share: Tensor, form: str, both: bool) -> tuple[Tensor, Tensor]:
    v_in = share + (pruner.layer.weight @ h if both else 0)
    if form == "scaling":
        return 2 * v_in.sigmoid(), torch.ones_like(h)
    alpha = 0.1 + 4.9 * min(4 / 20, 1)
    v = (2 if form == "fusion" else 1) * (alpha * v_in).sigmoid()
    keep = torch.stack([(value > 0.8) | (value == v.max()) for value in v]).float()
    return (v if form == "fusion" else 1) * keep, keep


def adasparse_row(model: nn.Module, inputs: Inputs, b: int, s: int) -> Tensor:
    layers, domain = model.layers, model.scenario
    first, *shares = (domain.net.weight @ domain.weight[s]).split(model.shares)
    h, y = inputs.x_BD[b], torch.zeros(())
    for index, (layer, share) in enumerate(zip(layers, shares, strict=True)):
        pi, _ = factors(layer.pruner, h, share, layer.pruner.form, layer.pruner.layer is not None)
        y = layer.linear.weight @ (pi * h) + layer.linear.bias + (first if index == 0 else 0)
        h = y.relu()
    return y


@pytest.mark.parametrize("form", ["fusion", "binarization", "scaling"])
@pytest.mark.parametrize("pruner_input", ["both", "domain"])
def test_adasparse_is_its_equations(form: str, pruner_input: str) -> None:
    options = {"form": form, "pruner_input": pruner_input, "ramp_steps": 20, "epsilon": 0.8, "hidden": [12, 9]}
    held_to(trained("adasparse", options), adasparse_row, sorted_rows(40).inputs(S))


def test_the_regulariser_is_the_distance_from_the_wanted_range() -> None:
    model = trained("adasparse", {"ramp_steps": 10, "epsilon": 0.8, "sparsity_range": [0.1, 0.3]})
    model.weight.done.fill_(5)  # half way from 0.01 to 0.1
    inputs = sorted_rows(50).inputs(S)
    keeps = model.pruned(inputs)[1]
    assert model.forward_with_losses(inputs)[1] == {}
    _, losses = model.train().forward_with_losses(inputs)
    expected = []
    for keep_BN in keeps:
        r = 1 - float(keep_BN.mean())
        expected.append(0.0 if 0.1 <= r <= 0.3 else 0.055 * (r - 0.2) ** 2)
    assert losses["sparsity"].item() == pytest.approx(sum(expected) / 3, rel=1e-4)
    assert max(expected) > 0


def test_the_regulariser_brings_pruning_into_the_wanted_range() -> None:
    torch.manual_seed(0)
    model, inputs = (
        build("adasparse", {"alpha": [5.0, 5.0], "sparsity": 1.0, "hidden": [32]}, dims()),
        sorted_rows(200).inputs(S),
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        model.forward_with_losses(inputs)[1]["sparsity"].backward()
        optimiser.step()
    for keep_BN in model.eval().pruned(inputs)[1]:
        assert 0.13 < 1 - keep_BN.mean() < 0.27


def test_without_pruning_there_is_no_regulariser() -> None:
    inputs = sorted_rows(10).inputs(S)
    for options in ({"form": "scaling"}, {"sparsity": 0}):
        assert build("adasparse", options, dims()).forward_with_losses(inputs)[1] == {}


# SAR-Net


def attention_row(block: nn.Module, inputs: Inputs, b: int, s: int) -> Tensor:
    """v of one row: the softmax of the sum of both logits."""
    n, t, pairs = int(inputs.mask_UN[b].sum()), inputs.target_Bd[b], block.scenario
    logits = []
    for h, where in zip(inputs.history_UNd[b, :n], inputs.history_scenario_UN[b, :n], strict=True):
        hidden = block.item.target(t) + block.item.behaviour(torch.cat([h, t * h]))
        q, k = pairs.query(pairs.weight[s]), pairs.key(pairs.weight[where])
        logits.append(block.item.rest(hidden)[0] + q @ k / len(q) ** 0.5)
    return torch.stack(logits).softmax(0) @ inputs.history_UNd[b, :n] if n else torch.zeros_like(t)


def sar_net_row(model: nn.Module, inputs: Inputs, b: int, s: int) -> Tensor:
    u = inputs.x_BD[b]
    if model.extraction is not None:
        u = torch.cat([u, attention_row(model.extraction, inputs, b, s)])
    u = model.transform.scale[s] * u + model.transform.shift[s]
    g = model.gate(u).softmax(0)
    assert float(g.detach().sum()) == pytest.approx(1)
    n = u
    if isinstance(model.norm, nn.BatchNorm1d):
        n = (u - model.norm.running_mean) / (model.norm.running_var + 1e-5).sqrt()
    shared, specific = model.experts.layers
    outputs = torch.cat([shared.layer(n), specific.weight[s] @ n + specific.bias[s]])
    experts = outputs.split(outputs.numel() // g.numel())
    return model.head(sum(weight * expert for weight, expert in zip(g, experts, strict=True)))


@pytest.mark.parametrize(
    "options", [{}, {"norm": "batch", "attention": [6, 5]}, {"use_history": False, "specific_experts": 1}]
)
def test_sar_net_is_its_equations(options: dict[str, Any]) -> None:
    model = trained("sar_net", options)
    assert (model.extraction is not None) == options.get("use_history", True)
    held_to(model, sar_net_row, sorted_rows(40).inputs(S))


def test_sar_net_reads_behaviours_where_the_data_have_them() -> None:
    model = build("sar_net", {}, Dims(WIDTH, S, 2))
    assert model.extraction is None
    held_to(model.eval(), sar_net_row, sorted_rows(20).inputs(S))


def test_the_scenario_transform_begins_as_the_identity() -> None:
    transform = build("sar_net", {}, dims()).transform
    assert (transform.scale == 1).all()
    assert (transform.shift == 0).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("star", {"fnc": [8]}, "model.fnc: unknown option of star; did you mean fcn?"),
        ("adl", {"adl_mode": "papr"}, "model.adl_mode: input should be 'stable' or 'paper', not 'papr'"),
        ("adl", {"temperature": 0}, "model.temperature: input should be greater than 0, not 0"),
        (
            "adasparse",
            {"form": "fuson"},
            "model.form: input should be 'fusion', 'binarization' or 'scaling', not 'fuson'",
        ),
        ("adasparse", {"beta": 0.5}, "model.beta: input should be greater than or equal to 1, not 0.5"),
        (
            "adasparse",
            {"sparsity_range": [0.3, 0.1]},
            "model: sparsity_range: 0.3 is above 0.1; give the lower limit first",
        ),
        ("sar_net", {"expert": 0}, "model.expert: input should be greater than 0, not 0"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, options, dims())
    assert str(caught.value).startswith(message)
