"""Gates, generated weights and field tokens against loops over rows and plain torch modules."""

from __future__ import annotations

import pytest
import torch
from batches import ITEM, WIDTH, count_flops, dims
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swrec_prod.blocks.gates import GatedTower, PersonalGates, ScenarioGate, Shared, Sharing, Tower
from swrec_prod.blocks.hyper import (
    Adapter,
    InstanceWeights,
    MetaAttention,
    ScenarioWeights,
    UserWeights,
    generated_linear,
)
from swrec_prod.layers.fields import FieldTokens, Pick
from swrec_prod.layers.folding import fold_blocks
from swrec_prod.layers.grouped import GroupedLinear
from swrec_prod.layers.inputs import Dims, Field, Route, make_route

S = 3
COUNTS = (4, 0, 5)
FIELDS = dims().fields
SHARING: tuple[Sharing, ...] = ("shared", "per_scenario")


def route_of(counts: tuple[int, ...] | list[int] = COUNTS) -> Route:
    return make_route(torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)), len(counts))


def one(scenario: int) -> Route:
    return Route(torch.tensor([scenario]), [], torch.zeros(1, dtype=torch.int32))


def linear_of(layer: nn.Module, scenario: int, x: Tensor) -> Tensor:
    """A Shared or GroupedLinear on one row."""
    if isinstance(layer, Shared):
        return layer.layer(x)
    assert isinstance(layer, GroupedLinear)
    return layer.weight[scenario] @ x + layer.bias[scenario]


# Fields


def test_pick_puts_the_chosen_fields_side_by_side_in_their_own_order() -> None:
    pick, x_BD = Pick(FIELDS, ["age", "user"]), torch.randn(4, WIDTH)
    assert torch.equal(pick(x_BD), torch.cat([x_BD[:, :ITEM], x_BD[:, -1:]], 1))
    assert pick.d_out == ITEM + 1


def test_tokens_are_one_linear_a_field() -> None:
    torch.manual_seed(0)
    block, x_BD = FieldTokens(FIELDS, WIDTH, 5), torch.randn(6, WIDTH)
    narrow, wide = block.groups
    expected = [x_BD[:, 3 * ITEM :] @ narrow.weight[0] + narrow.bias[0]]
    expected += [x_BD[:, i * ITEM : (i + 1) * ITEM] @ wide.weight[i] + wide.bias[i] for i in range(3)]
    torch.testing.assert_close(block(x_BD), torch.stack(expected, 1))
    assert block.d_out == 4 * 5


def test_without_fields_x_is_one_token() -> None:
    assert FieldTokens((), 7, 4)(torch.randn(3, 7)).shape == (3, 1, 4)


# Gates


def test_the_scenario_gate_is_a_gatenu_of_embedding_and_input() -> None:
    torch.manual_seed(0)
    gate, route, x_BD = ScenarioGate(S, 4, 6, hidden=5), route_of(), torch.randn(9, 6, requires_grad=True)
    first, second = gate.mlp.first, gate.mlp.rest[-1]
    weight = torch.cat([gate.mlp.scenario.net.weight, first.weight], 1)
    rows = [torch.cat([gate.mlp.scenario.weight[s], x]) for s, x in zip(route.scenario_B, x_BD, strict=True)]
    expected = torch.stack([2 * torch.sigmoid(second((weight @ row + first.bias).relu())) for row in rows])
    got = gate(x_BD, route)
    torch.testing.assert_close(got, expected)
    assert ((got > 0) & (got < 2)).all()
    (got * x_BD).sum().backward()
    torch.testing.assert_close(x_BD.grad, got.detach())  # of the product only: the gate's input is detached


def test_gates_start_near_one() -> None:
    torch.manual_seed(0)
    x_BD, route = torch.randn(9, WIDTH) * 0.01, route_of()
    gates = [
        ScenarioGate(S, 16, WIDTH)(x_BD, route),
        *PersonalGates(dims(), (), (64, 32), None, "shared")(x_BD, x_BD, route),
    ]
    assert all((gate - 1).abs().max() < 0.5 for gate in gates)


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("hidden", [None, 3])
def test_personal_gates_are_one_gatenu_a_layer(sharing: Sharing, hidden: int | None) -> None:
    torch.manual_seed(0)
    widths, route = (6, 4), route_of()
    block, raw_BD, x_BD = (
        PersonalGates(dims(), (), widths, hidden, sharing),
        torch.randn(9, WIDTH),
        torch.randn(9, WIDTH),
    )
    sizes = [hidden or width for width in widths]
    got = block(raw_BD, x_BD, route)
    assert [gate.shape for gate in got] == [(9, 6), (9, 4)]
    for i, s in enumerate(route.scenario_B.tolist()):
        o, a = raw_BD[i, : 2 * ITEM], x_BD[i, 2 * ITEM :]
        inner = linear_of(block.first, s, o) + linear_of(block.first_others, s, a)
        for gate, part, second in zip(got, inner.relu().split(sizes), block.second, strict=True):
            torch.testing.assert_close(gate[i], 2 * linear_of(second, s, part).sigmoid())


