"""The sparse half: TorchRec collections over a layout, and their output as the tensors that models read.

Shapes: B rows, D width of all looked-up features, d width of a behaviour, N behaviours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from swrec_prod.assembly import Assembly
from swrec_prod.data.batch import Batch
from swrec_prod.errors import SchemaError
from swrec_prod.first_rows import FirstRows
from swrec_prod.layers.inputs import Behaviours
from swrec_prod.schema import Feature
from swrec_prod.schema.layout import Layout

Begin = Mapping[str, Callable[[Tensor], None]]  # by table, what fills it


class Embedded(NamedTuple):
    """What the tables give. embedded_BD: [pooled ; looked up]; behaviours: of each sequence, the history first."""

    embedded_BD: Tensor
    behaviours: list[Behaviours]


class SparseArch(nn.Module):
    """The embedding tables of a layout.

    ebc: an EmbeddingBagCollection over the pooled features (bags are averaged), None where there are none. ec: an
    EmbeddingCollection with the tables of the looked-up features and the behaviours that are as wide as the first of
    them, or None; a collection has tables of one width, so that others have collections of theirs in further_ecs. Rows
    are drawn from N(0, std^2) by first_rows.py; row 0 (unknown) too. device: on `meta` the tables take no memory, and
    whoever shards them fills the parts with `first_rows`, which has those of each table.
    """

    def __init__(self, layout: Layout, *, std: float = 0.01, seed: int = 0, device: torch.device | str = "cpu") -> None:
        super().__init__()
        if not layout.pooled and not layout.looked_up:
            raise SchemaError("a model needs an id or bag feature; add one to the schema, or to data.features")
        self.layout = layout
        self.assembly = Assembly(layout)
        on = torch.device(device)
        self.first_rows = first_rows(layout, seed, std)
        begin: Begin = self.first_rows
        if on.type == "meta":
            begin = dict.fromkeys(self.first_rows, _leave)
        bags, tables = _bag_tables(layout, begin), _tables(layout, begin)
        self.ebc = EmbeddingBagCollection(tables=bags, device=on) if bags else None
        of_widths = {width: EmbeddingCollection(tables=configs, device=on) for width, configs in tables.items()}
        first = next(iter(of_widths), None)
        self.ec = None if first is None else of_widths.pop(first)
        self.further_ecs = nn.ModuleDict({str(width): collection for width, collection in of_widths.items()})
        self._names = [[name for name, f in layout.tables.items() if f.dim == width] for width in tables]
        self._runs = runs_of_tables(layout)

    def forward(self, batch: Batch) -> Embedded:
        """The batch's ids as embeddings."""
        if self.ebc is None:
            pooled_BD = batch.dense_BF.new_zeros(len(batch), 0)
        else:
            pooled_BD = in_order(self.ebc(batch.ids), [f.name for f in self.layout.pooled])
        if self.ec is None:
            return Embedded(pooled_BD, [])
        sizes = self.assembly.sizes(batch.sequence_lengths, batch.bag_lengths)
        return Embedded(
            *self.assembly(
                pooled_BD,
                self._rows(batch.sequence_values, sizes),
                batch.sequence_lengths,
                batch.behaviour_scenario,
                batch.bag_lengths,
                batch.behaviour_numbers,
                batch.weights,
            )
        )

    @property
    def collections(self) -> list[EmbeddingCollection]:
        """The EmbeddingCollections, one for each width."""
        return [] if self.ec is None else [self.ec, *self.further_ecs.values()]

    def _rows(self, values: Tensor, sizes: list[int]) -> list[Tensor]:
        """The rows of tables for the runs of `values` (Assembly.sizes).

        A batch names few items many times (86,000 behaviours of 3,700 movies): only distinct ones are looked up, sent
        between ranks and updated. torchrec's own de-duplication is for GPUs only.
        """
        runs, rows = values.split(sizes), [values] * len(sizes)
        for names, collection in zip(self._names, self.collections, strict=True):
            found = [self._distinct(values if len(self._runs) == 1 else None, runs, name) for name in names]
            looked_up = collection(_keyed([table_name(name) for name in names], [ids for ids, _ in found]))
            for name, (_, at) in zip(names, found, strict=True):
                own = self._runs[name]
                of_table = looked_up[table_name(name)].values().index_select(0, at)
                for run, part in zip(own, of_table.split([sizes[i] for i in own]), strict=True):
                    rows[run] = part
        return rows

    def _distinct(self, values: Tensor | None, runs: tuple[Tensor, ...], name: str) -> tuple[Tensor, Tensor]:
        """The distinct ids of one table, see `distinct`. values: all runs together, where all are its."""
        mine = torch.cat([runs[i] for i in self._runs[name]]) if values is None else values
        return distinct(mine, _height(self.layout.tables[name]))


