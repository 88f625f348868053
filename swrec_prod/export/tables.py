"""The tables of a package: one block of bytes, and look-ups of rows in it.

A table is stored once, whoever looks it up: the user, the candidates and behaviours have look-ups of their own over the
same bytes. They call fbgemm's inference kernel themselves, for every precision, fp32 included: a call is 10 us for 100
rows of 8 features. fbgemm's own module around that kernel owns its bytes and takes four times as long.

Shapes: R rows of a batch, F features, D width of all of them, d width of one.
"""

# Without `from __future__ import annotations`: TorchScript reads the annotations.

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from fbgemm_gpu.split_embedding_configs import SparseType, sparse_type_to_int
from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation, PoolingMode
from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen
from torch import Tensor, nn

from swrec_prod.config import Quantize
from swrec_prod.sparse import SparseArch, table_name

PRECISIONS: dict[Quantize, SparseType] = {
    "none": SparseType.FP32,
    "fp16": SparseType.FP16,
    "int8": SparseType.INT8,
    "int4": SparseType.INT4,
}
KERNEL_TYPES = (SparseType.INT2, SparseType.INT4, SparseType.INT8, SparseType.FP16, SparseType.FP32)


class Table(NamedTuple):
    """Where a table begins among the bytes, and its shape."""

    start: int
    rows: int
    width: int


class Tables(NamedTuple):
    """All tables. bytes: uint8, of every row and, for integers, of its half-precision scale and shift. bags,
    embeddings: those of the SparseArch's EmbeddingBagCollection and of its EmbeddingCollections, by Feature.table.
    """

    bytes: Tensor
    bags: dict[str, Table]
    embeddings: dict[str, Table]
    precision: SparseType


def tables_of(sparse: SparseArch, precision: SparseType) -> Tables:
    """The tables of a SparseArch in `precision`, in the order in which features come."""
    layout = sparse.layout
    bags = {f.table: _weight([sparse.ebc.embedding_bags], f.table) for f in layout.pooled}  # type: ignore[union-attr]
    embeddings = {name: _weight([c.embeddings for c in sparse.collections], name) for name in layout.tables}
    weights = [*bags.values(), *embeddings.values()]
    kernel = IntNBitTableBatchedEmbeddingBagsCodegen(
        [("", *weight.shape, precision, EmbeddingLocation.HOST) for weight in weights],
        device="cpu",
        weight_lists=[_quantized(weight, precision) for weight in weights],
    )
    starts = kernel.weights_physical_offsets
    found = [Table(start, *weight.shape) for start, weight in zip(starts, weights, strict=True)]
    of_bags = dict(zip(bags, found[: len(bags)], strict=True))
    of_embeddings = dict(zip(embeddings, found[len(bags) :], strict=True))
    return Tables(kernel.weights_host, of_bags, of_embeddings, precision)


def _weight(collections: Sequence[Any], name: str) -> Tensor:
    """The rows of a table, which one of the torchrec collections has."""
    key = table_name(name)
    weight: Tensor = next(modules[key].weight for modules in collections if key in modules)
    return weight.detach().cpu()


def _quantized(weight: Tensor, precision: SparseType) -> tuple[Tensor, Tensor | None]:
    """A table's rows as bytes and, for integers, each row's half-precision scale and shift."""
    if precision.is_float():
        return weight.to(precision.as_dtype()).contiguous().view(torch.uint8), None
    fused = torch.ops.fbgemm.FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf(weight.contiguous(), precision.bit_rate())
    return fused[:, :-4], fused[:, -4:]


class Lookup(nn.Module):
    """The rows of F features, whose tables are `own`: averaged [R, D] where `pooling` is MEAN, else one after the
    other [ids, d], of tables of one width.

    The kernel itself refuses an id beyond the next feature's table. Where that does not stand behind this one, as
    features share tables, ids are checked before: encoders never give such an id, so it would be a bug of ours.
    """

    def __init__(self, own: Sequence[Table], precision: SparseType, pooling: PoolingMode) -> None:
        super().__init__()
        starts, widths = [table.start for table in own], [table.width for table in own]
        self.starts = nn.Buffer(torch.tensor(starts))
        self.types = nn.Buffer(torch.full((len(own),), sparse_type_to_int(precision), dtype=torch.uint8))
        self.placements = nn.Buffer(torch.full((len(own),), EmbeddingLocation.HOST.value, dtype=torch.int32))
        self.ends = nn.Buffer(torch.tensor([0, *torch.tensor(widths).cumsum(0).tolist()], dtype=torch.int32))
        self.rows = nn.Buffer(torch.tensor([table.rows for table in own]))
        self.warned = nn.Buffer(torch.zeros(1, dtype=torch.int64))
        self.width = sum(widths)
        self.widest = [max(widths) if kind is precision else 0 for kind in KERNEL_TYPES]
        self.pooling = int(pooling)
        self.rising = starts == sorted(starts)
        self.check = int(BoundsCheckMode.FATAL.value)

    def forward(self, bytes: Tensor, ids: Tensor, offsets: Tensor) -> Tensor:
        """bytes: of all tables. ids: int64, feature by feature; offsets: int64, where each row's ids begin, and where
        the last one's end: F R + 1 of them.
        """
        if not self.rising:
            torch.ops.fbgemm.bounds_check_indices(self.rows, ids, offsets, self.check, self.warned)
        return torch.ops.fbgemm.int_nbit_split_embedding_codegen_lookup_function(
            bytes,
            bytes,  # of unified memory, which a CPU does not have
            self.placements,
            self.starts,
            self.types,
            self.ends,
            self.width,
            self.widest[0],
            self.widest[1],
            self.widest[2],
            self.widest[3],
            self.widest[4],
            ids,
            offsets,
            self.pooling,
            None,
            0,  # of float32
        )
