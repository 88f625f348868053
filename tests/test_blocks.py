"""Blocks against independent references: naive loops over rows, plain torch modules, full tensors."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from batches import count_flops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swrec_prod.blocks.attention import CoAttention, same_scenario
from swrec_prod.layers.folding import fold_blocks
from swrec_prod.layers.grouped import HUGE, Backend, GroupedLinear, grouped_linear
from swrec_prod.layers.inputs import Route, make_route
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.pooling import LastState, masked_softmax
from swrec_prod.layers.scenario import ConditionedMLP, ScenarioEmbedding, ScenarioLayerNorm, ScenarioMLP, ScenarioNorm

BACKENDS: tuple[Backend, ...] = ("loop", "padded", "by_row", "grouped_mm")


def route_of(counts: list[int]) -> Route:
    scenario_B = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return make_route(scenario_B, len(counts))


def gradients(output: Tensor, weight: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((output * weight).sum(), inputs)


# GroupedLinear


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 5) | st.just(30), min_size=1, max_size=20).filter(any),
    d_in=st.integers(1, 9),
    d_out=st.integers(1, 9),
    backend=st.sampled_from([*BACKENDS, "auto"]),
)
def test_grouped_linear_is_one_linear_a_scenario(counts: list[int], d_in: int, d_out: int, backend: Backend) -> None:
    torch.manual_seed(0)
    route, linear = route_of(counts), GroupedLinear(len(counts), d_in, d_out, backend)
    x_BI = torch.randn(sum(counts), d_in, requires_grad=True)
    expected = torch.einsum("boi,bi->bo", linear.weight[route.scenario_B], x_BI) + linear.bias[route.scenario_B]
    got = linear(x_BI, route)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    weight, leaves = torch.randn_like(got), (x_BI, linear.weight, linear.bias)
    for ours, reference in zip(gradients(got, weight, *leaves), gradients(expected, weight, *leaves), strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("d_in", [8, 129])  # 129 x 97 numbers are large
def test_many_scenarios_give_the_same_whatever_back_end_suits_them(d_in: int) -> None:
    torch.manual_seed(0)
    linear, route = GroupedLinear(40, d_in, 97), route_of([3, 0, 1, 2] * 10)
    x_BI, weight = torch.randn(60, d_in, requires_grad=True), torch.randn(60, 97)
    leaves = (x_BI, linear.weight, linear.bias)
    got, *others = [linear(x_BI, route), *(grouped_linear(*leaves, route, backend) for backend in BACKENDS)]
    expected = gradients(got, weight, *leaves)
    for other in others:
        torch.testing.assert_close(got, other, atol=1e-5, rtol=1e-5)
        for ours, reference in zip(expected, gradients(other, weight, *leaves), strict=True):
            torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("backend", "huge"), [("loop", 0), *((backend, HUGE) for backend in BACKENDS)])
def test_a_scenario_without_rows_has_a_zero_gradient(
    backend: Backend, huge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swrec_prod.layers.grouped.HUGE", huge)
    linear = GroupedLinear(4, 8, 4, backend)
    linear(torch.randn(5, 8), route_of([2, 0, 3, 0])).sum().backward()  # sum() sends an expanded gradient
    for value in (linear.weight, linear.bias):
        assert value.grad is not None
        assert (value.grad[[1, 3]] == 0).all()
        assert (value.grad[[0, 2]] != 0).any()


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_a_batch_may_have_no_rows(backend: Backend) -> None:
    linear, x_BI = GroupedLinear(20, 8, 4, backend), torch.randn(0, 8, requires_grad=True)
    y_BO = linear(x_BI, route_of([0] * 20))
    assert y_BO.shape == (0, 4)
    y_BO.sum().backward()
    for value in (linear.weight.grad, linear.bias.grad):
        assert value is not None
        assert value.count_nonzero() == 0


# 0: in huge pages
@pytest.mark.parametrize(("backend", "huge"), [("loop", 0), ("loop", HUGE), ("padded", HUGE)])
def test_ours_pass_gradcheck(backend: Backend, huge: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swrec_prod.layers.grouped.HUGE", huge)
    weight, bias = torch.randn(3, 2, 4, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    x, route = torch.randn(6, 4, dtype=torch.float64), route_of([1, 0, 5])
    leaves = tuple(t.requires_grad_() for t in (x, weight, bias))
    assert torch.autograd.gradcheck(lambda *t: grouped_linear(*t, route, backend), leaves)


def test_a_route_of_another_batch_is_refused() -> None:
    with pytest.raises(AssertionError, match="another batch"):
        GroupedLinear(2, 4, 4)(torch.randn(3, 4), route_of([2, 2]))


def test_a_new_slice_starts_like_a_linear() -> None:
    torch.manual_seed(0)
    ours, linear = GroupedLinear(50, 16, 8), nn.Linear(16, 400)
    for value, reference in ((ours.weight, linear.weight), (ours.bias, linear.bias)):
        assert value.abs().max() <= 0.25
        assert value.std().item() == pytest.approx(reference.std().item(), rel=0.1)


@pytest.mark.parametrize(("backend", "times"), [("loop", 1), ("grouped_mm", 1), ("padded", 1)])
def test_grouped_linear_does_the_work_of_one_linear(backend: Backend, times: int) -> None:
    linear, x_BI = GroupedLinear(8, 16, 8, backend), torch.randn(40, 16, requires_grad=True)
    assert count_flops(lambda: linear(x_BI, route_of([5] * 8)).sum().backward()) == pytest.approx(
        times * 3 * 2 * 40 * 16 * 8
    )


def test_busy_scenarios_do_not_make_all_pad_to_their_rows() -> None:
    linear, x_BI = GroupedLinear(20, 16, 8, "padded"), torch.randn(1019, 16)
    assert count_flops(lambda: linear(x_BI, route_of([1000] + [1] * 19))) <= 2.5 * 2 * 1020 * 16 * 8


@given(st.lists(st.integers(0, 60), min_size=1, max_size=40).filter(any))
def test_padding_at_most_triples_the_work(counts: list[int]) -> None:
    linear, x_BI = GroupedLinear(len(counts), 3, 2, "padded"), torch.randn(sum(counts), 3)
    assert count_flops(lambda: linear(x_BI, route_of(counts))) <= (3 * sum(counts) + len(counts)) * 2 * 3 * 2


def test_folded_and_scripted_linear_equal_the_eager_one() -> None:
    route, linear, x_BI = route_of([3, 0, 4]), GroupedLinear(3, 5, 3), torch.randn(7, 5)
    expected = linear(x_BI, route)
    torch.testing.assert_close(torch.jit.script(linear)(x_BI, route), expected)
    folded = torch.jit.script(linear.folded())
    for s, rows in ((0, slice(0, 3)), (2, slice(3, 7))):
        one = Route(torch.tensor([s]), [], route.ends_S)
        torch.testing.assert_close(folded(x_BI[rows], one), expected[rows])


# Norms and stacks


def test_scenario_norm_is_a_batch_norm_of_each_scenarios_rows() -> None:
    torch.manual_seed(0)
    ours, references = ScenarioNorm(2, 3), [nn.BatchNorm1d(3) for _ in range(2)]
    with torch.no_grad():
        for s, reference in enumerate(references):
            ours.affine.scale[s] = reference.weight.normal_()
            ours.affine.shift[s] = reference.bias.normal_()
    for counts in ([8, 20], [30, 9]):
        x_BD = torch.randn(sum(counts), 3) * 3 + 2
        expected = torch.cat([norm(part) for norm, part in zip(references, x_BD.split(counts), strict=True)])
        torch.testing.assert_close(ours(x_BD, route_of(counts)), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.mean, torch.stack([r.running_mean for r in references]))
    torch.testing.assert_close(ours.var, torch.stack([r.running_var for r in references]))
    x_BD = torch.randn(5, 3)
    expected = torch.cat([norm.eval()(part) for norm, part in zip(references, x_BD.split([4, 1]), strict=True)])
    torch.testing.assert_close(ours.eval()(x_BD, route_of([4, 1])), expected, atol=1e-5, rtol=1e-5)
    one = Route(torch.tensor([1]), [], torch.zeros(2, dtype=torch.int32))
    torch.testing.assert_close(ours.folded()(x_BD[4:], one), expected[4:], atol=1e-5, rtol=1e-5)


def test_scenario_norm_has_the_gradient_of_a_batch_norm() -> None:
    x_BD = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(20, 3, dtype=torch.float64)
    ours, reference = ScenarioNorm(1, 3).double(), nn.BatchNorm1d(3).double()
    (got,) = gradients(ours(x_BD, route_of([20])), weight, x_BD)
    (expected,) = gradients(reference(x_BD), weight, x_BD)
    torch.testing.assert_close(got, expected)


def test_too_few_rows_use_and_keep_the_running_statistics() -> None:
    norm = ScenarioNorm(3, 2, min_rows=8)
    with torch.no_grad():
        norm.mean.fill_(1.0)
        norm.var.fill_(4.0)
    x_BD = torch.randn(17, 2)
    got = norm(x_BD, route_of([7, 10, 0]))
    torch.testing.assert_close(got[:7], (x_BD[:7] - 1) / 2, atol=1e-4, rtol=1e-4)
    assert (norm.mean[[0, 2]] == 1).all()
    assert (norm.var[[0, 2]] == 4).all()
    assert (norm.mean[1] != 1).all()


def test_scenario_layer_norm_has_a_scale_of_its_own() -> None:
    norm, x_BD = ScenarioLayerNorm(2, 4), torch.randn(5, 4)
    with torch.no_grad():
        norm.affine.scale[1] = 3.0
    plain = F.layer_norm(x_BD, [4])
    torch.testing.assert_close(norm(x_BD, route_of([2, 3])), torch.cat([plain[:2], 3 * plain[2:]]))


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_scenario_mlp_is_one_mlp_a_scenario(norm: str) -> None:
    torch.manual_seed(0)
    ours, mlps = ScenarioMLP(3, 5, (6, 4), 2, norm=norm), [MLP(5, (6, 4), 2, norm=norm) for _ in range(3)]
    linears = [*(layer.linear for layer in ours.hidden), ours.out]
    with torch.no_grad():
        for s, mlp in enumerate(mlps):
            for grouped, linear in zip(linears, [m for m in mlp if isinstance(m, nn.Linear)], strict=True):
                grouped.weight[s], grouped.bias[s] = linear.weight, linear.bias
    x_BI, counts = torch.randn(9, 5), [4, 0, 5]
    expected = torch.cat([mlp(part) for mlp, part in zip(mlps, x_BI.split(counts), strict=True)])
    torch.testing.assert_close(ours(x_BI, route_of(counts)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_mlp_is_linear_norm_relu(norm: str) -> None:
    mlp, x = MLP(4, (6,), 2, norm=norm, dropout=0.5).eval(), torch.randn(3, 4)
    hidden = mlp[0](x) if norm == "none" else mlp[1](mlp[0](x))
    torch.testing.assert_close(mlp(x), mlp[-1](hidden.relu()))
    assert (mlp.d_out, MLP(4, (6,)).d_out, MLP(4, ()).d_out) == (2, 6, 4)
    assert MLP(4, ())(x) is x


@pytest.mark.parametrize("widths", [(), (6,), (6, 4)])
def test_conditioned_mlp_is_an_mlp_of_x_and_the_embedding(widths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours, plain = ConditionedMLP(3, 2, 5, widths, 1), MLP(7, widths, 1)
    first, *others = [m for m in plain if isinstance(m, nn.Linear)]
    with torch.no_grad():
        first.weight.copy_(torch.cat([ours.first.weight, ours.scenario.net.weight], 1))
        first.bias.copy_(ours.first.bias)
        for ours_linear, linear in zip((m for m in ours.rest if isinstance(m, nn.Linear)), others, strict=True):
            linear.load_state_dict(ours_linear.state_dict())
    x_BI, route = torch.randn(6, 5), route_of([1, 2, 3])
    both = torch.cat([x_BI, ours.scenario.weight[route.scenario_B]], 1)
    torch.testing.assert_close(ours(x_BI, route), plain(both), atol=1e-5, rtol=1e-5)
    one = Route(torch.tensor([2]), [], route.ends_S)
    torch.testing.assert_close(fold_blocks(ours)(x_BI[3:], one), plain(both)[3:], atol=1e-5, rtol=1e-5)


def test_scenario_embedding_sends_each_embedding_through_its_net_once() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Tanh())
    block, route = ScenarioEmbedding(5, 4, net).eval(), route_of([0, 3, 0, 2, 0])
    torch.testing.assert_close(block(route), torch.tanh(net[0](block.weight[route.scenario_B])))
    training = copy.deepcopy(block).train()
    torch.testing.assert_close(training.folded()(route), block(route))
    assert count_flops(lambda: block(route_of([100] * 5))) == 2 * 5 * 4 * 3


# Sequences


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[list[int]], list[int], int]:
    """The scenarios of each row's behaviours, the row's own scenario, and the limit."""
    rows = draw(st.integers(1, 5))
    behaviours = draw(st.lists(st.lists(st.integers(0, 2), max_size=7), min_size=rows, max_size=rows))
    return behaviours, draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)), draw(st.integers(1, 8))


def padded(behaviours: list[list[int]], d: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Random vectors, mask and scenario of right-padded behaviours."""
    length = max(map(len, behaviours))
    mask_BN = torch.arange(length) < torch.tensor([len(b) for b in behaviours])[:, None]
    scenario_BN = torch.tensor([b + [0] * (length - len(b)) for b in behaviours], dtype=torch.int64).reshape(
        mask_BN.shape
    )
    return torch.randn(*mask_BN.shape, d), mask_BN, scenario_BN


