"""The program of a package: a user, candidates and a scenario -> scores, as a module that TorchScript compiles.

What depends on the user alone has U rows. U is 1 in a request, and stands beside all B candidates; offline each row
has its own user, and U is B. All rows are of one scenario: what depends on it was computed once for all of them.

Shapes: B candidates, U users, R rows of a half, D width of all that x has of it, F numbers, d width of a behaviour,
N behaviours, T tasks.
"""

# Without `from __future__ import annotations`: TorchScript reads the annotations.

import copy
import warnings
from collections.abc import Iterator, Sequence

import torch
from fbgemm_gpu.split_table_batched_embeddings_ops_common import PoolingMode
from torch import Tensor, nn

from swrec_prod.assembly import Assembly, History
from swrec_prod.config import Quantize
from swrec_prod.encoding.pack import Packed
from swrec_prod.export.tables import PRECISIONS, Lookup, Tables, tables_of
from swrec_prod.layers.input_layer import EmbeddedNumbers, InputLayer, no_behaviours
from swrec_prod.layers.inputs import Behaviours, Inputs, Route
from swrec_prod.ranker import Ranker, slices_of
from swrec_prod.schema.layout import Layout, width_of

USER, ITEMS, NOWHERE = 0, 1, -1


class Half(nn.Module):
    """What x has of one half of a layout, and the half's histories. embed: the lines of its embedded numbers.

    forward takes the tables' bytes and the arrays that Layout.arrays of this half names.
    """

    at: list[int]
    own: list[list[int]]

    def __init__(self, whole: Layout, layout: Layout, tables: Tables, embed: EmbeddedNumbers | None) -> None:
        super().__init__()
        self.at = [layout.arrays.index(name) if name in layout.arrays else -1 for name in Packed._fields[:-1]]
        self.bags = any(f.kind == "bag" for f in layout.pooled)
        bags = [(tables.bags if f in whole.pooled else tables.embeddings)[f.table] for f in layout.pooled]
        self.pooled = Lookup(bags, tables.precision, PoolingMode.MEAN) if bags else None
        parts = [part for sequence in layout.sequences for part in sequence.parts if part.kind != "dense"]
        runs = [tables.embeddings[f.table] for f in (*layout.looked_up, *parts)]
        widths = sorted({table.width for table in runs})
        self.own = [[i for i, table in enumerate(runs) if table.width == width] for width in widths]
        self.lookups = nn.ModuleList(
            Lookup([runs[i] for i in own], tables.precision, PoolingMode.NONE) for own in self.own
        )
        self.assembly = Assembly(layout)
        self.numbers = sum(number.width for number in layout.numbers) - len(layout.embedded)
        self.embed = embed

    def forward(self, bytes: Tensor, arrays: list[Tensor]) -> tuple[Tensor, list[History]]:
        """[R, D], columns as slices_of this half; the history of each sequence."""
        ids, ids_lengths, values, lengths, scenario, bag_lengths, numbers, weights, dense_RF = [
            arrays[i] for i in self.at
        ]
        pieces: list[Tensor] = []
        if self.pooled is not None:
            pieces.append(self.pooled(bytes, ids, self.offsets(ids, ids_lengths)))
        histories: list[History] = []
        if len(self.lookups) > 0:
            rows = self.rows(bytes, values, self.assembly.sizes(lengths, bag_lengths))
            pieces.extend(self.assembly.looked_up(rows, lengths, weights, dense_RF.shape[0]))
            histories = self.assembly.histories(rows, lengths, scenario, bag_lengths, numbers)
        if self.numbers > 0:
            pieces.append(dense_RF[:, : self.numbers])
        if self.embed is not None:
            pieces.append(self.embed(dense_RF[:, self.numbers :]))
        if len(pieces) == 0:
            return dense_RF, histories
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1), histories

    def offsets(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Where each row's ids begin; without bags each row has one."""
        if self.bags:
            return torch.ops.fbgemm.asynchronous_complete_cumsum(lengths.to(torch.int64))
        return torch.arange(ids.numel() + 1)

    def rows(self, bytes: Tensor, values: Tensor, sizes: list[int]) -> list[Tensor]:
        """The rows of tables for each run of `values` (Assembly.sizes)."""
        runs = list(values.split(sizes))
        rows = runs.copy()
        for k, lookup in enumerate(self.lookups):
            own = self.own[k]
            mine = values if len(own) == len(runs) else torch.cat([runs[i] for i in own])
            counts = [sizes[i] for i in own]
            ends = [0]
            for count in counts:
                ends.append(ends[-1] + count)
            for i, part in enumerate(lookup(bytes, mine, torch.tensor(ends)).split(counts)):
                rows[own[i]] = part
        return rows


class Place:
    """A run of columns. half: USER, ITEMS or, for zeros, NOWHERE; start, width: of the columns there."""

    def __init__(self, half: int, start: int, width: int) -> None:
        self.half, self.start, self.width = half, start, width


class SideBySide(nn.Module):
    """Chosen columns of the two halves, in any order: user [U, D], items [B, D] -> [B, D]."""

    halves: list[int]
    starts: list[int]
    widths: list[int]

    def __init__(self, places: Sequence[Place]) -> None:
        super().__init__()
        runs = list(_merged(places))
        self.halves = [run.half for run in runs]
        self.starts = [run.start for run in runs]
        self.widths = [run.width for run in runs]

    def forward(self, user_UD: Tensor, items_BD: Tensor) -> Tensor:
        """[B, D]"""
        rows = items_BD.shape[0]
        pieces: list[Tensor] = []
        for i, half in enumerate(self.halves):
            if half < 0:
                pieces.append(items_BD.new_zeros(rows, self.widths[i]))
            elif half == 0:
                pieces.append(user_UD.narrow(1, self.starts[i], self.widths[i]).expand(rows, self.widths[i]))
            else:
                pieces.append(items_BD.narrow(1, self.starts[i], self.widths[i]))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)


