"""The three programs of a package as modules that TorchScript compiles:
tables, dense for mixed rows, dense for one scenario.

Tables run in fbgemm's inference kernel whatever their precision, fp32 included: one call for all pooled features, 30 us
for 100 rows of 9 features. torchrec's own quantised collections wrap the same kernel, but need KeyedJaggedTensors in
the graph, and symbolic tracing to get rid of what TorchScript refuses.

Shapes: B rows, D width of all looked-up features, F numbers, T tasks.
"""

# Without `from __future__ import annotations`: TorchScript reads the annotations.

import warnings

import torch
from fbgemm_gpu.split_embedding_configs import SparseType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation, PoolingMode
from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen
from torch import Tensor, nn
from torchrec.modules.embedding_configs import BaseEmbeddingConfig, PoolingType

from swrec_prod.blocks.debias import FoldedScorer, Scorer
from swrec_prod.config import Quantize
from swrec_prod.layers.input_layer import InputLayer
from swrec_prod.layers.inputs import Behaviours, Route, make_route
from swrec_prod.ranker import Ranker
from swrec_prod.sparse import SparseArch, runs_of_tables, table_name

PRECISIONS: dict[Quantize, SparseType] = {
    "none": SparseType.FP32,
    "fp16": SparseType.FP16,
    "int8": SparseType.INT8,
    "int4": SparseType.INT4,
}


class SparseProgram(nn.Module):
    """The tables of a SparseArch, in `precision`. forward takes the arrays of encoding.pack.Packed, up to dense_BF."""

    runs: list[list[int]]

    def __init__(self, sparse: SparseArch, precision: SparseType) -> None:
        super().__init__()
        self.pooled = _pooled(sparse, precision) if sparse.ebc is not None else None
        self.tables = nn.ModuleList(_tables(sparse, precision))
        self.runs = list(runs_of_tables(sparse.layout).values())
        self.assembly = sparse.assembly

    def forward(self, arrays: list[Tensor]) -> list[Tensor]:
        """The looked-up features [B, D], and the four tensors of layers.inputs.Behaviours for every sequence.

        A plain list: TorchScript makes the class of a named tuple again at every call.
        """
        ids, ids_lengths, values, lengths, scenario, bag_lengths, numbers, weights, dense_BF = arrays
        pooled_BD = dense_BF.new_zeros(dense_BF.shape[0], 0)
        if self.pooled is not None:
            pooled_BD = self.pooled(ids, torch.ops.fbgemm.asynchronous_complete_cumsum(ids_lengths.to(torch.int64)))
        sizes = self.assembly.sizes(lengths, bag_lengths)
        runs = list(values.split(sizes)) if len(sizes) > 0 else [values]
        rows: list[Tensor] = [pooled_BD] * len(runs)
        for t, table in enumerate(self.tables):
            own = self.runs[t]
            mine = values if len(own) == len(runs) else torch.cat([runs[i] for i in own])
            looked_up = table(mine, torch.tensor([0, mine.numel()]))
            for i, part in enumerate(looked_up.split([sizes[run] for run in own])):
                rows[own[i]] = part
        embedded, behaviours = self.assembly(pooled_BD, rows, lengths, scenario, bag_lengths, numbers, weights)
        tensors = [embedded]
        for b in behaviours:
            tensors += [b.target_Bd, b.history_UNd, b.mask_UN, b.scenario_UN]
        return tensors


