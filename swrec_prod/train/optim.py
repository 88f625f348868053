"""Optimisers: row-wise Adagrad for tables, inside backward (train/shard.py)
or here for replicated ones; Adam for the rest.
"""

from __future__ import annotations

import torch
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter

from swrec_prod.config import TrainConfig

ADAGRAD_EPS = 1e-8


def make_optimizer(model: DistributedModelParallel, config: TrainConfig) -> CombinedOptimizer:
    """One optimiser over the sharded model. Its state exists from the start, so that it can be saved and restored."""
    left = dict(in_backward_optimizer_filter(model.named_parameters()))
    tables = {name: parameter for name, parameter in left.items() if name.startswith("sparse.")}
    dense = {name: parameter for name, parameter in left.items() if name not in tables}
    adam = KeyedOptimizerWrapper(dense, lambda params: _adam(params, config))
    _create_state(adam)
    return CombinedOptimizer([model.fused_optimizer, ReplicatedAdagrad(tables, config.lr_sparse), ("dense", adam)])


def set_rates(optimizer: CombinedOptimizer, config: TrainConfig, factor: float) -> None:
    """Rates of the configuration times `factor`, from the next step on."""
    *of_tables, (_, dense) = optimizer.optimizers
    for groups, rate in [
        *((o.param_groups, config.lr_sparse) for _, o in of_tables),
        (dense.param_groups, config.lr_dense),
    ]:
        for group in groups:
            group["lr"] = rate * factor


class ReplicatedAdagrad(KeyedOptimizer):
    """Row-wise Adagrad for tables that every rank holds, as fbgemm's exact form has it for placed ones.

    Its state has the fused optimiser's names and shapes, so that a checkpoint moves between any numbers of ranks.
    """

    def __init__(self, tables: dict[str, torch.nn.Parameter], lr: float) -> None:
        state = {p: {f"{name.split('.')[-2]}.momentum1": p.new_zeros(p.shape[0])} for name, p in tables.items()}
        super().__init__(tables, state, [{"params": list(tables.values()), "lr": lr}])

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every table by its gradient (the mean of all ranks')."""
        lr = self.param_groups[0]["lr"]
        for table, state in self.state.items():
            (momentum,) = state.values()
            momentum.add_(table.grad.square().mean(1))
            table.sub_(table.grad * (lr / (momentum.sqrt() + ADAGRAD_EPS)).unsqueeze(1))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for table in self.state:
            table.grad = None


def _adam(params: list[torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=config.lr_dense, weight_decay=config.weight_decay, fused=True)


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