@settings(max_examples=80, deadline=None)
@given(histories())
def test_same_scenario_keeps_the_latest_of_the_rows_own_scenario(case: tuple[list[list[int]], list[int], int]) -> None:
    behaviours, own, limit = case
    history_BNd, mask_BN, scenario_BN = padded(behaviours)
    same_BKd, same_mask_BK = same_scenario(history_BNd, mask_BN, scenario_BN, torch.tensor(own), limit)
    expected = [[n for n, s in enumerate(b) if s == mine][-limit:] for b, mine in zip(behaviours, own, strict=True)]
    assert same_BKd.shape[1] == same_mask_BK.shape[1] == max(1, *map(len, expected))
    for row, positions in enumerate(expected):
        assert same_mask_BK[row].tolist() == [k < len(positions) for k in range(same_mask_BK.shape[1])]
        assert torch.equal(same_BKd[row, : len(positions)], history_BNd[row, positions])


def full_co_attention(
    block: CoAttention, history: Tensor, mask: Tensor, same: Tensor, same_mask: Tensor, target: Tensor
) -> Tensor:
    """Eq. 14-17 row by row, with the whole matrix C."""
    rows = []
    for h, m, s, sm, i in zip(history, mask, same, same_mask, target, strict=True):
        h, s = h[m], s[sm] if sm.any() else block.null[None]
        if len(h) == 0:
            rows.append(torch.zeros_like(i))
            continue
        hidden = block.history(h)[:, None] + block.same(s)[None] + block.target(i)
        beta = block.out(hidden.relu())[..., 0].max(1).values.softmax(0)
        rows.append(beta @ h)
    return torch.stack(rows)


