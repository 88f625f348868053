"""A scorer that takes x in two parts gives the scores of the scorer that takes it whole."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from batches import ITEM, WIDTH, count_flops, dims
from hypothesis import given, settings
from hypothesis import strategies as st
from one_user import VARIANTS, Request, S, requests, shaken_model
from torch import Tensor, nn

from swrec_prod.blocks.debias import FoldedScorer, ScenarioBiasEliminator, Scorer
from swrec_prod.export.split import split_first_layers
from swrec_prod.export.split_graph import Run, Split, merged
from swrec_prod.models import build
from swrec_prod.models.compat import COMPAT

# x of batches.dims: user, item, tag, age. User and age are the user's, and lie the other way round in its part.
RUNS = [Run(True, 1, ITEM), Run(False, 0, ITEM), Run(False, ITEM, ITEM), Run(True, 0, 1)]
ALL_OF_ITEM, ALL_OF_USER = [Run(False, 0, WIDTH)], [Run(True, 0, WIDTH)]


def parts(x_BD: Tensor, users: int) -> tuple[Tensor, Tensor]:
    """x in the parts of RUNS."""
    return torch.cat([x_BD[:users, -1:], x_BD[:users, :ITEM]], 1), x_BD[:, ITEM:-1]


@cache
def graphs(variant: str) -> tuple[FoldedScorer, nn.Module, nn.Module]:
    """A folded scorer, it split, and that scripted and frozen."""
    torch.manual_seed(0)
    folded = Scorer(shaken_model(variant), ScenarioBiasEliminator(S, 2)).eval().fold()
    split = split_first_layers(folded, dims(S), RUNS)
    return folded, split, torch.jit.freeze(torch.jit.script(split.eval()))


def requests_of(rows: int) -> Request:
    """Random candidates of one user with three behaviours."""
    generator = torch.Generator().manual_seed(0)
    x_BD, mask = torch.randn(rows, WIDTH, generator=generator), torch.ones(1, 3, dtype=torch.bool)
    x_BD[:, :ITEM] = x_BD[0, :ITEM].clone()
    history = torch.randn(1, 3, ITEM, generator=generator), mask, mask * 1
    return one_user(Request(torch.zeros(rows, dtype=torch.int64), x_BD, history))


def one_user(request: Request) -> Request:
    """The request with what is the user's alike in every row of x."""
    request.x_BD[:, -1] = request.x_BD[0, -1].clone()
    return request


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=15, deadline=None)
@given(request=requests.map(one_user), scenario=st.integers(0, S - 1))
@torch.no_grad()
def test_the_scores_are_those_of_x_as_a_whole(variant: str, request: Request, scenario: int) -> None:
    folded, *split_graphs = graphs(variant)
    rows, index = len(request.x_BD), torch.tensor([scenario])
    expected = folded(request.inputs(rows), index)
    for graph in split_graphs:
        for users, of_history in ((1, 1), (rows, rows), (1, rows), (rows, 1)):
            x_user, x_item = parts(request.x_BD, users)
            got = graph(x_user, x_item, *request.inputs(of_history)[2:], index)
            for mine, whole in zip(got, expected, strict=True):
                torch.testing.assert_close(mine, whole, atol=1e-5, rtol=1e-5)


OPTIONS = [
    *((name, {"norm": norm}) for name in ("dnn", "mmoe", "hamur", "aesm2", "adasparse") for norm in ("layer", "batch")),
    ("dnn", {"scenario_as_feature": True, "hidden": []}),
    ("mmoe", {"gate_norm": "batch", "tower_norm": "layer", "num_experts": "scenarios", "expert": [8, 4]}),
    ("ple", {"levels": 3, "shared_gate_scope": "own", "own_weights": "rank_one", "expert": [8, 8]}),
    ("ple", {"levels": 2, "shared_gate_scope": "all", "expert": [8]}),
    ("ple", {"levels": 2, "num_shared": 2, "shared_gate_scope": "shared_only", "norm": "layer", "gate_norm": "batch"}),
    ("star", {"own_weights": "rank_one", "rectify": True}),
    ("star", {"partitioned_norm": False, "scenario_dim": 0, "norm": "layer"}),
    ("sar_net", {"norm": "each"}),
    ("sar_net", {"norm": "layer", "dense": False, "use_history": False}),
    ("m2m", {"attention_layers": 2, "tower_layers": 2, "history_layers": 2, "heads": 1}),
    ("m2m", {"cond": "scenario_user", "backbone": "none"}),
    ("hamur", {"hyper_cond": "scenario", "backbone": "last_layer", "adapters": 2, "adapter_norm": "scenario"}),
    ("ppnet", {"tower": "shared", "gates": "per_scenario"}),
    ("ppnet", {"prior": ["user", "item", "tag", "age"]}),
    ("pepnet", {"tower": "per_scenario", "prior": ["age"]}),
    ("m3oe", {"other_experts": "ema_expert", "own_weights": "rank_one"}),
    ("aesm2", {"gate_form": "lowrank", "layers": 2}),
    ("adasparse", {"form": "scaling", "pruner_input": "domain", "dense": False}),
    ("csii", {"own_weights": "rank_one", "norm": "layer", "cross_topm": None}),
    *((name, {"compat": "benchmark"}) for name in sorted(COMPAT)),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=[f"{name} {options}" for name, options in OPTIONS])
