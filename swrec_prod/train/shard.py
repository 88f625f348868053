"""Sharding: the planner's choice, fused row-wise Adagrad in backward for the tables, data parallelism for the rest."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
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
from swrec_prod.ranker import Ranker
from swrec_prod.sparse import SparseArch
from swrec_prod.train.distributed import Ranks

# Not data_parallel: torchrec would train such tables with the dense optimiser, silently.
SHARDING_TYPES = [ShardingType.TABLE_WISE.value, ShardingType.ROW_WISE.value, ShardingType.COLUMN_WISE.value]


def shard(ranker: Ranker, config: TrainConfig, ranks: Ranks) -> DistributedModelParallel:
    """The ranker over all ranks: tables as the planner places them, dense parts replicated.

    The tables are updated inside backward (row-wise Adagrad, one state a row: Duchi et al. 2011; fbgemm's exact form).
    """
    initial = ranker.state_dict()
    apply_optimizer_in_backward(RowWiseAdagrad, ranker.sparse.parameters(), {"lr": config.lr_sparse})
    topology = Topology(
        world_size=ranks.world_size, local_world_size=ranks.local_world_size, compute_device=ranks.device.type
    )
    planner = EmbeddingShardingPlanner(
        topology=topology, batch_size=config.batch_size, constraints=_constraints(ranker.sparse)
    )
    sharders: list[ModuleSharder[nn.Module]] = [EmbeddingBagCollectionSharder(), EmbeddingCollectionSharder()]
    plan = planner.collective_plan(ranker, sharders, dist.group.WORLD)
    sharded = DistributedModelParallel(
        ranker,
        device=ranks.device,
        plan=plan,
        sharders=sharders,
        init_data_parallel=ranks.world_size > 1,  # alone, DDP would only cost
    )
    _copy_tables(initial, sharded)
    return sharded


@torch.no_grad()
def _copy_tables(initial: dict[str, Tensor], sharded: nn.Module) -> None:
    """The ranker's own rows. torchrec draws new ones on every rank, which depend on how many ranks there are."""
    for name, value in sharded.state_dict().items():
        for part in value.local_shards() if isinstance(value, ShardedTensor) else []:
            rows, columns = (slice(at, at + size) for at, size in zip(part.metadata.shard_offsets, part.metadata.shard_sizes, strict=True))
            part.tensor.copy_(initial[name][rows, columns])


def table_names(sparse: SparseArch) -> list[str]:
    """Names of all tables, as the planner knows them."""
    names = [table.name for table in sparse.ebc.embedding_bag_configs()]
    return names + ([table.name for table in sparse.ec.embedding_configs()] if sparse.ec is not None else [])


def _constraints(sparse: SparseArch) -> dict[str, ParameterConstraints]:
    kernels = [EmbeddingComputeKernel.FUSED.value]
    return {name: ParameterConstraints(sharding_types=SHARDING_TYPES, compute_kernels=kernels) for name in table_names(sparse)}
