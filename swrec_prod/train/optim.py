"""Optimisers: row-wise Adagrad for tables, inside backward (train/shard.py) or here for replicated ones; Adam for the rest."""

from __future__ import annotations

import torch
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from swrec_prod.config import TrainConfig

ADAGRAD_EPS = 1e-8


def make_optimizer(model: DistributedModelParallel, config: TrainConfig) -> CombinedOptimizer:
    """One optimiser over the sharded model. Its state exists from the start, so that it can be saved and restored."""
    left = dict(in_backward_optimizer_filter(model.named_parameters()))
    tables = {name: parameter for name, parameter in left.items() if name.startswith("sparse.")}
    dense = {name: parameter for name, parameter in left.items() if name not in tables}
    adam = KeyedOptimizerWrapper(dense, lambda params: _adam(params, config))
    _create_state(adam)
    parts = [model.fused_optimizer, ("dense", adam)]
    if tables:
        parts.append(("replicated", KeyedOptimizerWrapper(tables, lambda params: _adagrad(params, config))))
    return CombinedOptimizer(parts)


def _adam(params: list[torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=config.lr_dense, weight_decay=config.weight_decay, fused=True)


def _adagrad(params: list[torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    return RowWiseAdagrad(params, lr=config.lr_sparse, eps=ADAGRAD_EPS)


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
