"""Experts and gates against one plain network an expert, row by row."""

from __future__ import annotations

import pytest
import torch
from batches import count_flops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swrec_prod.blocks.experts import ParallelMLP, ScenarioExperts, gate, mix, own
from swrec_prod.layers.folding import fold_blocks
from swrec_prod.layers.inputs import Route, make_route
from swrec_prod.layers.mlp import MLP

NORMS = ("none", "layer", "batch")


def route_of(counts: list[int]) -> Route:
    return make_route(torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)), len(counts))


def disturb(module: nn.Module) -> None:
    """Scales, shifts and running statistics that are not at their start."""
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            if value.is_floating_point():
                value.add_(torch.rand_like(value))


def plain(ours: ParallelMLP, d_in: int, widths: tuple[int, ...], norm: str, e: int) -> MLP:
    """Expert e of `ours` as a network of its own."""
    mlp = MLP(d_in, widths, norm=norm)
    linears = [m for m in mlp if isinstance(m, nn.Linear)]
    norms = [m for m in mlp if isinstance(m, nn.LayerNorm | nn.BatchNorm1d)]
    with torch.no_grad():
        for layer, linear in zip(ours.layers, linears, strict=True):
            linear.weight.copy_(layer.linear.weight[e])
            linear.bias.copy_(layer.linear.bias[e])
        for layer, each in zip(ours.layers, norms, strict=bool(norms)):
            at = slice(e * each.weight.numel(), (e + 1) * each.weight.numel())
            names = {"layer": ("scale", "shift"), "batch": ("weight", "bias", "running_mean", "running_var")}[norm]
            for name, target in zip(names, ("weight", "bias", "running_mean", "running_var"), strict=False):
                getattr(each, target).copy_(getattr(layer.norm, name)[at])
    return mlp


@settings(max_examples=25, deadline=None)
@given(
    experts=st.integers(1, 4),
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    norm=st.sampled_from(NORMS),
    training=st.booleans(),
)
def test_parallel_experts_are_one_network_each(experts: int, widths: list[int], norm: str, training: bool) -> None:
    torch.manual_seed(0)
    ours = ParallelMLP(experts, 5, widths, norm).train(training)
    disturb(ours)
    mlps = [plain(ours, 5, tuple(widths), norm, e).train(training).double() for e in range(experts)]
    ours.double()  # a layer norm of two nearly equal numbers magnifies what float32 rounds
    x_BI = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    got, expected = ours(x_BI), torch.stack([mlp(x_BI) for mlp in mlps], 1)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    weight = torch.randn_like(got)
    gradients = [torch.autograd.grad((y * weight).sum(), x_BI)[0] for y in (got, expected)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


def test_parallel_experts_may_each_have_an_input() -> None:
    torch.manual_seed(0)
    ours, x_BEI = ParallelMLP(3, 4, (5, 2)), torch.randn(6, 3, 4)
    expected = torch.stack([ours(x_BEI[:, e])[:, e] for e in range(3)], 1)
    torch.testing.assert_close(ours(x_BEI), expected)


def test_a_scenarios_experts_are_those_of_its_rows() -> None:
    torch.manual_seed(0)
    counts, x_BI = [4, 0, 5], torch.randn(9, 5)
    ours = ScenarioExperts(3, 2, 5, (6, 4), "layer")
    disturb(ours)
    first, second = ours.layers
    for row, s, got in zip(x_BI, route_of(counts).scenario_B, ours(x_BI, route_of(counts)), strict=True):
        h = (first.linears[0].weight[s] @ row + first.linears[0].bias[s]).view(2, 6)
        for j in range(2):
            h_j = nn.functional.layer_norm(h[j], [6]) * first.norm.affine.scale[s].view(2, 6)[j]
            h_j = (h_j + first.norm.affine.shift[s].view(2, 6)[j]).relu()
            y = nn.functional.layer_norm(second.linears[j].weight[s] @ h_j + second.linears[j].bias[s], [4])
            y = y * second.norm.affine.scale[s].view(2, 4)[j] + second.norm.affine.shift[s].view(2, 4)[j]
            torch.testing.assert_close(got[j], y.relu(), atol=1e-5, rtol=1e-4)


def test_batch_norm_of_a_scenarios_experts_sees_its_rows_only() -> None:
    torch.manual_seed(0)
    ours, counts, x_BI = ScenarioExperts(2, 2, 3, (4,), "batch"), [10, 12], torch.randn(22, 3)
    got = ours(x_BI, route_of(counts))
    linear = ours.layers[0].linears[0]
    for s, (part, of_scenario) in enumerate(zip(x_BI.split(counts), got.split(counts), strict=True)):
        expected = nn.BatchNorm1d(8)(part @ linear.weight[s].T + linear.bias[s]).relu().view(-1, 2, 4)
        torch.testing.assert_close(of_scenario, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_folded_and_scripted_experts_equal_the_eager_ones(norm: str) -> None:
    torch.manual_seed(0)
    ours, x_BI, route = ScenarioExperts(3, 2, 5, (6, 4), norm, dropout=0.5), torch.randn(9, 5), route_of([4, 0, 5])
    disturb(ours)
    expected = ours.eval()(x_BI, route)
    torch.testing.assert_close(torch.jit.script(ours)(x_BI, route), expected)
    folded = torch.jit.script(fold_blocks(ours))
    for s, rows in ((0, slice(0, 4)), (2, slice(4, 9))):
        torch.testing.assert_close(
            folded(x_BI[rows], Route(torch.tensor([s]), [], route.ends_S)), expected[rows], atol=1e-5, rtol=1e-5
        )


def test_experts_need_a_layer() -> None:
    for build in (lambda: ParallelMLP(2, 3, ()), lambda: ScenarioExperts(2, 2, 3, ())):
        with pytest.raises(ValueError, match="at least one layer"):
            build()


def test_the_work_is_that_of_the_rows_own_experts() -> None:
    ours, x_BI = ScenarioExperts(8, 2, 16, (8, 4)), torch.randn(40, 16)
    assert count_flops(lambda: ours(x_BI, route_of([5] * 8))) == 2 * 40 * 2 * (16 * 8 + 8 * 4)


@settings(max_examples=50, deadline=None)
@given(logits=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=5))
def test_a_gate_sums_to_one(logits: list[float]) -> None:
    weight = gate(torch.tensor([logits]))
    assert weight.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert (weight >= 0).all()


def test_a_gate_of_half_precision_is_computed_in_float32() -> None:
    logit = torch.randn(4, 6).bfloat16()
    got = gate(logit)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, logit.double().softmax(-1).float().bfloat16())


def test_mix_weighs_the_experts_and_own_picks_one() -> None:
    torch.manual_seed(0)
    weight_BE, expert_BEH = torch.rand(5, 3), torch.randn(5, 3, 4)
    torch.testing.assert_close(mix(weight_BE, expert_BEH), torch.einsum("be,beh->bh", weight_BE, expert_BEH))
    of_tasks: Tensor = torch.rand(5, 2, 3)
    torch.testing.assert_close(
        mix(of_tasks, expert_BEH.unsqueeze(1)), torch.einsum("bte,beh->bth", of_tasks, expert_BEH)
    )
    scenario_B = torch.tensor([0, 0, 1, 2, 2])
    assert torch.equal(own(expert_BEH, scenario_B), expert_BEH[torch.arange(5), scenario_B])
    assert torch.equal(own(expert_BEH, torch.tensor([2])), expert_BEH[:, 2])