def test_personal_gates_train_the_priors_only() -> None:
    block, x_BD = PersonalGates(dims(), ("tag",), (6,), None, "shared"), torch.randn(9, WIDTH, requires_grad=True)
    block(x_BD, x_BD, route_of())[0].sum().backward()
    learns = x_BD.grad.abs().sum(0) > 0
    assert learns.tolist() == [2 * ITEM <= i < 3 * ITEM for i in range(WIDTH)]


@pytest.mark.parametrize("sharing", SHARING)
def test_ids_alone_are_enough_for_personal_gates(sharing: Sharing) -> None:
    fields = (Field("user", 0, 4, "user", "id"), Field("item", 4, 4, "item", "id"))
    block = PersonalGates(Dims(8, S, 1, 0, fields, user="user", target="item"), (), (6, 4), None, sharing)
    x_BD, route = torch.randn(9, 8), route_of()
    gates = block(x_BD, x_BD, route)
    assert [gate.shape[1] for gate in gates] == [6, 4]
    for got, expected in zip(torch.jit.script(block)(x_BD, x_BD, route), gates, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kind", ["shared", "last_layer", "per_scenario"])
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_a_gated_tower_multiplies_every_hidden_layer(kind: Tower, norm: str) -> None:
    torch.manual_seed(0)
    tower, route, x_BI = GatedTower(S, 5, (6, 4), 2, kind, norm, dropout=0.5).eval(), route_of(), torch.randn(9, 5)
    assert isinstance(tower.hidden[0], Shared) is (kind != "per_scenario")
    assert isinstance(tower.out, Shared) is (kind == "shared")
    gates = [torch.rand(9, 6) * 2, torch.rand(9, 4) * 2]
    got = tower(x_BI, gates, route)
    for i, s in enumerate(route.scenario_B.tolist()):
        h = x_BI[i]
        for layer, gate in zip(tower.hidden, gates, strict=True):
            h = linear_of(Shared(layer.layer[0]) if isinstance(layer, Shared) else layer.linear, s, h)
            h = h if norm == "none" else nn.functional.layer_norm(h, h.shape)
            h = h.relu() * gate[i]
        torch.testing.assert_close(got[i], linear_of(tower.out, s, h), atol=1e-5, rtol=1e-5)


# Generated weights


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=20).filter(any),
    n=st.integers(1, 3),
    d_in=st.integers(1, 6),
    d_out=st.integers(1, 6),
    of_rows=st.booleans(),
    biased=st.booleans(),
)
def test_generated_linear_is_one_matrix_a_vector(
    counts: list[int], n: int, d_in: int, d_out: int, of_rows: bool, biased: bool
) -> None:
    torch.manual_seed(0)
    route, rows = route_of(counts), sum(counts)
    sets = rows if of_rows else len(counts)
    x = torch.randn(rows, n, d_in, requires_grad=True)
    weight, bias = torch.randn(sets, d_in, d_out, requires_grad=True), torch.randn(sets, d_out)
    at = torch.arange(rows) if of_rows else route.scenario_B
    expected = torch.einsum("bio,bni->bno", weight[at], x) + (bias[at][:, None] if biased else 0)
    got = generated_linear(x, weight, bias if biased else None, route, of_rows)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    upstream = torch.randn_like(got)
    ours, reference = (torch.autograd.grad((y * upstream).sum(), (x, weight)) for y in (got, expected))
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


def test_scenario_weights_are_those_of_each_embedding_and_fold_to_one_row() -> None:
    torch.manual_seed(0)
    starts = [torch.eye(3), torch.randn(2)]
    block, x_BD = ScenarioWeights(S, 4, 5, starts, std=0.1, slope=0.1), torch.randn(9, 2)
    first, _, last = block.net
    matrices, vectors = block(x_BD, route_of())
    folded = torch.jit.script(block.folded())
    for s in range(S):
        flat = last(nn.functional.leaky_relu(first(block.weight[s]), 0.1))
        torch.testing.assert_close(matrices[s], flat[:9].view(3, 3))
        torch.testing.assert_close(vectors[s], flat[9:])
        for got, expected in zip(folded(x_BD, one(s)), (matrices, vectors), strict=True):
            torch.testing.assert_close(got, expected[s : s + 1])


