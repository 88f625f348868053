"""Sharding: the planner's choice, fused row-wise Adagrad in backward for the tables, data parallelism for the rest."""

from __future__ import annotations

import torch.distributed as dist
from torch import nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.types import ParameterConstraints
from torchrec.distributed.types import ModuleSharder, ShardingType
from torchrec.optim import RowWiseAdagrad
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward

from swrec_prod.config import TrainConfig
from swrec_prod.first_rows import FirstRows
from swrec_prod.ranker import Ranker
from swrec_prod.sparse import SparseArch
from swrec_prod.train.distributed import Ranks
from swrec_prod.train.optim import ADAGRAD_EPS

SHARDED = ParameterConstraints(
    sharding_types=[ShardingType.TABLE_WISE.value, ShardingType.ROW_WISE.value, ShardingType.COLUMN_WISE.value],
    compute_kernels=[EmbeddingComputeKernel.FUSED.value],
)
REPLICATED = ParameterConstraints(
    sharding_types=[ShardingType.DATA_PARALLEL.value], compute_kernels=[EmbeddingComputeKernel.DENSE.value]
)


def shard(ranker: Ranker, config: TrainConfig, ranks: Ranks) -> DistributedModelParallel:
    """The ranker over all ranks: large tables as the planner places them, small tables and dense parts on every rank.

    The ranker's tables are on `meta`: each rank draws its own rows of them, and never has others.
    Placed tables are updated inside backward by fbgemm's exact row-wise Adagrad (one state a row; Duchi et al. 2011).
    Replicated ones get the same rule from train/optim.py; left to torchrec, the dense optimiser would move them.
    """
    first_rows = ranker.sparse.first_rows
    small = replicated_tables(ranker.sparse, config) if ranks.world_size > 1 else set()
    placed = [p for name, p in ranker.sparse.named_parameters() if name.split(".")[-2] not in small]
    if placed:
        apply_optimizer_in_backward(RowWiseAdagrad, placed, {"lr": config.lr_sparse, "eps": ADAGRAD_EPS})
    topology = Topology(
        world_size=ranks.world_size, local_world_size=ranks.local_world_size, compute_device=ranks.device.type
    )
    constraints = {name: REPLICATED if name in small else SHARDED for name in table_names(ranker.sparse)}
    planner = EmbeddingShardingPlanner(topology=topology, batch_size=config.batch_size, constraints=constraints)
    sharders: list[ModuleSharder[nn.Module]] = [EmbeddingBagCollectionSharder(), EmbeddingCollectionSharder()]
    plan = planner.collective_plan(ranker, sharders, dist.group.WORLD)
    sharded = DistributedModelParallel(
        ranker,
        device=ranks.device,
        plan=plan,
        sharders=sharders,
        init_data_parallel=ranks.world_size > 1,  # alone, DDP would only cost
    )
    _draw(sharded, first_rows)
    return sharded


def replicated_tables(sparse: SparseArch, config: TrainConfig) -> set[str]:
    """Tables of at most `replicate_kib`: summing their gradients costs less
    than sending every row's lookup and gradient.

    A table of the behaviours is never one: fbgemm's dense tables pool on a CPU even where they are told not to.
    """
    tables = sparse.ebc.embedding_bag_configs() if sparse.ebc is not None else []
    sizes = {table.name: 4 * table.num_embeddings * table.embedding_dim for table in tables}
    return {name for name, size in sizes.items() if size <= config.replicate_kib * 1024}


def table_names(sparse: SparseArch) -> list[str]:
    """Names of all tables, as the planner knows them."""
    names = [table.name for table in sparse.ebc.embedding_bag_configs()] if sparse.ebc is not None else []
    return names + [table.name for collection in sparse.collections for table in collection.embedding_configs()]


def _draw(sharded: nn.Module, first_rows: dict[str, FirstRows]) -> None:
    """Fill this rank's parts of all tables. torchrec has drawn others, which depend on how many ranks there are."""
    for name, value in sharded.state_dict().items():
        if (of_table := first_rows.get(name.split(".")[-2])) is None:
            continue
        if isinstance(value, ShardedTensor):
            for part in value.local_shards():
                of_table.fill(part.tensor, part.metadata.shard_offsets)
        else:
            of_table.fill(value, (0, 0))
