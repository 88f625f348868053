"""Optimisers: row-wise Adagrad lives in the tables' backward (train/shard.py); Adam moves everything else."""

from __future__ import annotations

import torch
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter

from swrec_prod.config import TrainConfig


def make_optimizer(model: DistributedModelParallel, config: TrainConfig) -> CombinedOptimizer:
    """One optimiser over the sharded model. Its state exists from the start, so that it can be saved and restored."""

    def adam(params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(params, lr=config.lr_dense, weight_decay=config.weight_decay, fused=True)

    dense = KeyedOptimizerWrapper(dict(in_backward_optimizer_filter(model.named_parameters())), adam)
    _create_state(dense)
    return CombinedOptimizer([model.fused_optimizer, dense])


def _create_state(dense: KeyedOptimizerWrapper) -> None:
    """Moments and step counts of zero, without moving a parameter (torchrec's init_state takes a real step)."""
    rates = [group["lr"] for group in dense.param_groups]
    for group in dense.param_groups:
        group["lr"] = 0.0
    dense.init_state()
    for group, rate in zip(dense.param_groups, rates, strict=True):
        group["lr"] = rate
    for state in dense.state.values():
        for value in state.values():
            value.zero_()
    dense.zero_grad()
