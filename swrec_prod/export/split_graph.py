"""A traced scorer's graph, written again with x in two parts: the user's columns, and the items'.

Shapes: B rows, U rows of users (B or 1), D width of x, D_u and D_i of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from swrec_prod.export.split_layers import beside


class Run(NamedTuple):
    """Columns that lie side by side in one of the two parts, from `start` on."""

    of_user: bool
    start: int
    width: int


@dataclass(frozen=True)
class Split:
    """A tensor [B, D] as two: user [U, D_u] and item [B, D_i]. runs: where its columns lie, in their order."""

    user: fx.Node
    item: fx.Node
    runs: tuple[Run, ...]

    @property
    def width(self) -> int:
        """D"""
        return sum(run.width for run in self.runs)

    def part(self, *, of_user: bool) -> fx.Node:
        """One of the two."""
        return self.user if of_user else self.item

    def columns(self, *, of_user: bool) -> Tensor:
        """The columns of [B, D] that a part has, in the part's order: int64."""
        at, columns = 0, {}
        for run in self.runs:
            if run.of_user == of_user:
                columns[run.start] = range(at, at + run.width)
            at += run.width
        return torch.tensor([column for start in sorted(columns) for column in columns[start]], dtype=torch.int64)

    def cut(self, start: int, width: int) -> list[Run]:
        """Where the columns [start, start + width) lie."""
        at, runs = 0, []
        for run in self.runs:
            low, high = max(start, at), min(start + width, at + run.width)
            if low < high:
                runs.append(Run(run.of_user, run.start + low - at, high - low))
            at += run.width
        return runs


LayerRule = Callable[["Writer", fx.Node, Any, Split], "Split | fx.Node | None"]
CallRule = Callable[["Writer", fx.Node], "Split | fx.Node | int | None"]


class Writer:
    """Copies a graph node by node, by a rule where one applies: what is a Split in the copy, and what is one tensor.

    layers: rules by the type of a layer that reads a Split; calls: by the function or the name of the method. A rule
    gives None where it does not apply.
    """

    def __init__(
        self,
        traced: fx.GraphModule,
        runs: Iterable[Run],
        layers: Mapping[type[nn.Module], LayerRule],
        calls: Mapping[Any, CallRule],
    ) -> None:
        self.traced, self.runs, self.layers, self.calls = traced, tuple(merged(runs)), layers, calls
        self.graph = fx.Graph()
        self.tensors: dict[fx.Node, Any] = {}
        self.splits: dict[fx.Node, Split] = {}

    @torch.no_grad()
    def written(self) -> fx.GraphModule:
        """The module of the whole copy. The placeholder x has become x_user and x_item."""
        for node in self.traced.graph.nodes:
            result = self.by_rule(node)
            if isinstance(result, Split):
                self.splits[node] = result
            else:
                self.tensors[node] = self.graph.node_copy(node, self.whole) if result is None else result
        split = fx.GraphModule(self.traced, self.graph)
        split.graph.eliminate_dead_code()
        split.recompile()
        split.delete_all_unused_submodules()
        return split

    def by_rule(self, node: fx.Node) -> Split | fx.Node | int | None:
        """What a rule makes of the node."""
        if node.op == "placeholder" and node.target == "x":
            self.x = Split(self.graph.placeholder("x_user"), self.graph.placeholder("x_item"), self.runs)
            return self.x
        if node.op != "call_module":
            return self.calls[node.target](self, node) if node.target in self.calls else None
        layer = self.traced.get_submodule(str(node.target))
        split = self.split(node.args[0]) if node.args else None
        return (
            None
            if split is None or type(layer) not in self.layers
            else self.layers[type(layer)](self, node, layer, split)
        )

    def split(self, value: Any) -> Split | None:
        """A node of the traced graph as a Split, where it is one."""
        return self.splits.get(value) if isinstance(value, fx.Node) else None

    def whole(self, node: fx.Node) -> Any:
        """A node of the traced graph as one tensor; a Split is put together where it is first asked for."""
        if node not in self.tensors:
            split = self.splits[node]
            self.tensors[node] = self.side_by_side([self.piece(split, run, split.item) for run in split.runs])
        return self.tensors[node]

    def piece(self, split: Split, run: Run, like: fx.Node | None) -> fx.Node:
        """A run's columns; with as many rows as `like`, where that is given."""
        part = split.part(of_user=run.of_user)
        piece = self.graph.call_method("narrow", (part, 1, run.start, run.width))
        if like is None or not run.of_user:
            return piece
        rows = self.graph.call_method("size", (like, 0))
        return self.graph.call_method("expand", (piece, rows, run.width))

    def side_by_side(self, pieces: list[fx.Node]) -> fx.Node:
        """[R, D] of pieces with R rows each, or 1."""
        return pieces[0] if len(pieces) == 1 else self.graph.call_function(beside, (pieces,))

    def picked(self, split: Split, runs: Iterable[Run]) -> Split:
        """A Split of some of the columns of another."""
        pieces: dict[bool, list[fx.Node]] = {True: [], False: []}
        moved: list[Run] = []
        for run in merged(runs):
            start = sum(other.width for other in moved if other.of_user == run.of_user)
            moved.append(run._replace(start=start))
            pieces[run.of_user].append(self.piece(split, run, None))
        return self.joined(split, pieces, moved)

    def joined(self, rows: Split, pieces: Mapping[bool, list[fx.Node]], runs: Iterable[Run]) -> Split:
        """A Split whose parts are pieces side by side. rows: another, whose rows a part without columns has."""
        parts = [
            self.side_by_side(pieces[of_user] or [self.piece(rows, Run(of_user, 0, 0), None)])
            for of_user in (True, False)
        ]
        return Split(parts[0], parts[1], tuple(merged(runs)))

    def call(self, node: fx.Node, layer: nn.Module, *args: Any) -> fx.Node:
        """A call of a new layer in place of the node's own."""
        name = f"{node.name}_split"
        while hasattr(self.traced, name):
            name += "_"
        self.traced.add_module(name, layer)
        return self.graph.call_module(name, args)


def merged(runs: Iterable[Run]) -> list[Run]:
    """`runs` with neighbours made one."""
    result: list[Run] = []
    for run in runs:
        last = result[-1] if result else None
        if last is not None and (last.of_user, last.start + last.width) == (run.of_user, run.start):
            result[-1] = last._replace(width=last.width + run.width)
        else:
            result.append(run)
    return result
