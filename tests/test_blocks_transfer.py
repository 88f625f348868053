"""Pooling of distributions, transfer filters, visits to other experts and their choice, against loops over rows."""

from __future__ import annotations

import math

import pytest
import torch
from batches import WIDTH, count_flops, dims
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cityblock, cosine, euclidean
from torch import Tensor

from swrec_prod.blocks.tailoring import DistributionPooling
from swrec_prod.blocks.transfer import PERIOD, CrossAttention, CrossExperts, Targets, TransferFilter
from swrec_prod.layers.inputs import Route, make_route

counts = st.lists(st.integers(0, 4), min_size=2, max_size=6).filter(lambda c: sum(c) > 0)


def route_of(counts: list[int]) -> Route:
    return make_route(torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)), len(counts))


def disturbed(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


# Pooling


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=6), stat=st.sampled_from(["std", "var", "none"]))
def test_pooling_is_the_mean_and_spread_of_real_behaviours(lengths: list[int], stat: str) -> None:
    torch.manual_seed(0)
    history_BNd = torch.randn(len(lengths), 5, 3)
    pooled = DistributionPooling(stat)(history_BNd, torch.arange(5) < torch.tensor(lengths)[:, None])
    for got, length, history in zip(pooled, lengths, history_BNd, strict=True):
        mean = history[:length].mean(0) if length else torch.zeros(3)
        torch.testing.assert_close(got[:3], mean)
        if stat == "none":
            assert got.shape == (3,)
        elif length == 0:
            assert got.count_nonzero() == 0
        else:
            var = history[:length].var(0, correction=0)
            torch.testing.assert_close(got[3:], var if stat == "var" else (var + 1e-6).sqrt())


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_pooling_by_maximum_is_that_of_real_behaviours(lengths: list[int]) -> None:
    torch.manual_seed(0)
    history_BNd = torch.randn(len(lengths), 5, 3)[:, : max(lengths)]
    pooled_Bd = DistributionPooling("max")(history_BNd, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])
    for got, length, history in zip(pooled_Bd, lengths, history_BNd.numpy(), strict=True):
        assert got.tolist() == (history[:length].max(0).tolist() if length else [0.0, 0.0, 0.0])