def _keyed(keys: list[str], ids: list[Tensor]) -> KeyedJaggedTensor:
    """The ids of each table, as one row."""
    lengths = torch.tensor([len(of_table) for of_table in ids], dtype=torch.int32, device=ids[0].device)
    return KeyedJaggedTensor(keys=keys, values=torch.cat(ids), lengths=lengths, stride=1)


def runs_of_tables(layout: Layout) -> dict[str, list[int]]:
    """For each table of the EmbeddingCollection the runs of sequence_values (Assembly.sizes) that are ids of it."""
    parts = [part for sequence in layout.sequences for part in sequence.parts if part.kind != "dense"]
    runs: dict[str, list[int]] = {name: [] for name in layout.tables}
    for i, feature in enumerate([*layout.looked_up, *parts]):
        runs[feature.table].append(i)
    return runs


def in_order(pooled: KeyedTensor, names: list[str]) -> Tensor:
    """[B, D] with the features in the order of `names`.

    A collection gives its features table by table, and a sharded one rank by rank: without this, a model trained on two
    ranks would read other features than the same weights on one.
    """
    if pooled.keys() == names:
        return pooled.values()
    return KeyedTensor.regroup([pooled], [names])[0]


def distinct(values: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """The distinct ids among `values` [n] < height, rising, and the position of each value's id among them: [n]."""
    if height > 4 * len(values):
        return torch.unique(values, return_inverse=True)
    present = torch.zeros(height, dtype=torch.int64, device=values.device)  # without sorting: linear in n and height
    present[values] = 1
    return present.nonzero().squeeze(1), (present.cumsum(0) - 1).index_select(0, values)


def table_name(name: str) -> str:
    """The name of a table as a module: dots, which fields of behaviours have, would end it."""
    return f"t_{name.replace('.', '__')}"


def first_rows(layout: Layout, seed: int, std: float) -> dict[str, FirstRows]:
    """The rows that each table begins with, by its name as a module."""
    widths = {**{f.table: f.dim for f in layout.pooled}, **{name: f.dim for name, f in layout.tables.items()}}
    return {table_name(name): FirstRows(name, width, seed, std) for name, width in widths.items()}


def _leave(weight: Tensor) -> None:
    """torchrec draws every part of a table, wherever in it the part is: whoever shards fills it with the right rows."""


def _bag_tables(layout: Layout, begin: Begin) -> list[EmbeddingBagConfig]:
    """One configuration a table; features that share a table are listed in it."""
    tables: dict[str, list[Feature]] = {}
    for feature in layout.pooled:
        tables.setdefault(feature.table, []).append(feature)
    return [
        EmbeddingBagConfig(
            name=table_name(name),
            num_embeddings=_height(features[0]),
            embedding_dim=features[0].dim,
            feature_names=[f.name for f in features],
            pooling=PoolingType.MEAN if any(f.kind == "bag" for f in features) else PoolingType.SUM,
            init_fn=begin[table_name(name)],
        )
        for name, features in tables.items()
    ]


def _tables(layout: Layout, begin: Begin) -> dict[int, list[EmbeddingConfig]]:
    """The tables of the looked-up features and the behaviours under their own names, by width."""
    tables: dict[int, list[EmbeddingConfig]] = {}
    for name, feature in layout.tables.items():
        config = EmbeddingConfig(
            name=table_name(name),
            num_embeddings=_height(feature),
            embedding_dim=feature.dim,
            feature_names=[table_name(name)],
            init_fn=begin[table_name(name)],
        )
        tables.setdefault(feature.dim, []).append(config)
    return tables


def _height(feature: Feature) -> int:
    if feature.rows is None:
        raise SchemaError(
            f"feature {feature.name!r}: rows of its table are not known; use the schema.yaml that swrec prepare writes"
        )
    return feature.rows
