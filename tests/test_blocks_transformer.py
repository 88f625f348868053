"""Encoder layers against torch's own, and the behaviours' transformer against a loop over rows without any padding."""

from __future__ import annotations

import pytest
import torch
from batches import ITEM, WIDTH, Rows, count_flops, dims, sorted_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swrec_prod.blocks.transformer import Backbone, BehaviourTransformer, EncoderLayer, FieldTransformer
from swrec_prod.layers.folding import fold_blocks, one_scenario

S = 3


def torchs_own(ours: EncoderLayer, width: int, heads: int, feedforward: int) -> nn.TransformerEncoderLayer:
    """torch's layer with the weights of ours, which it changes first so that none is at its start."""
    reference = nn.TransformerEncoderLayer(width, heads, feedforward, 0.0, batch_first=True, norm_first=True)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        reference.self_attn.in_proj_weight.copy_(ours.qkv.weight)
        reference.self_attn.in_proj_bias.copy_(ours.qkv.bias)
    pairs = (
        (reference.self_attn.out_proj, ours.out),
        (reference.linear1, ours.mlp[0]),
        (reference.linear2, ours.mlp[2]),
        (reference.norm1, ours.before_attention),
        (reference.norm2, ours.before_mlp),
    )
    for theirs, mine in pairs:
        theirs.load_state_dict(mine.state_dict())
    return reference


def test_an_encoder_layer_is_torchs_own() -> None:
    torch.manual_seed(0)
    ours, t_BNd = EncoderLayer(8, 4, 12), torch.randn(5, 3, 8)
    reference = torchs_own(ours, 8, 4, 12)
    torch.testing.assert_close(ours(t_BNd), reference(t_BNd), atol=1e-5, rtol=1e-5)
    mask_BN = torch.arange(3) < torch.tensor([1, 2, 3, 3, 1])[:, None]
    expected = reference(t_BNd, src_key_padding_mask=~mask_BN)
    torch.testing.assert_close(ours(t_BNd, mask_BN)[mask_BN], expected[mask_BN], atol=1e-5, rtol=1e-5)


def test_heads_must_divide_the_token() -> None:
    with pytest.raises(ValueError, match="3 attention heads do not divide a token of width 8"):
        EncoderLayer(8, 3, 4)


def test_fields_attend_within_their_row_only() -> None:
    block, x_BD = FieldTransformer(dims().fields, WIDTH, 8, 2, 4, 16), torch.randn(5, WIDTH)
    before = block(x_BD)
    x_BD[3, 0] += 1  # the user's field
    after = block(x_BD)
    torch.testing.assert_close(after[[0, 1, 2, 4]], before[[0, 1, 2, 4]])
    changed = (after[3] != before[3]).view(4, 8).any(1)
    assert changed.all(), "a field must be seen by every other field of its row"


def behaviours(layers: int, heads: int, positions: int) -> BehaviourTransformer:
    """With every parameter moved away from its start."""
    torch.manual_seed(0)
    block = BehaviourTransformer(S, 5, ITEM, 12, layers, heads, 16, positions)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return block.eval()


def of_one_row(block: BehaviourTransformer, history_Nd: Tensor, scenarios: list[int], target: Tensor, s: int) -> Tensor:
    """v of a row from its real behaviours alone, position by position and head by head."""
    count, width = len(scenarios), block.norm.normalized_shape[0]
    if count == 0:
        return torch.zeros(width)
    tokens = []
    for n, happened_in in enumerate(scenarios):
        age = min(count - 1 - n, len(block.position) - 1)
        tokens.append(block.token(history_Nd[n]) + block.position[age] + block.happened_in[happened_in])
    b = torch.stack(tokens)[None]
    for layer in block.layers:
        b = layer(b)
    k, v = block.key_value(block.norm(b[0])).split(width, 1)
    q = block.query.first(target) + block.query.scenario.net(block.query.scenario.weight[s])
    each = width // block.in_heads[0]
    parts = [slice(h * each, (h + 1) * each) for h in range(block.in_heads[0])]
    return torch.cat([(k[:, at] @ q[at] / each**0.5).softmax(0) @ v[:, at] for at in parts])