class DenseProgram(nn.Module):
    """Rows of any scenarios in any order: sorted at entry, put back at exit."""

    def __init__(self, inputs: InputLayer, scorer: Scorer, num_scenarios: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.scorer = scorer
        self.num_scenarios = num_scenarios

    def forward(self, embedded: list[Tensor], dense_BF: Tensor, scenario_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """logit, interest and scenario logit: [B, T] each (blocks.debias.Scores). scenario_B: int64 [B]."""
        order = torch.argsort(scenario_B, stable=True)
        embedded = [tensor[order] for tensor in embedded]
        route = make_route(scenario_B[order], self.num_scenarios)
        scores = self.scorer(self.inputs(embedded[0], behaviours_of(embedded), dense_BF[order], route))
        back = torch.argsort(order)
        return scores.logit_BT[back], scores.interest_BT[back], scores.scenario_BT[back]


class DenseOneProgram(nn.Module):
    """Rows of one scenario, at the cost of a plain network."""

    def __init__(self, inputs: InputLayer, folded: FoldedScorer) -> None:
        super().__init__()
        self.inputs = inputs
        self.folded = folded

    def forward(self, embedded: list[Tensor], dense_BF: Tensor, scenario: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """logit, interest and scenario logit: [B, T] each. scenario: int64 [1], the index."""
        route = Route(scenario, [dense_BF.size(0)], torch.zeros(1, dtype=torch.int32))  # replaced in FoldedScorer
        scores = self.folded(self.inputs(embedded[0], behaviours_of(embedded), dense_BF, route), scenario)
        return scores.logit_BT, scores.interest_BT, scores.scenario_BT


def behaviours_of(embedded: list[Tensor]) -> list[Behaviours]:
    """The behaviours of each sequence, of what sparse.pt gives."""
    behaviours: list[Behaviours] = []
    for i in range(1, len(embedded), 4):
        behaviours.append(Behaviours(embedded[i], embedded[i + 1], embedded[i + 2], embedded[i + 3]))
    return behaviours


def compile_programs(ranker: Ranker, quantize: Quantize) -> dict[str, torch.jit.ScriptModule]:
    """The programs of an unsharded ranker on CPU, by file name. The ranker is not changed."""
    ranker.eval()
    with torch.no_grad():
        sparse = SparseProgram(ranker.sparse, PRECISIONS[quantize])
        one = DenseOneProgram(ranker.inputs, ranker.scorer.fold())
    dense = DenseProgram(ranker.inputs, ranker.scorer, ranker.num_scenarios)
    return {"sparse.pt": _script(sparse), "dense.pt": _frozen(dense), "dense_one.pt": _frozen(one)}


def _pooled(sparse: SparseArch, precision: SparseType) -> nn.Module:
    """The kernel of all pooled features: one call."""
    configs = sparse.ebc.embedding_bag_configs()  # type: ignore[union-attr]
    weights = [sparse.ebc.embedding_bags[c.name].weight for c in configs]  # type: ignore[union-attr]
    names = [f.name for f in sparse.layout.pooled]
    table_of = {feature: i for i, config in enumerate(configs) for feature in config.feature_names}
    assert all(c.pooling is PoolingType.MEAN or _single(sparse, c.feature_names) for c in configs)
    return _kernel(configs, weights, precision, PoolingMode.MEAN, [table_of[name] for name in names])


def _tables(sparse: SparseArch, precision: SparseType) -> list[nn.Module]:
    """A kernel for each table of the looked-up features and the behaviours."""
    tables = {
        config.name: _kernel([config], [collection.embeddings[config.name].weight], precision, PoolingMode.NONE, [0])
        for collection in sparse.collections
        for config in collection.embedding_configs()
    }
    return [tables[table_name(name)] for name in sparse.layout.tables]


def _kernel(
    configs: list[BaseEmbeddingConfig],
    weights: list[Tensor],
    precision: SparseType,
    pooling: PoolingMode,
    table_of_feature: list[int],
) -> nn.Module:
    """fbgemm's inference tables.

    An id out of range is fatal: encoders have checked it, so it would be a bug of ours.
    """
    return IntNBitTableBatchedEmbeddingBagsCodegen(
        embedding_specs=[
            (c.name, c.num_embeddings, c.embedding_dim, precision, EmbeddingLocation.HOST) for c in configs
        ],
        feature_table_map=table_of_feature,
        pooling_mode=pooling,
        device="cpu",
        bounds_check_mode=BoundsCheckMode.FATAL,
        weight_lists=[_quantized(weight.detach().cpu(), precision) for weight in weights],
        output_dtype=SparseType.FP32,
    )


def _quantized(weight: Tensor, precision: SparseType) -> tuple[Tensor, Tensor | None]:
    """A table's rows as bytes and, for integers, each row's half-precision scale and shift."""
    if precision.is_float():
        return weight.to(precision.as_dtype()).contiguous().view(torch.uint8), None
    fused = torch.ops.fbgemm.FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf(weight.contiguous(), precision.bit_rate())
    return fused[:, :-4], fused[:, -4:]


def _single(sparse: SparseArch, names: list[str]) -> bool:
    """Whether all of these features have one value a row, so that their sum is their mean."""
    return all(f.kind == "id" for f in sparse.layout.pooled if f.name in names)


def _script(module: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is the package's format on purpose
        return torch.jit.script(module.eval())


def _frozen(module: nn.Module) -> torch.jit.ScriptModule:
    """Scripted, with weights as constants: new batch sizes then cost no recompilation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.freeze(_script(module))
