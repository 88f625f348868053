"""What depends on the user alone may have one row: the scores are those of that row repeated for every candidate."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from batches import ITEM, WIDTH
from hypothesis import given, settings
from hypothesis import strategies as st
from one_user import VARIANTS, Request, S, requests, shaken_model
from torch import Tensor, nn

from swrec_prod.blocks.attention import CoAttention
from swrec_prod.layers.folding import fold_blocks
from swrec_prod.layers.input_layer import InputLayer
from swrec_prod.layers.inputs import Behaviours, make_route

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@cache
def graphs(variant: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A model, its folded graph, and that scripted."""
    model = shaken_model(variant)
    folded = model.fold()
    return model, folded, torch.jit.freeze(torch.jit.script(folded))


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=20, deadline=None)
@given(request=requests, scenario=st.integers(0, S - 1))
@torch.no_grad()
def test_one_row_of_the_user_is_that_row_repeated(variant: str, request: Request, scenario: int) -> None:
    model, folded, script = graphs(variant)
    rows, index = len(request.x_BD), torch.tensor([scenario])
    torch.testing.assert_close(model(request.inputs(1)), model(request.inputs(rows)), **CLOSE)
    request = request.of(scenario)
    expected = model(request.inputs(rows))
    for graph in (folded, script):
        torch.testing.assert_close(graph(request.inputs(1), index), expected, **CLOSE)
        torch.testing.assert_close(graph(request.inputs(rows), index), expected, **CLOSE)


@pytest.mark.parametrize("how", ["attention", "mean"])
@settings(max_examples=20, deadline=None)
@given(request=requests)
def test_summaries_of_further_sequences_too(how: str, request: Request) -> None:
    torch.manual_seed(0)
    layer, rows = InputLayer(1, [], [ITEM], how), len(request.x_BD)
    route = make_route(request.scenario_B, S)
    given_x, dense_B1 = request.x_BD[:, :-1], request.x_BD[:, -1:]

    def x_of(users: int) -> Tensor:
        behaviours = Behaviours(*request.inputs(users)[2:])
        return layer(given_x, [behaviours, behaviours], dense_B1, route).x_BD

    assert x_of(1).shape == (rows, WIDTH + ITEM)
    torch.testing.assert_close(x_of(1), x_of(rows), **CLOSE)


@pytest.mark.parametrize("sign", [-1.0, 0.0, 1.0])
def test_the_search_for_one_user_is_exact_for_large_requests_and_weights_of_any_sign(sign: float) -> None:
    torch.manual_seed(0)
    block, rows, n, k = CoAttention(16, 64), 700, 50, 10
    with torch.no_grad():
        block.out.weight.copy_(sign * block.out.weight.abs() if sign else block.out.weight)
        history, same, target = torch.randn(1, n, 16), torch.randn(1, k, 16), torch.randn(rows, 16)
        masks = torch.ones(1, n, dtype=torch.bool), torch.ones(1, k, dtype=torch.bool)
        expected = block.double()(history.double(), masks[0], same.double(), masks[1], target.double())
        folded = fold_blocks(nn.ModuleList([block.float()]))[0]
        got = folded(history, masks[0], same, masks[1], target)
    torch.testing.assert_close(got, expected.float(), atol=1e-5, rtol=1e-5)