@pytest.mark.parametrize(("rows", "n", "k", "width"), [(7, 5, 3, 8), (340, 20, 10, 80), (3, 1, 1, 4)])
def test_co_attention_equals_its_full_form_in_value_and_gradient(rows: int, n: int, k: int, width: int) -> None:
    torch.manual_seed(0)
    block = CoAttention(4, width)
    mask = torch.arange(n) < torch.randint(0, n + 1, (rows, 1))
    same_mask = torch.arange(k) < torch.randint(0, k + 1, (rows, 1))
    mask[:, 0], same_mask[:, 0] = True, True
    mask[0], same_mask[1] = False, False  # one row without history, one without behaviours of its own scenario
    history, same, target = (torch.randn(rows, *size, requires_grad=True) for size in ((n, 4), (k, 4), (4,)))
    got = block(history, mask, same, same_mask, target)
    expected = full_co_attention(block, history, mask, same, same_mask, target)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    leaves, weight = (history, same, target, *block.parameters()), torch.randn(rows, 4)
    for ours, reference in zip(gradients(got, weight, *leaves), gradients(expected, weight, *leaves), strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-4)


def test_co_attention_without_any_behaviour_is_zero() -> None:
    none = torch.zeros(3, 0, dtype=torch.bool)
    got = CoAttention(4, 8)(
        torch.zeros(3, 0, 4), none, torch.zeros(3, 1, 4), torch.zeros(3, 1, dtype=torch.bool), torch.randn(3, 4)
    )
    assert torch.equal(got, torch.zeros(3, 4))


def test_last_state_is_that_of_the_sequence_without_padding() -> None:
    torch.manual_seed(0)
    block, x = LastState(3, 5), torch.randn(4, 6, 3)
    lengths = [0, 1, 4, 6]
    got = block(x, torch.arange(6) < torch.tensor(lengths)[:, None])
    expected = [block.gru(x[i : i + 1, :n])[1][0, 0] if n else torch.zeros(5) for i, n in enumerate(lengths)]
    torch.testing.assert_close(got, torch.stack(expected))


def test_masked_softmax_is_the_softmax_of_what_is_real() -> None:
    logit = torch.tensor([[1.0, 2.0, 9.0], [5.0, 5.0, 5.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    got = masked_softmax(logit, mask)
    torch.testing.assert_close(got[0, :2], logit[0, :2].softmax(0))
    assert got[0, 2] == 0
    assert torch.equal(got[1], torch.zeros(3))
    (got * torch.randn(2, 3)).sum().backward()
    assert logit.grad.isfinite().all()
    assert (logit.grad[~mask] == 0).all()