@torch.no_grad()
def test_models_with_other_options_can_be_split(name: str, options: dict) -> None:
    torch.manual_seed(0)
    folded = Scorer(build(name, options, dims(S))).eval().fold()
    split, request, index = split_first_layers(folded, dims(S), RUNS), requests_of(5), torch.tensor([2])
    expected = folded(request.inputs(5), index).logit_BT
    for graph in (split, torch.jit.freeze(torch.jit.script(split.eval()))):
        got = graph(*parts(request.x_BD, 1), *request.inputs(1)[2:], index)
        torch.testing.assert_close(got[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("runs", [ALL_OF_ITEM, ALL_OF_USER], ids=["of the item", "of the user"])
@pytest.mark.parametrize("name", ["dnn", "mmoe", "star", "epnet", "ppnet", "mscan", "m2m", "sar_net", "sfpnet"])
@torch.no_grad()
def test_a_part_may_be_empty(name: str, runs: list[Run]) -> None:
    folded = Scorer(shaken_model(name)).eval().fold()
    rows, history, index = torch.randn(4, WIDTH), torch.randn(1, 2, ITEM), torch.tensor([1])
    x_BD = rows if runs is ALL_OF_ITEM else rows[:1].expand(4, WIDTH)
    mask, where = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[0, 1]])
    request = Request(torch.zeros(4, dtype=torch.int64), x_BD, (history, mask, where))
    x_user, x_item = (rows[:1, :0], rows) if runs is ALL_OF_ITEM else (rows[:1], rows[:, :0])
    for graph in (split := split_first_layers(folded, dims(S), runs), torch.jit.freeze(torch.jit.script(split.eval()))):
        got = graph(x_user, x_item, *request.inputs(1)[2:], index)
        torch.testing.assert_close(got[0], folded(request.inputs(4), index).logit_BT, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "layers"),
    [("dnn", 1), ("shared_bottom", 1), ("mmoe", 2), ("ple", 3), ("epnet", 1), ("star", 2), ("mscan", 1), ("m2m", 1)],
)
def test_first_layers_cost_the_user_once(name: str, layers: int) -> None:
    """Of how many layers, and that nothing else costs more."""
    folded, split, _ = graphs(name)
    request = requests_of(50)
    whole, index = request.inputs(1), torch.tensor([0])
    before = count_flops(lambda: folded(whole, index))
    after = count_flops(lambda: split(*parts(whole.x_BD, 1), *whole[2:], index))
    sizes = [layer.user.shape[-2:] for layer in split.modules() if hasattr(layer, "user") and hasattr(layer, "item")]
    assert len(sizes) == layers
    assert all(columns >= ITEM + 1 for _, columns in sizes)
    assert before - after == 2 * 49 * sum(width * columns for width, columns in sizes)


def test_the_scorer_stays_as_it_was() -> None:
    folded, request = graphs("star")[0], requests_of(5)
    before, names = folded(request.inputs(5), torch.tensor([1])), [name for name, _ in folded.named_modules()]
    split_first_layers(folded, dims(S), RUNS)
    assert [name for name, _ in folded.named_modules()] == names
    assert torch.equal(folded(request.inputs(5), torch.tensor([1])).logit_BT, before.logit_BT)


@settings(max_examples=60, deadline=None)
@given(runs=st.lists(st.tuples(st.booleans(), st.integers(1, 4)), min_size=1, max_size=6), data=st.data())
def test_runs_say_where_columns_lie(runs: list[tuple[bool, int]], data: st.DataObject) -> None:
    lengths = {True: 0, False: 0}
    given_runs = []
    for of_user, width in runs:
        given_runs.append(Run(of_user, lengths[of_user], width))
        lengths[of_user] += width
    order = data.draw(st.permutations(given_runs))
    split = Split(None, None, tuple(merged(order)))  # type: ignore[arg-type]
    parts = {True: torch.arange(lengths[True]), False: 100 + torch.arange(lengths[False])}
    whole = torch.cat([parts[run.of_user][run.start : run.start + run.width] for run in order])
    for of_user, part in parts.items():
        assert torch.equal(whole[split.columns(of_user=of_user)], part)
    start = data.draw(st.integers(0, split.width))
    width = data.draw(st.integers(0, split.width - start))
    pieces = [parts[run.of_user][run.start : run.start + run.width] for run in split.cut(start, width)]
    assert torch.equal(torch.cat([whole[:0], *pieces]), whole[start : start + width])
