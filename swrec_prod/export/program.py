"""The three programs of a package as modules that TorchScript compiles:
tables, dense for mixed rows, dense for one scenario.

Tables run in fbgemm's inference kernel whatever their precision, fp32 included: one call for all pooled features, 30 us
for 100 rows of 9 features. torchrec's own quantised collections wrap the same kernel, but need KeyedJaggedTensors in
the graph, and symbolic tracing to get rid of what TorchScript refuses.

Shapes: B rows, D pooled width, d item width, F dense features, N behaviours, P pooled features, S scenarios, T tasks.
"""

from __future__ import annotations

import warnings

import torch
from fbgemm_gpu.split_embedding_configs import SparseType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation, PoolingMode
from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen
from torch import Tensor, nn
from torchrec.modules.embedding_configs import BaseEmbeddingConfig, PoolingType

from swrec_prod.blocks.debias import FoldedScorer, Scorer
from swrec_prod.config import Quantize
from swrec_prod.layers.inputs import Inputs, Route
from swrec_prod.ranker import Ranker, model_inputs
from swrec_prod.sparse import Embedded, SparseArch, no_behaviours, pad

PRECISIONS: dict[Quantize, SparseType] = {
    "none": SparseType.FP32,
    "fp16": SparseType.FP16,
    "int8": SparseType.INT8,
    "int4": SparseType.INT4,
}


class SparseProgram(nn.Module):
    """The tables of a SparseArch, in `precision`. forward takes the arrays of encoding.pack.Packed."""

    def __init__(self, sparse: SparseArch, precision: SparseType) -> None:
        super().__init__()
        configs = sparse.ebc.embedding_bag_configs()
        weights = [sparse.ebc.embedding_bags[c.name].weight for c in configs]
        names = [f.name for f in sparse.layout.pooled]
        table_of = {feature: i for i, config in enumerate(configs) for feature in config.feature_names}
        assert all(c.pooling is PoolingType.MEAN or _single(sparse, c.feature_names) for c in configs)
        self.pooled = _kernel(configs, weights, precision, PoolingMode.MEAN, [table_of[name] for name in names])
        self.items: nn.Module | None = None
        if sparse.ec is not None:
            config = sparse.ec.embedding_configs()[0]
            self.items = _kernel([config], [sparse.ec.embeddings[config.name].weight], precision, PoolingMode.NONE, [0])

    def forward(
        self,
        ids_values: Tensor,
        ids_lengths: Tensor,
        sequence_values: Tensor,
        sequence_lengths: Tensor,
        history_scenario: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The fields of sparse.Embedded.

        A plain tuple: TorchScript makes the class of a named one again at every call.
        """
        pooled_BD = self.pooled(ids_values, torch.ops.fbgemm.asynchronous_complete_cumsum(ids_lengths.to(torch.int64)))
        embedded = no_behaviours(pooled_BD)
        if self.items is not None:
            rows = sequence_lengths.numel() // 2
            items = self.items(sequence_values, torch.tensor([0, sequence_values.numel()]))
            embedded = pad(pooled_BD, items[:rows], items[rows:], sequence_lengths[rows:], history_scenario)
        return (
            embedded.pooled_BD,
            embedded.target_Bd,
            embedded.history_BNd,
            embedded.mask_BN,
            embedded.history_scenario_BN,
        )


class DenseProgram(nn.Module):
    """Rows of any scenarios in any order: sorted at entry, put back at exit."""

    def __init__(self, scorer: Scorer, num_scenarios: int) -> None:
        super().__init__()
        self.scorer = scorer
        self.num_scenarios = num_scenarios

    def forward(
        self,
        pooled_BD: Tensor,
        target_Bd: Tensor,
        history_BNd: Tensor,
        mask_BN: Tensor,
        history_scenario_BN: Tensor,
        dense_BF: Tensor,
        scenario_B: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """logit, interest and scenario logit: [B, T] each (blocks.debias.Scores). scenario_B: int64 [B]."""
        order = torch.argsort(scenario_B, stable=True)
        embedded = Embedded(
            pooled_BD[order], target_Bd[order], history_BNd[order], mask_BN[order], history_scenario_BN[order]
        )
        scores = self.scorer(model_inputs(embedded, dense_BF[order], scenario_B[order], self.num_scenarios))
        back = torch.argsort(order)
        return scores.logit_BT[back], scores.interest_BT[back], scores.scenario_BT[back]


class DenseOneProgram(nn.Module):
    """Rows of one scenario, at the cost of a plain network."""

    def __init__(self, folded: FoldedScorer) -> None:
        super().__init__()
        self.folded = folded

    def forward(
        self,
        pooled_BD: Tensor,
        target_Bd: Tensor,
        history_BNd: Tensor,
        mask_BN: Tensor,
        history_scenario_BN: Tensor,
        dense_BF: Tensor,
        scenario: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """logit, interest and scenario logit: [B, T] each. scenario: int64 [1], the index."""
        x_BD = torch.cat([pooled_BD, target_Bd, dense_BF], dim=1)
        route = Route(scenario, [x_BD.size(0)], torch.zeros(1, dtype=torch.int32))  # replaced in FoldedScorer
        scores = self.folded(Inputs(x_BD, route, target_Bd, history_BNd, mask_BN, history_scenario_BN), scenario)
        return scores.logit_BT, scores.interest_BT, scores.scenario_BT


def compile_programs(ranker: Ranker, quantize: Quantize) -> dict[str, torch.jit.ScriptModule]:
    """The programs of an unsharded ranker on CPU, by file name. The ranker is not changed."""
    ranker.eval()
    with torch.no_grad():
        sparse = SparseProgram(ranker.sparse, PRECISIONS[quantize])
        one = DenseOneProgram(ranker.scorer.fold())
    dense = DenseProgram(ranker.scorer, ranker.num_scenarios)
    return {"sparse.pt": _script(sparse), "dense.pt": _frozen(dense), "dense_one.pt": _frozen(one)}


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