def test_generated_tensors_start_near_what_they_were_given() -> None:
    torch.manual_seed(0)
    starts = [torch.eye(6), torch.full((2,), 3.0)]
    x_BD = torch.randn(9, WIDTH)
    for block in (
        ScenarioWeights(S, 4, 8, starts),
        InstanceWeights(WIDTH, 8, starts),
        UserWeights(dims(), 4, 8, starts),
    ):
        for got, start in zip(block(x_BD, route_of()), starts, strict=True):
            assert (got - start).abs().max() < 0.1
            assert (got - start).abs().max() > 0


def test_user_weights_read_the_users_features_and_the_scenario_only() -> None:
    torch.manual_seed(0)
    block, route, x_BD = UserWeights(dims(), 4, 8, [torch.zeros(3)], std=1.0), route_of(), torch.randn(9, WIDTH)
    (before,) = block(x_BD, route)
    (other_item,) = block(torch.cat([x_BD[:, :ITEM], x_BD[:, ITEM : 3 * ITEM] + 1, x_BD[:, 3 * ITEM :]], 1), route)
    (other_user,) = block(torch.cat([x_BD[:, :ITEM] + 1, x_BD[:, ITEM:]], 1), route)
    (elsewhere,) = block(x_BD, route_of([0, 9, 0]))
    assert torch.equal(other_item, before)
    assert (other_user != before).any(1).all()
    assert (elsewhere != before).any(1).all()
    (folded,) = fold_blocks(block)(x_BD[4:], one(2))
    torch.testing.assert_close(folded, before[4:])


def test_user_weights_need_a_user() -> None:
    with pytest.raises(ValueError, match="side: user"):
        UserWeights(Dims(4, S, 1, 0, (Field("item", 0, 4, "item", "id"),)), 4, 8, [torch.zeros(3)])


@pytest.mark.parametrize("of_rows", [False, True])
def test_an_adapter_never_builds_the_matrices_it_applies(of_rows: bool) -> None:
    torch.manual_seed(0)
    norm = Shared(nn.LayerNorm(6))
    adapter, route, h_BM = Adapter(6, 3, 4, nn.SiLU(), norm, of_rows), route_of(), torch.randn(9, 6)
    with torch.no_grad():
        adapter.down.bias.normal_()
        adapter.up.bias.normal_()
    core = torch.randn(9 if of_rows else S, 3, 3)
    got = adapter(h_BM, core, route)
    for i, s in enumerate(route.scenario_B.tolist()):
        H = core[i if of_rows else s]
        W_down, W_up = adapter.down.U @ H @ adapter.down.V, adapter.up.U @ H @ adapter.up.V
        a = nn.functional.silu(h_BM[i] @ W_down + adapter.down.bias) @ W_up + adapter.up.bias
        torch.testing.assert_close(got[i], h_BM[i] + norm.layer(a), atol=1e-5, rtol=1e-5)


def test_an_adapter_costs_two_low_rank_products() -> None:
    adapter, h_BM = Adapter(128, 35, 32, nn.SiLU(), Shared(nn.LayerNorm(128)), True), torch.randn(10, 128)
    flops = count_flops(lambda: adapter(h_BM, torch.randn(10, 35, 35), route_of([10])))
    assert flops == 2 * 10 * 2 * (128 * 35 + 35 * 35 + 35 * 32)


@pytest.mark.parametrize("of_rows", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_meta_attention_scores_every_expert_for_every_task(of_rows: bool, layers: int) -> None:
    torch.manual_seed(0)
    act, route, e_BEm = nn.LeakyReLU(0.1), route_of(), torch.randn(9, 4, 5)
    block, sets = MetaAttention(2, 5, layers, act, of_rows), 9 if of_rows else S
    meta = [torch.randn(shape) for _ in range(layers) for shape in ((sets, 10, 10), (sets, 10))]
    got, alpha_BTE = block(e_BEm, meta, route), block.weights(e_BEm, meta, route)
    torch.testing.assert_close(alpha_BTE.sum(2), torch.ones(9, 2))
    for i, s in enumerate(route.scenario_B.tolist()):
        g = i if of_rows else s
        for t in range(2):
            logits = []
            for e in e_BEm[i]:
                h = torch.cat([e, block.task_Tm[t]])
                for layer in range(layers):
                    h = act(h @ meta[2 * layer][g] + meta[2 * layer + 1][g])
                logits.append(block.v(h))
            alpha = torch.cat(logits).softmax(0)
            torch.testing.assert_close(alpha_BTE[i, t], alpha, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(got[i, t], alpha @ e_BEm[i], atol=1e-5, rtol=1e-5)
