"""Weights of rank one: STAR's layers, PLE's, M3oE's and CSII's, for hundreds of scenarios."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from batches import count_flops, dims, random_rows, score, sorted_rows
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from swrec_prod.blocks.experts import ScenarioExperts
from swrec_prod.errors import ConfigError
from swrec_prod.layers.composed import ComposedLinear, RankOneLinear
from swrec_prod.layers.inputs import Inputs, Route, make_route
from swrec_prod.models import build

S = 3
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
every_model = pytest.mark.parametrize(
    ("name", "options"),
    [
        ("star", {}),
        ("ple", {"levels": 2, "expert": [8, 4], "norm": "layer"}),
        ("m3oe", {"other_experts": "ema_expert"}),
        ("csii", {"expert": [8, 4]}),
    ],
)


def route_of(counts: list[int]) -> Route:
    return make_route(torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)), len(counts))


def shaken(module: nn.Module) -> nn.Module:
    """Its parameters moved away from their start."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def as_composed(linear: RankOneLinear) -> ComposedLinear:
    """The layer with the products of its factors as weights of the groups."""
    groups, d_in = linear.group_in.shape
    full = ComposedLinear(groups, d_in, linear.group_out.shape[1])
    with torch.no_grad():
        for name in ("weight", "bias", "group_bias"):
            getattr(full, name).copy_(getattr(linear, name))
        full.group_weight.copy_(torch.einsum("go,gi->goi", linear.group_out, linear.group_in))
    return full


def test_a_layer_of_rank_one_is_a_composed_layer_with_outer_products() -> None:
    linear, route = shaken(RankOneLinear(3, 5, 4)), route_of([2, 0, 5])
    x_BI, weight = torch.randn(7, 5, requires_grad=True), torch.randn(7, 4)
    full = as_composed(linear)
    got, expected = linear(x_BI, route), full(x_BI, route)
    torch.testing.assert_close(got, expected, **CLOSE)
    shared = [(m.weight, m.bias, m.group_bias, x_BI) for m in (linear, full)]
    ours, reference = (
        torch.autograd.grad((y * weight).sum(), leaves) for y, leaves in zip((got, expected), shared, strict=True)
    )
    for one, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


class Largest(TorchDispatchMode):
    """The most numbers in any tensor that was made."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.numbers = max(self.numbers, made.numel())
        return made


def test_a_folded_layer_touches_no_other_group() -> None:
    for groups in (3, 50):
        linear, x_BI = shaken(RankOneLinear(groups, 5, 4)), torch.randn(2, 5)
        folded, one = linear.folded(), Route(torch.tensor([1]), [2], torch.zeros(groups, dtype=torch.int32))
        with Largest() as largest:
            got = folded(x_BI, one)
        torch.testing.assert_close(got, linear(x_BI, route_of([0, 2] + [0] * (groups - 2))), **CLOSE)
        assert largest.numbers == 5 * 4  # the shared matrix, transposed


def test_it_begins_as_one_layer_for_all_groups() -> None:
    linear, x_BI = RankOneLinear(2, 5, 4), torch.randn(6, 5)
    torch.testing.assert_close(linear(x_BI, route_of([6, 0])), linear(x_BI, route_of([2, 4])))


def test_experts_of_rank_one_are_layers_of_rank_one() -> None:
    experts = shaken(ScenarioExperts(S, 2, 5, (4, 3), own_weights="rank_one"))
    x_BI, route = torch.randn(6, 5), route_of([1, 2, 3])
    first, second = ([as_composed(linear) for linear in layer.linears] for layer in experts.layers)
    h_BMH = first[0](x_BI, route).relu().view(6, 2, 4)
    expected = torch.stack([second[j](h_BMH[:, j], route).relu() for j in range(2)], 1)
    torch.testing.assert_close(experts(x_BI, route), expected, **CLOSE)


def output(model: nn.Module, inputs: Inputs) -> Tensor:
    return (model(inputs) * torch.arange(1.0, 3)).sum()


@every_model
def test_every_form_of_a_model_gives_the_same_scores(name: str, options: dict[str, object]) -> None:
    model, rows = shaken(build(name, {**options, "own_weights": "rank_one"}, dims(S))).eval(), random_rows(30)
    expected, folded, script = score(model, rows, S), model.fold(), torch.jit.script(model)
    torch.testing.assert_close(score(script, rows, S), expected, **CLOSE)
    for scenario in range(S):
        of = rows.of(scenario)
        got = folded(of.inputs(S), torch.tensor([scenario]))
        torch.testing.assert_close(got, expected[rows.scenario_B == scenario], **CLOSE)


@every_model
def test_gradient_reaches_every_parameter(name: str, options: dict[str, object]) -> None:
    model = shaken(build(name, {**options, "own_weights": "rank_one"}, dims(S))).train()
    output(model, sorted_rows(256).inputs(S)).backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter
        assert value.grad.count_nonzero() > 0, parameter


@every_model
def test_a_scenario_more_adds_fewer_numbers(name: str, options: dict[str, object]) -> None:
    def added(form: str) -> int:
        sizes = [
            sum(p.numel() for p in build(name, {**options, "own_weights": form}, dims(n)).parameters()) for n in (3, 4)
        ]
        return sizes[1] - sizes[0]

    assert added("rank_one") < 0.7 * added("full")


@every_model
def test_the_work_for_a_row_does_not_grow_with_scenarios(name: str, options: dict[str, object]) -> None:
    def work(n: int) -> int:
        model, rows = build(name, {**options, "own_weights": "rank_one"}, dims(n)).eval(), random_rows(340, n)
        rows.scenario_B = torch.arange(340) % n
        return count_flops(lambda: score(model, rows, n))

    assert work(20) == pytest.approx(work(68), rel=0.05)


def test_a_start_that_is_not_at_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="rank one start at 'ones', not at 'kaiming'"):
        build("star", {"own_weights": "rank_one", "star_init": "kaiming"}, dims())
