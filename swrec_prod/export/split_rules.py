"""What becomes of x in two parts, layer by layer and call by call: a rule for each of those that need not see it whole.

Shapes: B rows, U rows of users (B or 1), D width of x.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from swrec_prod.blocks.experts import ParallelLinear
from swrec_prod.blocks.hyper import UserWeights
from swrec_prod.export.split_graph import CallRule, LayerRule, Run, Split, Writer
from swrec_prod.export.split_layers import (
    SplitLinear,
    SplitParallelLinear,
    SplitRankOne,
    SplitSelectedLinear,
    affine_of,
    of_user_alone,
)
from swrec_prod.layers.composed import SelectedRankOne
from swrec_prod.layers.fields import Pick
from swrec_prod.layers.grouped import SelectedLinear
from swrec_prod.layers.scenario import ScenarioAffine


def _two_products(kind: type[nn.Module]) -> LayerRule:
    """W x as W_u x_u + W_i x_i, by a layer of `kind`."""

    def rule(to: Writer, node: fx.Node, layer: Any, split: Split) -> fx.Node:
        module = kind(layer, split.columns(of_user=True), split.columns(of_user=False))
        return to.call(node, module, split.user, split.item, *_others(to, node))

    return rule


def _as_it_is(to: Writer, node: fx.Node, layer: nn.Module, split: Split) -> Split:
    return split


def _affine(to: Writer, node: fx.Node, layer: ScenarioAffine, split: Split) -> Split:
    """Of each part by itself."""
    parts = [
        to.call(node, affine_of(layer, split.columns(of_user=of_user)), split.part(of_user=of_user), *_others(to, node))
        for of_user in (True, False)
    ]
    return Split(parts[0], parts[1], split.runs)


def _pick(to: Writer, node: fx.Node, layer: Pick, split: Split) -> Split:
    runs: list[Run] = []
    for field in layer.chosen:
        runs += split.cut(sum(layer.widths[:field]), layer.widths[field])
    return to.picked(split, runs)


def _user_weights(to: Writer, node: fx.Node, layer: UserWeights, split: Split) -> fx.Node | None:
    """Weights of the user alone, with U rows."""
    assert isinstance(layer.user, Pick)
    picked = _pick(to, node, layer.user, split)
    if not all(run.of_user for run in picked.runs):
        return None
    return to.call(node, of_user_alone(layer), picked.user, *_others(to, node))


def _others(to: Writer, node: fx.Node) -> tuple[Any, ...]:
    """The further arguments of a layer, such as the route."""
    return tuple(fx.map_arg(node.args[1:], to.whole))


LAYERS: dict[type[nn.Module], LayerRule] = {
    nn.Dropout: _as_it_is,
    nn.Identity: _as_it_is,
    nn.Linear: _two_products(SplitLinear),
    ParallelLinear: _two_products(SplitParallelLinear),
    SelectedLinear: _two_products(SplitSelectedLinear),
    SelectedRankOne: _two_products(SplitRankOne),
    ScenarioAffine: _affine,
    Pick: _pick,
    UserWeights: _user_weights,
}


def _cat(to: Writer, node: fx.Node) -> Split | None:
    """[x ; others]: what is no Split has a row for each candidate."""
    values: Any = node.args[0]
    splits = [to.split(value) for value in values]
    rows = next((split for split in splits if split is not None), None)
    if rows is None or node.args[1:] != (1,):
        return None
    pieces: dict[bool, list[fx.Node]] = {True: [], False: []}
    runs: list[Run] = []
    starts = {True: 0, False: 0}
    for value, split in zip(values, splits, strict=True):
        given = split or Split(rows.user, to.whole(value), (Run(False, 0, _shape(value)[1]),))
        runs += [run._replace(start=run.start + starts[run.of_user]) for run in given.runs]
        for of_user in (True, False):
            width = sum(run.width for run in given.runs if run.of_user == of_user)
            starts[of_user] += width
            pieces[of_user] += [given.part(of_user=of_user)] if width else []
    return to.joined(rows, pieces, runs)


def _expand(to: Writer, node: fx.Node) -> Split | None:
    """What the user or the scenario alone decides, one row for all candidates: all of it is the user's part."""
    value = node.args[0]
    if to.split(value) is not None or node.args[2:] != (-1,) or _shape(value)[0] != 1:
        return None
    none = to.graph.call_method("narrow", (to.x.item, 1, 0, 0))
    return Split(to.whole(value), none, (Run(True, 0, _shape(value)[1]),))  # type: ignore[arg-type]


def _detach(to: Writer, node: fx.Node) -> Split | None:
    return to.split(node.args[0])


def _size(to: Writer, node: fx.Node) -> fx.Node | int | None:
    """x.size(0) is that of the items, x.size(1) is known."""
    split = to.split(node.args[0])
    return None if split is None else _length(to, split, node.args[1])


def _item(to: Writer, node: fx.Node) -> fx.Node | int | None:
    """The same of x.shape[0] and x.shape[1]."""
    shape = node.args[0]
    if not (isinstance(shape, fx.Node) and shape.target is getattr and shape.args[1] == "shape"):
        return None
    split = to.split(shape.args[0])
    return None if split is None else _length(to, split, node.args[1])


def _attribute(to: Writer, node: fx.Node) -> fx.Node | None:
    """Of the items' part; `_item` answers for lengths."""
    split = to.split(node.args[0])
    return None if split is None else to.graph.call_function(getattr, (split.item, node.args[1]))


def _length(to: Writer, split: Split, dim: Any) -> fx.Node | int:
    return to.graph.call_method("size", (split.item, 0)) if dim == 0 else split.width


def _shape(node: Any) -> torch.Size:
    """Of a node of the traced graph, for three rows of one user."""
    return node.meta["tensor_meta"].shape


CALLS: dict[Any, CallRule] = {
    torch.cat: _cat,
    operator.getitem: _item,
    getattr: _attribute,
    "detach": _detach,
    "expand": _expand,
    "size": _size,
}
