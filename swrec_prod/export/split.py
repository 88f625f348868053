"""A folded scorer that takes x in two parts, the user's columns with U rows and the items' with B, and computes what it
can of the user once: first layers are W x = W_u x_u + W_i x_i.

The scorer is traced with torch.fx, down to layers that have a rule and to blocks that ask for sizes or values. Then x
is followed through the graph as a Split (export/split_graph.py): rules take one and give a result, often another Split
(export/split_rules.py). Whatever has no rule takes x put together from its parts.

Shapes: B rows, U rows of users (B or 1), D width of x, d width of a behaviour, N behaviours.
"""

# Without `from __future__ import annotations`: TorchScript reads the annotations that tracing keeps.

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from swrec_prod.blocks import (
    attention,
    clusters,
    domain_experts,
    entire_space,
    extraction,
    hyper,
    levels,
    transfer,
    transformer,
)
from swrec_prod.blocks.debias import FoldedScorer
from swrec_prod.export.split_graph import Run, Writer
from swrec_prod.export.split_rules import CALLS, LAYERS
from swrec_prod.layers import fields, grouped, mlp, pooling
from swrec_prod.layers.inputs import Dims, Inputs, Route, make_route

BLOCKS: tuple[type[nn.Module], ...] = (
    attention.CoAttention,
    attention.OneUserCoAttention,
    clusters.Clusters,
    domain_experts.DomainExperts,
    entire_space.EntireSpace,
    extraction.TargetAttention,
    fields.FieldTokens,
    grouped.GroupedLinear,
    hyper.MetaAttention,
    levels.AllPathsLevel,
    mlp.BatchNorm,
    pooling.LastState,
    transfer.CrossAttention,
    transfer.OneSource,
    transformer.EncoderLayer,
)
FUNCTIONS = (
    attention.same_scenario,
    hyper.cut,
    hyper.generated_linear,
    make_route,
    pooling.dot,
    pooling.masked_softmax,
    pooling.weighted_sum,
    transformer.attention,
)


def split_first_layers(folded: FoldedScorer, dims: Dims, runs: Sequence[Run]) -> fx.GraphModule:
    """`folded`, which is not changed, as a module that takes x in two parts. Scriptable.

    runs: where the columns of x lie in the parts, in the order of x; together they cover both. It is called with
    (x_user [U, D_u], x_item [B, D_i], target [B, d], history [U, N, d], mask [U, N], history_scenario [U, N],
    scenario), the last int64 with one element, and gives the three of blocks.debias.Scores. U may be B for x and 1 for
    the history, or the other way round.
    """
    return Writer(_traced(folded, dims), runs, LAYERS, CALLS).written()


class _Flat(nn.Module):
    """A FoldedScorer with tensors instead of named tuples around it."""

    def __init__(self, folded: FoldedScorer) -> None:
        super().__init__()
        self.scorer = folded.scorer

    def forward(
        self, x: Tensor, target: Tensor, history: Tensor, mask: Tensor, history_scenario: Tensor, scenario: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        route = Route(scenario, [x.shape[0]], scenario)
        scores = self.scorer(Inputs(x, route, target, history, mask, history_scenario))
        return scores.logit_BT, scores.interest_BT, scores.scenario_BT


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__(autowrap_functions=FUNCTIONS)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in LAYERS or isinstance(m, BLOCKS) or super().is_leaf_module(m, module_qualified_name)


def _traced(folded: FoldedScorer, dims: Dims) -> fx.GraphModule:
    """The scorer's graph, in which every node knows its shape for three rows of one user with two behaviours."""
    root = _Flat(folded).eval()
    traced = fx.GraphModule(root, _Tracer().trace(root))
    x, target, history = torch.zeros(3, dims.x), torch.zeros(3, dims.item), torch.zeros(1, 2, dims.item)
    where = torch.zeros(1, 2, dtype=torch.int64)
    with torch.no_grad():
        ShapeProp(traced).propagate(x, target, history, where == 0, where, where[0, :1])
    return traced
