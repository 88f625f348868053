"""Composed weights, partitioned norm, clusters, pruners and behaviour extraction,
against loops over rows in plain torch.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import composed_ranks
import pytest
import torch
from batches import count_flops, sorted_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swrec_prod.blocks.clusters import DEAD, Clusters
from swrec_prod.blocks.extraction import BehaviourExtraction, ScenarioPairs, TargetAttention
from swrec_prod.blocks.pruning import Form, Pruner, Ramp
from swrec_prod.layers.composed import ClusterLinear, ComposedLinear, ComposedMLP, PartitionedNorm
from swrec_prod.layers.folding import fold_blocks, one_scenario
from swrec_prod.layers.grouped import LARGE, SPARE
from swrec_prod.layers.inputs import Route, make_route

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def route_of(counts: list[int]) -> Route:
    scenario_B = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return make_route(scenario_B, len(counts))


def shaken(module: nn.Module) -> nn.Module:
    """Its parameters moved away from their start."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def one_of(scenario: int, num_scenarios: int = 3) -> Route:
    return Route(torch.tensor([scenario]), [], torch.zeros(num_scenarios, dtype=torch.int32))


# Composed weights


def check_composed_linear(counts: list[int], d_in: int, d_out: int) -> None:
    """Value, gradients and script of a ComposedLinear against a product for each row."""
    torch.manual_seed(0)
    route, linear = route_of(counts), shaken(ComposedLinear(len(counts), d_in, d_out))
    x_BI = torch.randn(sum(counts), d_in, requires_grad=True)
    expected = torch.stack(
        [
            (linear.weight * linear.group_weight[s]) @ x + linear.bias + linear.group_bias[s]
            for x, s in zip(x_BI, route.scenario_B, strict=True)
        ]
    )
    got = linear(x_BI, route)
    torch.testing.assert_close(got, expected, **CLOSE)
    weight, leaves = torch.randn_like(got), (x_BI, *linear.parameters())
    ours, reference = (torch.autograd.grad((y * weight).sum(), leaves) for y in (got, expected))
    for one, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    torch.testing.assert_close(torch.jit.script(linear)(x_BI, route), expected, **CLOSE)


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=20).filter(any),
    d_in=st.integers(1, 7),
    d_out=st.integers(1, 7),
)
def test_composed_linear_is_a_product_for_each_row(counts: list[int], d_in: int, d_out: int) -> None:
    check_composed_linear(counts, d_in, d_out)


@pytest.mark.parametrize("counts", [[2, 0, 1], [0, 1, 3] * 7])
def test_large_products_that_are_formed_one_by_one_are_the_same(counts: list[int]) -> None:
    d_in, d_out = 129, 128
    assert d_in * d_out > LARGE
    check_composed_linear(counts, d_in, d_out)


def test_groups_begin_as_one_network_whose_scale_lasts() -> None:
    torch.manual_seed(0)
    mlp, x_BI = ComposedMLP(3, 64, (256, 256, 256), 1), torch.randn(200, 64)
    first = mlp(x_BI, route_of([200, 0, 0]))
    torch.testing.assert_close(mlp(x_BI, route_of([0, 0, 200])), first)
    assert 0.3 < first.std() < 3


def test_composed_layers_do_the_work_of_one_network() -> None:
    mlp, x_BI = ComposedMLP(20, 16, (8,), 9), torch.randn(40, 16)
    work = count_flops(lambda: mlp(x_BI, route_of([2] * 20)))
    assert 1 <= work / (2 * 40 * (16 * 8 + 8 * 9)) <= SPARE


