"""The program of a package: a user, candidates and a scenario -> scores, as a module that TorchScript compiles.

What depends on the user alone has U rows. U is 1 in a request, and stands beside all B candidates; offline each row
has its own user, and U is B. All rows are of one scenario: what depends on it was computed once for all of them.

Shapes: B candidates, U users, R rows of a half, D width of all that x has of it, F numbers, d width of a behaviour,
N behaviours, T tasks.
"""

# Without `from __future__ import annotations`: TorchScript reads the annotations.

import copy
import warnings
from collections.abc import Mapping, Sequence

import torch
from fbgemm_gpu.split_table_batched_embeddings_ops_common import PoolingMode
from torch import Tensor, nn

from swrec_prod.assembly import Assembly, History
from swrec_prod.config import Quantize
from swrec_prod.encoding.pack import Packed
from swrec_prod.export.split import split_first_layers
from swrec_prod.export.split_graph import Run, merged
from swrec_prod.export.tables import PRECISIONS, Lookup, Tables, tables_of
from swrec_prod.layers.input_layer import AttentionSummary, EmbeddedNumbers, InputLayer, no_behaviours
from swrec_prod.layers.inputs import Behaviours, Dims, Inputs, Route
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


class SideBySide(nn.Module):
    """Chosen columns of the two halves, in any order: user [U, D], items [B, D] -> [B, D].

    runs: of columns; where there are none, a number of zeros.
    """

    places: list[tuple[int, int, int]]

    def __init__(self, runs: Sequence[Run | int]) -> None:
        super().__init__()
        self.places = [
            (NOWHERE, 0, run) if isinstance(run, int) else (USER if run.of_user else ITEMS, run.start, run.width)
            for run in runs
        ]

    def forward(self, user_UD: Tensor, items_BD: Tensor) -> Tensor:
        """[B, D]"""
        rows = items_BD.shape[0]
        pieces: list[Tensor] = []
        for half, start, width in self.places:
            if half == -1:
                pieces.append(items_BD.new_zeros(rows, width))
            elif half == 0:
                pieces.append(user_UD.narrow(1, start, width).expand(rows, width))
            else:
                pieces.append(items_BD.narrow(1, start, width))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)


class ScoreProgram(nn.Module):
    """The tables, input layer and folded scorer of a ranker."""

    sequence_half: list[int]
    summary_half: list[int]

    def __init__(self, ranker: Ranker, quantize: Quantize) -> None:
        super().__init__()
        layout, inputs = ranker.sparse.layout, copy.deepcopy(ranker.inputs).requires_grad_(False)
        tables = tables_of(ranker.sparse, PRECISIONS[quantize])
        self.bytes = nn.Buffer(tables.bytes)
        self.user = Half(layout, layout.user_half, tables, _embedding(inputs, layout, layout.user_half))
        self.items = Half(layout, layout.item_half, tables, _embedding(inputs, layout, layout.item_half))
        runs = _runs(layout)
        self.targets = nn.ModuleList(
            SideBySide([runs[n] if n else width_of(part) for n, part in zip(s.compared, s.parts, strict=True)])
            for s in layout.sequences
        )
        self.sequence_half = [ITEMS if s.name in layout.of_item else USER for s in layout.sequences]
        self.summaries = inputs.summaries
        compares = [isinstance(summary, AttentionSummary) for summary in self.summaries]
        halves = zip(compares, self.sequence_half[1:], strict=False)
        self.summary_half = [ITEMS if compared else half for compared, half in halves]
        of_x = _with_summaries(runs, layout, self.summary_half)
        self.x = SideBySide(of_x)
        behaviour = layout.history.width if layout.history else 0
        dims = Dims(sum(run.width for run in of_x), layout.num_scenarios, len(layout.tasks), behaviour)
        self.scorer = split_first_layers(ranker.scorer.fold(), dims, of_x)

    def forward(self, user: list[Tensor], items: list[Tensor], scenario: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """logit, interest and scenario logit: [B, T] each (blocks.debias.Scores).

        user, items: the arrays that Layout.arrays names for the halves. scenario: int64 [1], the index.
        """
        x_user, x_items, first = self.parts(user, items)
        history, mask, where = first.history_UNd, first.mask_UN, first.scenario_UN
        return self.scorer(x_user, x_items, first.target_Bd, history, mask, where, scenario)

    def parts(self, user: list[Tensor], items: list[Tensor]) -> tuple[Tensor, Tensor, Behaviours]:
        """x in two parts, [U, D] and [B, D], and the first sequence."""
        x_user, of_user = self.user(self.bytes, user)
        x_items, of_items = self.items(self.bytes, items)
        behaviours: list[Behaviours] = []
        taken = [0, 0]
        for k, target in enumerate(self.targets):
            half = self.sequence_half[k]
            own = of_user[taken[0]] if half == 0 else of_items[taken[1]]
            taken[half] += 1
            behaviours.append(Behaviours(target(x_user, x_items), own.history_UNd, own.mask_UN, own.scenario_UN))
        for k, summary in enumerate(self.summaries):
            if self.summary_half[k] == 0:
                x_user = torch.cat([x_user, summary(behaviours[k + 1])], 1)
            else:
                x_items = torch.cat([x_items, summary(behaviours[k + 1])], 1)
        return x_user, x_items, behaviours[0] if len(behaviours) > 0 else no_behaviours(x_items)

    @torch.jit.unused
    def inputs(self, user: list[Tensor], items: list[Tensor]) -> Inputs:
        """What the scorer was made to read, for those who compare it with what it was: x as one, with no scenario."""
        x_user, x_items, first = self.parts(user, items)
        none = torch.zeros(0, dtype=torch.int64)
        return Inputs(self.x(x_user, x_items), Route(none, [], none), *first)


def _runs(layout: Layout) -> dict[str, Run]:
    """For each column of x, but for summaries of sequences, where it lies in the halves, in the order of x."""
    runs = {}
    for half in (layout.user_half, layout.item_half):
        start = 0
        for name, width, _ in slices_of(half, "none"):
            runs[name] = Run(half is layout.user_half, start, width)
            start += width
    return {name: runs[name] for name, _, _ in slices_of(layout, "none")}


def _with_summaries(runs: Mapping[str, Run], layout: Layout, halves: Sequence[int]) -> list[Run]:
    """Where all columns of x lie: each half's summaries stand behind what else it has."""
    of_x = list(runs.values())
    for sequence, half in zip(layout.sequences[1:], halves, strict=False):
        start = sum(run.width for run in of_x if run.of_user == (half == USER))
        of_x.append(Run(half == USER, start, sequence.width))
    return merged(of_x)


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
        warnings.filterwarnings("ignore", "The TorchScript type system", UserWarning)  # of torch.fx's own class
        return torch.jit.freeze(torch.jit.script(program.eval()))
