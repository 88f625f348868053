"""Epochs of training with checkpoints in between, by one process or under torchrun: what the tests of ranks compare.

Under torchrun: `ranks.py JOBS.json`, a list of {"config", "begin" (a checkpoint or null), "epochs", "out"}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torchrec.distributed.model_parallel import DistributedModelParallel

from swrec_prod.checkpoint import read_state, restore
from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.ranker import resolve_run
from swrec_prod.train.distributed import Ranks, before_torch, process_group
from swrec_prod.train.loop import Fit, FitState, judge
from swrec_prod.train.resume import Beginning
from swrec_prod.train.run import make_fit, make_reader
from swrec_prod.train.saving import save


def train_epochs(config: RunConfig, ranks: Ranks, out: Path, begin: Path | None = None, epochs: int = 1) -> None:
    """Train from `begin`, or from nothing, and leave a checkpoint after every epoch;
    at the end what this rank holds, in rank-R.pt.
    """
    catalog = Catalog.open(config.data.path)
    state = FitState(**read_state(begin, catalog)["fit"]) if begin else FitState()
    fit = fit_of(catalog, config, ranks, state)
    if begin:
        restore(begin, fit.model, fit.optimizer)
    for _ in range(epochs):
        for _ in fit.epoch(state, 1, lambda *_: None):
            judge(state, fit.validate(), float("nan"))
            save(out, fit, state, catalog.fingerprint)
    torch.save(held(fit.model), out / f"rank-{ranks.rank}.pt")


def held(model: DistributedModelParallel) -> dict[str, dict[str, Any]]:
    """tables: the size of each placed table and of this rank's parts of it. buffers: those of the dense model."""
    placed = {name: value for name, value in model.state_dict().items() if hasattr(value, "local_shards")}
    tables = {
        name: (list(value.size()), [list(p.tensor.shape) for p in value.local_shards()])
        for name, value in placed.items()
    }
    return {
        "tables": tables,
        "buffers": {name: value for name, value in model.named_buffers() if not name.startswith("sparse.")},
    }


def fit_of(catalog: Catalog, config: RunConfig, ranks: Ranks, state: FitState) -> Fit:
    run = resolve_run(catalog.schema, config)
    start = Beginning(config.train.batch_size * ranks.world_size, state=state)
    readers = {part: make_reader(catalog, run, part, ranks, start) for part in ("train", "valid")}
    return make_fit(catalog, run, readers, ranks)


def tensors_of(config: RunConfig, path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, weights and optimiser state, as one rank restores it."""
    catalog = Catalog.open(config.data.path)
    with process_group(1) as ranks:
        fit = fit_of(catalog, config, ranks, FitState())
        restore(path, fit.model, fit.optimizer)
        return dict(flat("", {"model": fit.model.state_dict(), "optimizer": fit.optimizer.state_dict()["state"]}))


def flat(name: str, value: Any) -> list[tuple[str, torch.Tensor]]:
    """The tensors in nested dictionaries, by their path; of a sharded tensor the one shard that one rank has."""
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in flat(f"{name}/{key}", inner)]
    if hasattr(value, "local_shards"):
        return [(f"{name}/{i}", shard.tensor.clone()) for i, shard in enumerate(value.local_shards())]
    return [(name, value.detach().clone())] if isinstance(value, torch.Tensor) else []


if __name__ == "__main__":
    before_torch()
    with process_group(1) as group:  # one for all jobs: torchrun's store cannot be joined twice
        for job in json.loads(Path(sys.argv[1]).read_text()):
            start = Path(job["begin"]) if job["begin"] else None
            train_epochs(RunConfig.model_validate(job["config"]), group, Path(job["out"]), start, job["epochs"])