def test_products_are_folded_for_one_scenario_or_for_rows_of_any_cluster() -> None:
    torch.manual_seed(0)
    route, x_BI = route_of([3, 0, 4]), torch.randn(7, 5)
    scenarios = shaken(ComposedLinear(3, 5, 2))
    folded = torch.jit.script(scenarios.folded())
    torch.testing.assert_close(folded(x_BI[3:], one_of(2)), scenarios(x_BI, route)[3:], **CLOSE)
    clusters = shaken(ClusterLinear(3, 5, 2))
    torch.testing.assert_close(torch.jit.script(clusters.folded())(x_BI, route), clusters(x_BI, route), **CLOSE)


# Partitioned normalisation


def naive_norm(norm: PartitionedNorm, x_BD: Tensor, scenario_B: Tensor) -> Tensor:
    """Equations 2 and 3, scenario by scenario; every one must have rows enough."""
    parts = []
    for s in scenario_B.unique().tolist():
        x = x_BD[scenario_B == s]
        plain = (x - x.mean(0)) / (x.var(0, unbiased=False) + norm.eps).sqrt()
        affine = norm.affine
        parts.append(plain * affine.shared_scale * affine.scale[s] + affine.shared_shift + affine.shift[s])
    return torch.cat(parts)


def test_partitioned_norm_normalises_each_scenario_by_itself() -> None:
    torch.manual_seed(0)
    norm, route = shaken(PartitionedNorm(3, 4).double()), route_of([8, 0, 15])
    x_BD = (torch.randn(23, 4, dtype=torch.float64) * 3 + route.scenario_B[:, None]).requires_grad_()
    got, expected = norm(x_BD, route), naive_norm(norm, x_BD, route.scenario_B)
    torch.testing.assert_close(got, expected)
    weight, leaves = torch.randn_like(got), (x_BD, *norm.parameters())
    ours, reference = (torch.autograd.grad((y * weight).sum(), leaves) for y in (got, expected))
    for one, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(one, other)


def test_running_statistics_are_means_at_first_and_those_of_all_rows_for_the_unseen() -> None:
    torch.manual_seed(0)
    norm = PartitionedNorm(3, 2, momentum=0.01)
    batches = [torch.randn(30, 2) * 2 + 5 for _ in range(4)]
    for x_BD in batches:
        norm(x_BD, route_of([10, 17, 3]))  # the last never has the 8 rows that count
    for s, at in ((0, slice(0, 10)), (1, slice(10, 27))):
        torch.testing.assert_close(norm.mean[s], torch.stack([x[at].mean(0) for x in batches]).mean(0))
        torch.testing.assert_close(norm.var[s], torch.stack([x[at].var(0) for x in batches]).mean(0))
    torch.testing.assert_close(norm.mean[2], torch.stack(batches).mean((0, 1)))
    torch.testing.assert_close(norm.var[2], torch.stack([x.var(0, unbiased=False) for x in batches]).mean(0))
    assert norm.batches[:, 0].tolist() == [4, 4, 0]
    before = norm.mean.clone()
    norm(torch.randn(5, 2), route_of([2, 2, 1]))  # too few rows altogether
    assert torch.equal(norm.mean, before)
    norm(torch.full((9, 2), 7.0), route_of([0, 0, 9]))  # its first own batch replaces what it had borrowed
    assert (norm.mean[2] == 7).all()
    assert torch.equal(norm.mean[:2], before[:2])


def test_few_rows_are_normalised_with_running_statistics() -> None:
    torch.manual_seed(0)
    norm = PartitionedNorm(2, 2)
    norm(torch.randn(40, 2) * 2 + 5, route_of([20, 20]))
    mean, var, x_BD = norm.mean.clone(), norm.var.clone(), torch.randn(25, 2)
    torch.testing.assert_close(
        norm(x_BD, route_of([5, 20]))[:5], (x_BD[:5] - mean[0]) / var[0].sqrt(), atol=1e-4, rtol=1e-4
    )
    assert torch.equal(norm.mean[0], mean[0])


