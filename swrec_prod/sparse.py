"""The sparse half: TorchRec collections over a layout, and their output as the tensors that models read.

Shapes: B rows, D pooled width, d item width, N behaviours.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from swrec_prod.errors import SchemaError
from swrec_prod.schema import Feature
from swrec_prod.schema.layout import Layout


class Embedded(NamedTuple):
    """What the tables give for a batch. Without behaviours target is [B, 0] and the history tensors are [B, 0, ...]."""

    pooled_BD: Tensor
    target_Bd: Tensor
    history_BNd: Tensor
    mask_BN: Tensor
    history_scenario_BN: Tensor


class SparseArch(nn.Module):
    """The embedding tables of a layout.

    ebc: an EmbeddingBagCollection over the pooled features (bags are averaged). ec: an EmbeddingCollection with the one
    table of the target item and the behaviours, or None. Rows are drawn from N(0, std^2); row 0 (unknown) too.
    """

    def __init__(self, layout: Layout, *, std: float = 0.01, device: torch.device | str = "cpu") -> None:
        super().__init__()
        if not layout.pooled:
            beside = f" beside {layout.target.name!r}, which the behaviours use" if layout.target else ""
            raise SchemaError(f"a model needs an id or bag feature{beside}; add one to the schema, or to data.features")
        self.layout = layout
        self.ebc = EmbeddingBagCollection(tables=_bag_tables(layout, std), device=torch.device(device))
        self.ec: EmbeddingCollection | None = None
        if layout.target is not None and layout.history is not None:
            table = EmbeddingConfig(
                name=f"t_{layout.target.table}",
                num_embeddings=_rows(layout.target),
                embedding_dim=layout.target.dim,
                feature_names=[layout.target.name],
                init_fn=partial(nn.init.normal_, std=std),
            )
            self.ec = EmbeddingCollection(tables=[table], device=torch.device(device))

    def forward(
        self, ids: KeyedJaggedTensor, sequences: KeyedJaggedTensor | None, history_scenario: Tensor
    ) -> Embedded:
        """ids: the pooled features; sequences: [target, history]; history_scenario: int64, one a behaviour."""
        pooled_BD = in_order(self.ebc(ids), [f.name for f in self.layout.pooled])
        if self.ec is None:
            return no_behaviours(pooled_BD)
        items, at = self._items(sequences.values())  # type: ignore[union-attr]
        looked_up, rows = items.index_select(0, at), pooled_BD.shape[0]
        lengths_B = sequences.lengths()[rows:]  # type: ignore[union-attr]
        return pad(pooled_BD, looked_up[:rows], looked_up[rows:], lengths_B, history_scenario)

    def _items(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of the distinct ids in `values` [n], and where each id's row is [n].

        A batch names few items many times (86,000 behaviours of 3,700 movies): only distinct ones are looked up, sent
        between ranks and updated. torchrec's own de-duplication is for GPUs only.
        """
        name = self.layout.target.name  # type: ignore[union-attr]
        ids, at = distinct(values, _rows(self.layout.target))  # type: ignore[arg-type]
        lengths = torch.tensor([len(ids)], dtype=torch.int32, device=ids.device)
        return self.ec(KeyedJaggedTensor(keys=[name], values=ids, lengths=lengths, stride=1))[name].values(), at  # type: ignore[misc]


def in_order(pooled: KeyedTensor, names: list[str]) -> Tensor:
    """[B, D] with the features in the order of `names`.

    A collection gives its features table by table, and a sharded one rank by rank: without this, a model trained on two
    ranks would read other features than the same weights on one.
    """
    if pooled.keys() == names:
        return pooled.values()
    return KeyedTensor.regroup([pooled], [names])[0]


def no_behaviours(pooled_BD: Tensor) -> Embedded:
    """The output for a model that reads no behaviours."""
    rows = pooled_BD.size(0)
    none = pooled_BD.new_zeros(rows, 0)
    empty = none.to(torch.int64)
    return Embedded(pooled_BD, none, pooled_BD.new_zeros(rows, 0, 0), empty.to(torch.bool), empty)


def distinct(values: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """The distinct ids among `values` [n] < height, rising, and the position of each value's id among them: [n]."""
    if height > 4 * len(values):
        return torch.unique(values, return_inverse=True)
    present = torch.zeros(height, dtype=torch.int64, device=values.device)  # without sorting: linear in n and height
    present[values] = 1
    return present.nonzero().squeeze(1), (present.cumsum(0) - 1).index_select(0, values)


def pad(pooled_BD: Tensor, target_Bd: Tensor, values: Tensor, lengths_B: Tensor, history_scenario: Tensor) -> Embedded:
    """Jagged behaviours as dense tensors. values: [behaviours, d]; lengths_B: [B]; history_scenario: [behaviours]."""
    offsets = torch.ops.fbgemm.asynchronous_complete_cumsum(lengths_B.to(torch.int64))
    longest = max(1, int(lengths_B.max().item()))  # at least one, masked: fbgemm refuses a width of 0
    history_BNd = torch.ops.fbgemm.jagged_to_padded_dense(values, [offsets], [longest], 0.0)
    scenario_BN = torch.ops.fbgemm.jagged_1d_to_dense(history_scenario, offsets, longest, 0)
    mask_BN = torch.arange(longest, device=lengths_B.device).unsqueeze(0) < lengths_B.unsqueeze(1)
    return Embedded(pooled_BD, target_Bd, history_BNd, mask_BN, scenario_BN)


def _bag_tables(layout: Layout, std: float) -> list[EmbeddingBagConfig]:
    """One configuration a table; features that share a table are listed in it."""
    tables: dict[str, list[Feature]] = {}
    for feature in layout.pooled:
        tables.setdefault(feature.table, []).append(feature)
    if layout.target is not None and layout.target.table in tables:
        sharing = tables[layout.target.table][0].name
        raise SchemaError(
            f"feature {sharing!r} shares the table of {layout.target.name!r}, which the behaviours use; give it its own"
        )
    return [
        EmbeddingBagConfig(
            name=f"t_{name}",
            num_embeddings=_rows(features[0]),
            embedding_dim=features[0].dim,
            feature_names=[f.name for f in features],
            pooling=PoolingType.MEAN if any(f.kind == "bag" for f in features) else PoolingType.SUM,
            init_fn=partial(nn.init.normal_, std=std),
        )
        for name, features in tables.items()
    ]


def _rows(feature: Feature) -> int:
    if feature.rows is None:
        raise SchemaError(
            f"feature {feature.name!r}: rows of its table are not known; use the schema.yaml that swrec prepare writes"
        )
    return feature.rows