def _merged(places: Sequence[Place]) -> Iterator[Place]:
    """`places` with neighbours made one."""
    last: Place | None = None
    for place in places:
        if last is not None and last.half == place.half and last.start + last.width == place.start:
            last = Place(last.half, last.start, last.width + place.width)
            continue
        if last is not None:
            yield last
        last = place
    if last is not None:
        yield last


class ScoreProgram(nn.Module):
    """The tables, input layer and folded scorer of a ranker."""

    sequence_half: list[int]

    def __init__(self, ranker: Ranker, quantize: Quantize) -> None:
        super().__init__()
        layout, inputs = ranker.sparse.layout, copy.deepcopy(ranker.inputs).requires_grad_(False)
        tables = tables_of(ranker.sparse, PRECISIONS[quantize])
        self.bytes = nn.Buffer(tables.bytes)
        self.user = Half(layout, layout.user_half, tables, _embedding(inputs, layout, layout.user_half))
        self.items = Half(layout, layout.item_half, tables, _embedding(inputs, layout, layout.item_half))
        places = _places(layout)
        self.x = SideBySide(list(places.values()))
        self.targets = nn.ModuleList(
            SideBySide([_target(places, name, width_of(part)) for name, part in zip(s.compared, s.parts, strict=True)])
            for s in layout.sequences
        )
        self.sequence_half = [ITEMS if s.name in layout.of_item else USER for s in layout.sequences]
        self.summaries = inputs.summaries
        self.scorer = ranker.scorer.fold()

    def forward(self, user: list[Tensor], items: list[Tensor], scenario: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """logit, interest and scenario logit: [B, T] each (blocks.debias.Scores).

        user, items: the arrays that Layout.arrays names for the halves. scenario: int64 [1], the index.
        """
        scores = self.scorer(self.inputs(user, items), scenario)
        return scores.logit_BT, scores.interest_BT, scores.scenario_BT

    def inputs(self, user: list[Tensor], items: list[Tensor]) -> Inputs:
        """What the scorer reads, with a route of no scenario."""
        user_UD, of_user = self.user(self.bytes, user)
        items_BD, of_items = self.items(self.bytes, items)
        behaviours: list[Behaviours] = []
        taken = [0, 0]
        for k, target in enumerate(self.targets):
            half = self.sequence_half[k]
            history = of_user[taken[0]] if half == 0 else of_items[taken[1]]
            taken[half] += 1
            target_Bd = target(user_UD, items_BD)
            behaviours.append(Behaviours(target_Bd, history.history_UNd, history.mask_UN, history.scenario_UN))
        x_BD = self.x(user_UD, items_BD)
        for k, summary in enumerate(self.summaries):
            x_BD = torch.cat([x_BD, summary(behaviours[k + 1]).expand(x_BD.shape[0], -1)], 1)
        first = behaviours[0] if len(behaviours) > 0 else no_behaviours(x_BD)
        none = torch.zeros(0, dtype=torch.int64)
        route = Route(none, [0], none)  # replaced in FoldedScorer
        return Inputs(x_BD, route, first.target_Bd, first.history_UNd, first.mask_UN, first.scenario_UN)


def _places(layout: Layout) -> dict[str, Place]:
    """For each column of x, but for summaries of sequences, where it lies in the halves, in the order of x."""
    places = {}
    for half, of_half in ((USER, layout.user_half), (ITEMS, layout.item_half)):
        start = 0
        for name, width, _ in slices_of(of_half, "none"):
            places[name] = Place(half, start, width)
            start += width
    return {name: places[name] for name, _, _ in slices_of(layout, "none")}


def _target(places: dict[str, Place], name: str | None, width: int) -> Place:
    """Where the candidate has what it is compared with in one part of behaviours."""
    return Place(NOWHERE, 0, width) if name is None else places[name]


def _embedding(inputs: InputLayer, layout: Layout, half: Layout) -> EmbeddedNumbers | None:
    """The lines of a half's embedded numbers, out of those of the whole."""
    if inputs.embed is None or not half.embedded:
        return None
    embed = EmbeddedNumbers([f.dim for f in half.embedded]).requires_grad_(False)
    chosen = torch.repeat_interleave(
        torch.tensor([f in half.embedded for f in layout.embedded]), torch.tensor([f.dim for f in layout.embedded])
    )
    embed.weight.copy_(inputs.embed.weight[chosen])
    embed.bias.copy_(inputs.embed.bias[chosen])
    return embed


def compile_program(program: ScoreProgram) -> torch.jit.ScriptModule:
    """Scripted, with weights as constants: new batch sizes then cost no recompilation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is the package's format on purpose
        return torch.jit.freeze(torch.jit.script(program.eval()))