@given(
    seed=st.integers(0, 999),
    length=st.integers(0, 7),
    layers=st.integers(1, 2),
    heads=st.sampled_from([1, 3]),
    positions=st.integers(1, 8),
)
@settings(max_examples=25, deadline=None)
def test_behaviours_are_mixed_as_in_a_loop_over_rows(
    seed: int, length: int, layers: int, heads: int, positions: int
) -> None:
    block, rows = behaviours(layers, heads, positions), sorted_rows(9, S, length, seed)
    got, inputs = block(rows.inputs(S)), rows.inputs(S)
    for i, s in enumerate(rows.scenario_B.tolist()):
        real = rows.mask_BN[i]
        expected = of_one_row(
            block, rows.history_BNd[i][real], rows.history_scenario_BN[i][real].tolist(), inputs.target_Bd[i], s
        )
        torch.testing.assert_close(got[i], expected, atol=1e-5, rtol=1e-4)


def test_a_behaviour_tells_of_its_order_and_its_scenario_once_it_has_learned_to() -> None:
    fresh = BehaviourTransformer(S, 5, ITEM, 12, 1, 3, 16, 8).eval()
    rows = sorted_rows(40, S)
    rows = rows.take(rows.mask_BN.all(1).nonzero()[:, 0])
    turned = Rows(rows.scenario_B, rows.x_BD, rows.history_BNd.flip(1), rows.mask_BN, rows.history_scenario_BN)
    moved = Rows(rows.scenario_B, rows.x_BD, rows.history_BNd, rows.mask_BN, (rows.history_scenario_BN + 1) % S)
    for other in (turned, moved):
        torch.testing.assert_close(fresh(other.inputs(S)), fresh(rows.inputs(S)), atol=1e-5, rtol=1e-5)
        learned = behaviours(1, 3, 8)
        assert not torch.allclose(learned(other.inputs(S)), learned(rows.inputs(S)), atol=1e-3)


def test_padding_has_no_gradient_and_no_history_is_zero() -> None:
    block, rows = behaviours(2, 3, 4), sorted_rows(30, S)
    rows.history_BNd.requires_grad_()
    v_Bd = block(rows.inputs(S))
    v_Bd.square().sum().backward()
    assert rows.history_BNd.grad[~rows.mask_BN].count_nonzero() == 0
    assert rows.history_BNd.grad[rows.mask_BN].count_nonzero() > 0
    assert v_Bd[~rows.mask_BN.any(1)].count_nonzero() == 0
    assert all(parameter.grad.isfinite().all() for parameter in block.parameters())


def test_the_folded_transformer_knows_its_scenario_and_costs_the_same_for_many() -> None:
    block, rows = behaviours(1, 3, 8), sorted_rows(30, S)
    expected, script = block(rows.inputs(S)), torch.jit.script(fold_blocks(block))
    for scenario in range(S):
        inputs = one_scenario(rows.of(scenario).inputs(S), torch.tensor(scenario))
        torch.testing.assert_close(script(inputs), expected[rows.scenario_B == scenario], atol=1e-5, rtol=1e-5)
    work = []
    for num_scenarios in (3, 50):
        large = fold_blocks(BehaviourTransformer(num_scenarios, 5, ITEM, 12, 1, 3, 16, 8))
        inputs = one_scenario(sorted_rows(20, S).inputs(S), torch.tensor(0))
        work.append(count_flops(lambda large=large, inputs=inputs: large(inputs)))
    assert work[0] == work[1]


@pytest.mark.parametrize(
    ("kind", "reads", "width", "attend"),
    [
        ("auto", True, WIDTH + 8, False),
        ("auto", False, 4 * 8, True),
        ("field_transformer", True, 4 * 8 + 8, True),
        ("none", False, WIDTH, False),
    ],
)
def test_a_backbone_reads_what_there_is(kind: str, reads: bool, width: int, attend: bool) -> None:
    torch.manual_seed(0)
    block, inputs = Backbone(dims(S), kind, reads, 5, 8, 1, 1, 2, 16, 4), sorted_rows(12, S).inputs(S)
    assert block(inputs).shape == (12, block.d_out) == (12, width)
    assert isinstance(block.fields, FieldTransformer) == attend
    assert torch.equal(block(inputs)[:, :WIDTH], inputs.x_BD) != attend