def test_partitioned_norm_folds_to_a_scale_and_a_shift() -> None:
    torch.manual_seed(0)
    norm = shaken(PartitionedNorm(3, 4))
    for _ in range(3):
        norm(torch.randn(60, 4) * 3 + 1, route_of([20, 20, 20]))
    norm.eval()
    x_BD = torch.randn(9, 4)
    expected, before = norm(x_BD, route_of([2, 3, 4])), {k: v.clone() for k, v in norm.state_dict().items()}
    torch.testing.assert_close(norm.folded()(x_BD[5:], one_of(2)), expected[5:], **CLOSE)
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())


# Clusters


def in_groups(groups: int, rows: int, d: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows around `groups` directions, all of them around one more as embeddings are, and each row's group."""
    g = torch.Generator().manual_seed(seed)
    directions = torch.randn(groups, d, generator=g) + torch.randn(d, generator=g)
    group_B = torch.randint(0, groups, (rows,), generator=g)
    return directions[group_B] + 0.2 * torch.randn(rows, d, generator=g), group_B


def trained(clusters: Clusters, x_BI: Tensor, steps: int = 30, batch: int = 256) -> Clusters:
    for step in range(steps):
        clusters(x_BI[torch.randint(len(x_BI), (batch,), generator=torch.Generator().manual_seed(step))])
    return clusters.eval()


@pytest.mark.parametrize("seed", range(8))
def test_stable_clusters_find_the_groups_and_stay_apart(seed: int) -> None:
    torch.manual_seed(seed)
    x_BI, group_B = in_groups(4, 1000, seed=seed)
    clusters = trained(Clusters(24, 4, "stable", 0.9, 0.05, warmup=3), x_BI)
    table = torch.zeros(4, 4).index_put_((group_B, clusters(x_BI)), torch.ones(()), accumulate=True)
    assert table.amax(0).sum() / 1000 > 0.95
    torch.testing.assert_close(clusters.centre.norm(dim=1), torch.ones(4))
    cosines = clusters.centre @ clusters.centre.t() - torch.eye(4)
    assert cosines.max() < 0.95


def test_published_clusters_agree_on_one_direction() -> None:
    torch.manual_seed(0)
    x_BI, _ = in_groups(4, 1000)
    clusters = trained(Clusters(24, 4, "paper", 0.9, 0.05, warmup=3), x_BI * 0.05, steps=100)
    assert (clusters.centre @ clusters.centre.t()).min() > 0.99


@pytest.mark.parametrize("mode", ["stable", "paper"])
def test_a_step_moves_the_centres_as_published(mode: str) -> None:
    torch.manual_seed(0)
    clusters = Clusters(5, 3, mode, 0.9, 0.05, warmup=0)
    clusters.steps.fill_(1)  # after the start
    x_BI, centres = torch.randn(40, 5), [c.clone() for c in clusters.centre]
    got = clusters(x_BI)
    rows = [x / x.norm() if mode == "stable" else x for x in x_BI]
    for _ in range(3):
        r = [torch.stack([x @ c / (0.05 if mode == "stable" else 1) for c in centres]).softmax(0) for x in rows]
        pulls = [sum(ri[k] * x for ri, x in zip(r, rows, strict=True)) for k in range(3)]
        pulls = [p / p.norm() if mode == "stable" else p for p in pulls]
        moved = [0.9 * c + 0.1 * p for c, p in zip(centres, pulls, strict=True)]
        centres = [m / m.norm() for m in moved]
    torch.testing.assert_close(clusters.centre, torch.stack(centres), **CLOSE)
    assert got.tolist() == [int(torch.stack([x @ c for c in centres]).argmax()) for x in rows]


def test_clusters_move_in_training_only_and_reach_no_gradient() -> None:
    clusters = Clusters(4, 2, "stable", 0.9, 0.05, warmup=0)
    x_BI = torch.randn(20, 4, requires_grad=True)
    assert not clusters(x_BI).requires_grad
    before = {name: value.clone() for name, value in clusters.state_dict().items()}
    first = clusters.eval()(x_BI)
    assert torch.equal(clusters(x_BI * 3), first)
    assert all(torch.equal(value, before[name]) for name, value in clusters.state_dict().items())


def test_rows_are_assigned_at_random_while_embeddings_warm_up() -> None:
    torch.manual_seed(0)
    clusters = Clusters(4, 3, "stable", 0.9, 0.05, warmup=2)
    start = clusters.centre.clone()
    x_BI = torch.ones(3000, 4)
    for _ in range(2):
        assert (torch.bincount(clusters(x_BI), minlength=3) > 900).all()
        assert torch.equal(clusters.centre, start)
    assert clusters(x_BI).unique().numel() == 1
    assert not torch.equal(clusters.centre, start)


def test_a_dead_cluster_begins_anew_where_rows_are_badly_served() -> None:
    torch.manual_seed(0)
    clusters = Clusters(2, 2, "stable", 0.9, 0.05, warmup=0)
    clusters.steps.fill_(1)
    clusters.centre.copy_(torch.tensor([[0.8, 0.6], [-1.0, 0.0]]))
    x_BI = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(50, 1)
    for _ in range(DEAD[1] + 1):
        k_B = clusters(x_BI)
    assert k_B.bincount(minlength=2).tolist() == [50, 50]
    assert (clusters.idle == 0).all()


# Pruning


@pytest.mark.parametrize("form", ["fusion", "binarization", "scaling"])
@pytest.mark.parametrize("reads_layer", [True, False])
def test_factors_are_those_of_the_paper_and_pruned_neurons_are_zero(form: Form, reads_layer: bool) -> None:
    torch.manual_seed(0)
    pruner = Pruner(5, form, Ramp(1.5, 1.5, 1), 2.0, 0.6, reads_layer).eval()
    h_BN, q_BN = torch.randn(30, 5), torch.randn(30, 5)
    pi_BN, keep_BN = pruner(h_BN, q_BN)
    for h, q, pi, keep in zip(h_BN, q_BN, pi_BN, keep_BN, strict=True):
        v_in = q + (pruner.layer.weight @ h if reads_layer else 0)
        if form == "scaling":
            torch.testing.assert_close(pi, 2 * v_in.sigmoid())
            continue
        v = (2 if form == "fusion" else 1) * (1.5 * v_in).sigmoid()
        stays = [bool(value > 0.6 or value == v.max()) for value in v]
        assert keep.tolist() == [float(k) for k in stays]
        torch.testing.assert_close(pi, torch.where(torch.tensor(stays), v if form == "fusion" else 1.0, 0.0))
    assert (pi_BN >= 0).all()
    if form != "scaling":
        assert ((pi_BN == 0) == (keep_BN == 0)).all()
        assert 0 < keep_BN.mean() < 1


def test_no_row_is_left_without_neurons() -> None:
    pruner = Pruner(4, "fusion", Ramp(5.0, 5.0, 1), 2.0, 0.25, reads_layer=False).eval()
    pi_BN, keep_BN = pruner(torch.randn(2, 4), torch.tensor([[-9.0, -8.0, -9.0, -9.0], [-9.0, 3.0, 4.0, -9.0]]))
    assert keep_BN.tolist() == [[0, 1, 0, 0], [0, 1, 1, 0]]
    assert (pi_BN[:, 1] > 0).all()


def test_the_step_has_the_gradient_of_a_sigmoid_and_exact_values_in_training() -> None:
    pruner = Pruner(6, "binarization", Ramp(1.0, 1.0, 1), 2.0, 0.5, reads_layer=False)
    q_BN = torch.randn(20, 6, requires_grad=True)
    pi_BN, _ = pruner(torch.zeros(20, 6), q_BN)
    assert set(pi_BN.flatten().tolist()) == {0.0, 1.0}
    (got,) = torch.autograd.grad(pi_BN.sum(), q_BN)
    (expected,) = torch.autograd.grad((10 * (q_BN.sigmoid() - 0.5)).sigmoid().sum(), q_BN)
    torch.testing.assert_close(got, expected)


def test_a_ramp_moves_in_training_only_and_is_saved() -> None:
    ramp = Ramp(0.1, 5.0, 4)
    assert [round(float(ramp()), 3) for _ in range(6)] == [0.1, 1.325, 2.55, 3.775, 5.0, 5.0]
    other = Ramp(0.1, 5.0, 4)
    other()
    other.eval()
    assert float(other()) == float(other()) == pytest.approx(1.325)
    other.load_state_dict(ramp.state_dict())
    assert float(other()) == 5.0


# Behaviour extraction


@pytest.mark.parametrize("widths", [(), (6,), (6, 4)])
def test_target_attention_is_an_mlp_of_target_behaviour_difference_and_product(widths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    block, d = TargetAttention(3, widths), 3
    first = nn.Linear(4 * d, (*widths, 1)[0])
    t, h, difference, product = first.weight.detach().split(d, 1)
    with torch.no_grad():
        block.target.weight.copy_(t + difference)
        block.target.bias.copy_(first.bias)
        block.behaviour.weight.copy_(torch.cat([h - difference, product], 1))
    target_Bd, history_BNd = torch.randn(4, d), torch.randn(4, 5, d)
    got = block(target_Bd, history_BNd)
    for b, i in torch.cartesian_prod(torch.arange(4), torch.arange(5)).tolist():
        t, h = target_Bd[b], history_BNd[b, i]
        expected = first(torch.cat([t, h, t - h, t * h]))
        torch.testing.assert_close(got[b, i : i + 1], block.rest(expected), **CLOSE)


@pytest.mark.parametrize("renorm", [True, False])
def test_extraction_weighs_behaviours_by_item_and_scenario(renorm: bool) -> None:
    torch.manual_seed(0)
    block, inputs = shaken(BehaviourExtraction(3, 4, 8, (6,), renorm)), sorted_rows(30).inputs(3)
    got, logits = block(inputs), block.item(inputs.target_Bd, inputs.history_UNd)
    pairs = block.scenario
    for b, s in enumerate(inputs.route.scenario_B.tolist()):
        n = int(inputs.mask_UN[b].sum())
        history, where = inputs.history_UNd[b, :n], inputs.history_scenario_UN[b, :n]
        scenario = torch.stack(
            [pairs.query(pairs.weight[s]) @ pairs.key(pairs.weight[k]) / 2 for k in where] or [torch.zeros(())]
        )[:n]
        a = logits[b, :n].softmax(0) * scenario.softmax(0)
        if renorm:
            a = a / a.sum()
        torch.testing.assert_close(got[b], a @ history if n else torch.zeros(8), **CLOSE)


def test_scenario_pairs_fold_to_their_table() -> None:
    torch.manual_seed(0)
    pairs, rows = shaken(ScenarioPairs(3, 4)), sorted_rows(20)
    folded = fold_blocks(nn.ModuleList([pairs]))[0]
    inputs = rows.of(1).inputs(3)
    one = one_scenario(inputs, torch.tensor(1))
    expected = pairs(inputs.route, inputs.history_scenario_UN)
    torch.testing.assert_close(torch.jit.script(folded)(one.route, one.history_scenario_UN), expected)
    assert count_flops(lambda: folded(one.route, one.history_scenario_UN)) == 0


# Several ranks


@pytest.mark.process
def test_two_ranks_learn_what_one_would(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, composed_ranks.__file__, str(tmp_path), str(rank)]) for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    alone = composed_ranks.step(slice(None))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for name, expected in alone.items():
        if name.startswith("gradient"):
            torch.testing.assert_close((first[name] + second[name]) / 2, expected, **CLOSE)
            continue
        torch.testing.assert_close(second[name], first[name])
        if name != "started":
            torch.testing.assert_close(first[name], expected, **CLOSE)