@pytest.mark.parametrize("stat", ["std", "var", "none", "max"])
def test_pooling_of_scaled_behaviours_needs_no_second_pass(stat: str) -> None:
    torch.manual_seed(0)
    pool, history_BNd, gate_Bd = DistributionPooling(stat), torch.randn(6, 5, 3), 2 * torch.rand(6, 3) + 0.1
    mask_BN = torch.arange(5) < torch.tensor([0, 2, 3, 4, 5, 5])[:, None]
    torch.testing.assert_close(
        pool.scaled(pool(history_BNd, mask_BN), gate_Bd),
        pool(gate_Bd.unsqueeze(1) * history_BNd, mask_BN),
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize("stat", ["std", "var", "max"])
def test_pooling_of_equal_or_no_behaviours_has_gradients(stat: str) -> None:
    history_BNd = torch.ones(2, 4, 3, requires_grad=True)
    DistributionPooling(stat)(history_BNd, torch.tensor([[True] * 4, [False] * 4])).sum().backward()
    assert history_BNd.grad.isfinite().all()
    assert history_BNd.grad[1].count_nonzero() == 0


# Filter


DISTANCES = {  # of two vectors, by scipy
    "euclidean": lambda a, b: euclidean(a, b) / math.sqrt(len(a)),
    "manhattan": lambda a, b: cityblock(a, b) / len(a),
    "cosine": cosine,
}


def filtered(block: TransferFilter, fields: list[tuple[int, int]], x: Tensor, s: int, t: int) -> Tensor:
    parts = []
    for start, width in fields:
        at = slice(start, start + width)
        y = x[at] * (1 + block.source[s, at] * block.target[t, at]) + block.shift[t, at]
        distance = DISTANCES[block.distance](y.detach().numpy(), block.anchor[t, at].detach().numpy())
        parts.append(y * math.exp(-distance))
    return torch.cat(parts)


@pytest.mark.parametrize("distance", ["euclidean", "manhattan", "cosine"])
def test_a_filter_weighs_each_field_by_its_distance(distance: str) -> None:
    torch.manual_seed(0)
    data, x_RD = dims(4), torch.randn(9, WIDTH)
    block = disturbed(TransferFilter(4, data.fields, WIDTH, distance))
    fields = [(f.start, f.width) for f in data.fields]
    source, target = torch.randint(4, (9,)), torch.randint(4, (9,))
    expected = torch.stack(
        [filtered(block, fields, *row) for row in zip(x_RD, source.tolist(), target.tolist(), strict=True)]
    )
    near = 1e-3 if distance == "cosine" else 1e-5  # what keeps a gradient at distance 0 counts for short vectors
    torch.testing.assert_close(block(x_RD, source, target), expected, atol=near, rtol=near)
    whole = disturbed(TransferFilter(4, (), WIDTH, distance))
    torch.testing.assert_close(
        whole(x_RD[:1], source[:1], target[:1])[0], filtered(whole, [(0, WIDTH)], x_RD[0], source[0], target[0])
    )


def test_what_lies_at_the_anchor_passes_and_what_is_far_does_not() -> None:
    block = TransferFilter(2, dims(2).fields, WIDTH)
    with torch.no_grad():
        block.source.zero_()
        block.anchor[1] = 1.0
    near, far, one = torch.ones(1, WIDTH, requires_grad=True), torch.full((1, WIDTH), 30.0), torch.tensor([1])
    passed = block(near, one, one)
    torch.testing.assert_close(passed, near, atol=1e-3, rtol=1e-3)
    passed.sum().backward()
    assert near.grad.isfinite().all()
    assert block(far, one, one).abs().max() < 1e-6


# Targets


@settings(max_examples=30, deadline=None)
@given(scenarios=st.integers(2, 9), count=st.integers(1, 8), step=st.integers(0, 3))
def test_targets_are_distinct_and_never_a_rows_own(scenarios: int, count: int, step: int) -> None:
    targets = Targets(scenarios, min(count, scenarios - 1)).train()
    for at in (step, PERIOD - 1):
        targets.steps.fill_(at)
        targets.learn(torch.randn(scenarios, targets.chosen.shape[1]), torch.arange(scenarios))
        for s, chosen in enumerate(targets.chosen.tolist()):
            assert s not in chosen
            assert len(set(chosen)) == len(chosen)
            assert all(0 <= t < scenarios for t in chosen)


def test_every_pair_is_drawn_before_the_choice() -> None:
    targets, seen = Targets(7, 2).train(), set()
    for _ in range(60):
        targets.learn(torch.zeros(1, 2), torch.tensor([0]))
        seen |= {(s, t) for s, chosen in enumerate(targets.chosen.tolist()) for t in chosen}
    assert seen == {(s, t) for s in range(7) for t in range(7) if s != t}


def test_targets_with_the_largest_logits_are_chosen() -> None:
    torch.manual_seed(0)
    wanted, targets, scenario_B = torch.randn(6, 6), Targets(6, 2).train(), torch.arange(6).repeat_interleave(3)
    for _ in range(PERIOD):
        logit_SM = wanted.gather(1, targets.chosen)
        targets.learn(logit_SM[scenario_B] + 0.01 * torch.randn(18, 2), scenario_B)
    best = wanted.fill_diagonal_(-math.inf).topk(2).indices
    assert torch.equal(targets.chosen.sort(1).values, best.sort(1).values)
    targets.learn(torch.zeros(18, 2), scenario_B)
    assert torch.equal(targets.chosen.sort(1).values, best.sort(1).values)  # no draws any more


def test_running_logits_are_a_decayed_mean_of_the_rows_of_a_pair() -> None:
    targets, logit_BM = Targets(4, 2).train(), torch.randn(5, 2)
    targets.logit[0, 1], targets.logit[2, 3] = 3.0, 0.5
    chosen = targets.chosen.clone()
    before = targets.logit.clone()
    targets.learn(logit_BM, torch.tensor([0, 0, 0, 2, 2]))
    for s, rows in ((0, slice(0, 3)), (2, slice(3, 5))):
        for j, t in enumerate(chosen[s].tolist()):
            assert float(targets.logit[s, t]) == pytest.approx(
                0.9 * float(before[s, t]) + 0.1 * float(logit_BM[rows, j].mean()), abs=1e-6
            )
            before[s, t] = targets.logit[s, t]
    assert torch.equal(targets.logit, before)


def test_targets_follow_the_rows_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    logit_BM, scenario_B, sent = torch.randn(8, 2), torch.tensor([0, 0, 1, 1, 0, 1, 3, 3]), []
    one = Targets(4, 2).train()
    one.learn(logit_BM, scenario_B)
    halves = slice(0, 4), slice(4, 8)
    monkeypatch.setattr("swrec_prod.blocks.transfer.sum_over_ranks", lambda x: sent.append(x) or x)
    for at in halves:
        Targets(4, 2).train().learn(logit_BM[at], scenario_B[at])
    monkeypatch.setattr("swrec_prod.blocks.transfer.sum_over_ranks", lambda x: sent[0] + sent[1])
    for at in halves:
        rank = Targets(4, 2).train()
        rank.learn(logit_BM[at], scenario_B[at])
        torch.testing.assert_close(rank.logit, one.logit)
        assert torch.equal(rank.chosen, one.chosen)


@pytest.mark.parametrize("all_others", [False, True])
def test_nothing_is_learned_in_eval_or_where_all_are_visited(all_others: bool) -> None:
    targets = Targets(4, 3 if all_others else 2).train(all_others)
    before = {name: value.clone() for name, value in targets.named_buffers()}
    targets.learn(torch.randn(4, targets.chosen.shape[1]), torch.arange(4))
    assert all(torch.equal(value, before[name]) for name, value in targets.named_buffers())


def test_a_restart_draws_the_same_targets() -> None:
    first, second = Targets(9, 3).train(), Targets(9, 3).train()
    for _ in range(5):
        first.learn(torch.ones(9, 3), torch.arange(9))
    second.load_state_dict(first.state_dict())
    torch.manual_seed(123)
    for targets in (first, second):
        targets.learn(torch.ones(9, 3), torch.arange(9))
    assert torch.equal(first.chosen, second.chosen)


# Experts and attention


def expert(block: CrossExperts, x: Tensor, s: int) -> Tensor:
    for layer in block.experts.layers:
        linear = layer.linears[0]
        x = (linear.weight[s] @ x + linear.bias[s]).relu()
    return x


@settings(max_examples=25, deadline=None)
@given(counts=counts, visits=st.integers(1, 5))
def test_a_row_visits_the_experts_of_its_targets(counts: list[int], visits: int) -> None:
    torch.manual_seed(0)
    scenarios, route = len(counts), route_of(counts)
    block = disturbed(CrossExperts(scenarios, dims().fields, WIDTH, (7, 4)))
    x_BD, target_SM = torch.randn(sum(counts), WIDTH), torch.randint(scenarios, (scenarios, visits))
    h_BH, u_BMH = block(x_BD, target_SM[route.scenario_B], route)
    for b, s in enumerate(route.scenario_B.tolist()):
        torch.testing.assert_close(h_BH[b], expert(block, x_BD[b], s), atol=1e-5, rtol=1e-5)
        for j, t in enumerate(target_SM[s].tolist()):
            y = block.filter(x_BD[b : b + 1], torch.tensor([s]), torch.tensor([t]))[0]
            torch.testing.assert_close(u_BMH[b, j], expert(block, y, t), atol=1e-5, rtol=1e-5)
    s = int(route.scenario_B[0])
    at = route.scenario_B == s
    one = Route(torch.tensor([s]), [int(at.sum())], route.ends_S)
    for got, expected in zip(block.folded()(x_BD[at], target_SM[s : s + 1], one), (h_BH, u_BMH), strict=True):
        torch.testing.assert_close(got, expected[at], atol=1e-5, rtol=1e-5)


def test_visits_cost_the_same_however_many_scenarios_there_are() -> None:
    def flops(scenarios: int) -> int:
        block, route = CrossExperts(scenarios, dims().fields, WIDTH, (16, 8)), route_of([240 // scenarios] * scenarios)
        target_BM = (route.scenario_B[:, None] + torch.tensor([1, 2])) % scenarios
        return count_flops(lambda: block(torch.randn(240, WIDTH), target_BM, route)[1].sum().backward())

    assert flops(120) == flops(20)


def test_attention_inside_an_expert_and_between_experts() -> None:
    torch.manual_seed(0)
    block, route = disturbed(CrossAttention(3, 5, 8, 4, 6)), route_of([2, 0, 3])
    h_BH, u_BMH = torch.randn(5, 8), torch.randn(5, 3, 8)
    got, logit_BM = block(h_BH, u_BMH, route)
    for b, s in enumerate(route.scenario_B.tolist()):
        query = block.query.first(h_BH[b]) + block.query.scenario.net(block.query.scenario.weight[s])
        logits, values = [], []
        for u in u_BMH[b]:
            maps = [
                w @ slot + bias
                for w, bias, slot in zip(block.inside.weight, block.inside.bias, u.view(4, 2), strict=True)
            ]
            q, k, v = torch.stack(maps).split(2, 1)
            summary = ((q @ k.t() / math.sqrt(2)).softmax(1) @ v).mean(0)
            key, value = (block.key_value.weight @ summary).split([6, 8])
            logits.append(query @ key / math.sqrt(6))
            values.append(value)
        torch.testing.assert_close(logit_BM[b], torch.stack(logits), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(got[b], torch.stack(logits).softmax(0) @ torch.stack(values), atol=1e-5, rtol=1e-5)


def test_attention_can_tell_slots_apart() -> None:
    torch.manual_seed(0)
    block, u_BMH = CrossAttention(2, 4, 8, 4, 6), torch.randn(3, 1, 8)
    swapped = u_BMH.view(3, 1, 4, 2).flip(2).reshape(3, 1, 8)
    assert not torch.allclose(block.summary(u_BMH), block.summary(swapped), atol=1e-3)


def test_slots_divide_an_expert() -> None:
    with pytest.raises(ValueError, match="slots: 3 slots do not divide an expert of width 8"):
        CrossAttention(2, 4, 8, 3, 6)
