"""A few steps of training of every model, by one process or under torchrun:
`model_ranks.py FOLDER` writes what each rank has.

All is as in a run (train/shard.py, train/optim.py, train/loop.py) but for four things. Every row has a dropout mask of
its own, which its rank draws, so dropout is off; so is the noise that AESM2's choice adds to every row, and ADL's
clusters begin after the batches in which rows are assigned at random and centres start at drawn rows. And Adam's eps is
large: Adam makes a whole step of a gradient that is zero but for rounding, such as that of a bias before a batch norm.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor

from swrec_prod.blocks.clusters import Clusters
from swrec_prod.config import RunConfig
from swrec_prod.data.batch import Batch, make_batch
from swrec_prod.encoding.pack import Ragged, pack
from swrec_prod.models import MODELS, option_types
from swrec_prod.models.compat import COMPAT
from swrec_prod.ranker import build_ranker, resolve_run
from swrec_prod.schema import Feature, FeatureSchema, Label, Scenario
from swrec_prod.schema.layout import Layout
from swrec_prod.train.distributed import Ranks, before_torch, process_group, seed_masks
from swrec_prod.train.loop import Fit
from swrec_prod.train.optim import make_optimizer
from swrec_prod.train.shard import shard

STEPS, ROWS, HEIGHT = 4, 64, 30
SCENARIOS = ("a", "b", "c", "d", "e")
VOCAB: dict[str, Any] = {"kind": "id", "encoder": "vocab", "rows": HEIGHT, "dim": 8}

SCHEMA = FeatureSchema(
    name="ranks",
    time="time",
    user="user_id",
    scenario=Scenario(values=SCENARIOS),
    labels=(Label(name="click", column="click"), Label(name="buy", column="buy")),
    features=(
        Feature(name="user_id", side="user", **VOCAB),
        Feature(name="item", side="item", **VOCAB),
        Feature(name="tag", side="item", **{**VOCAB, "kind": "bag"}),
        Feature(name="age", kind="dense", side="user", encoder="minmax"),
        Feature(name="history", kind="sequence", side="user", item="item", max_length=6),
    ),
)

NOISELESS: dict[str, dict[str, Any]] = {"aesm2": {"noise_scale": 0.0}}
MORE: dict[str, dict[str, Any]] = {  # what the ranks have to agree on only with these options
    "adasparse, pruning": {"name": "adasparse", "alpha": (50.0, 50.0), "sparsity": 1.0},
    "hamur, adapter norm": {"name": "hamur", "adapter_norm": "scenario"},
    "m3oe, averaged": {"name": "m3oe", "other_experts": "ema_expert"},
    "m3oe, sampled": {"name": "m3oe", "other_experts": "sampled", "samples": 2},
    "shared_bottom, debiased": {"name": "shared_bottom"},
}


def cases() -> dict[str, dict[str, Any]]:
    """Sections `model` of run files: every model by default,
    with all its norms over batches, and in its benchmark form.
    """
    models = {name: {"name": name} for name in MODELS}
    for name, model in MODELS.items():
        norms = {option: "batch" for option, kind in option_types(model).items() if "'batch'" in str(kind)}
        if norms:
            models[f"{name}, batch norms"] = {"name": name, **norms}
    models |= {f"{name}, benchmark": {"name": name, "compat": "benchmark"} for name in COMPAT}
    return {case: {**model, **NOISELESS.get(model["name"], {})} for case, model in (models | MORE).items()}


def train(case: str, ranks: Ranks) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights, buffers and the optimiser's state by path:
    what every rank holds, and what the ranks' parts add up to, losses too.
    """
    config = config_of(case)
    ranker = build_ranker(resolve_run(SCHEMA, config), tables_on="meta")
    for module in ranker.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, Clusters):
            module.steps.fill_(module.warmup + 1)
    layout = ranker.sparse.layout
    fit = fit_of(shard(ranker, config.train, ranks), config, ranks)
    losses = []
    for step in range(STEPS):
        batch = rows_of_step(layout, step, ranks)
        share = fit.share(batch, ROWS)
        losses.append(fit.step(batch, share) * share / ranks.world_size)
    state = flat("", {"model": fit.model.state_dict(), "optimizer": fit.optimizer.state_dict()["state"]})
    held = {name: value.clone() for name, value in state.items() if not isinstance(value, ShardedTensor)}
    parts = {name: part_of(value) for name, value in state.items() if isinstance(value, ShardedTensor)}
    return held, {"losses": torch.stack(losses), **parts}


def flat(name: str, value: Any) -> dict[str, Tensor]:
    """The tensors in nested dictionaries, by their path."""
    if isinstance(value, dict):
        return {path: tensor for key, inner in value.items() for path, tensor in flat(f"{name}/{key}", inner).items()}
    return {name: value} if isinstance(value, Tensor) else {}


def part_of(value: ShardedTensor) -> Tensor:
    """What this rank has of a placed tensor, zeros elsewhere."""
    whole = torch.zeros(value.size())
    for piece in value.local_shards():
        meta = piece.metadata
        whole[tuple(slice(at, at + size) for at, size in zip(meta.shard_offsets, meta.shard_sizes, strict=True))] = (
            piece.tensor
        )
    return whole


def config_of(case: str) -> RunConfig:
    """The table of items and behaviours is spread over the ranks, the others are on both."""
    train = {"lr_sparse": 0.05, "lr_dense": 0.01, "embedding_std": 0.3, "threads": 1}
    sections = {"data": {"path": "none", "split": "random"}, "model": cases()[case], "train": train}
    return RunConfig.model_validate(sections | ({"debias": {}} if "debiased" in case else {}))


def fit_of(model: Any, config: RunConfig, ranks: Ranks) -> Fit:
    """Ready to train, without readers."""
    optimizer = make_optimizer(model, config.train)
    for group in optimizer.param_groups:
        if "betas" in group:
            group["eps"] = 1e-3
    model.train()
    seed_masks(config.train.seed, 0, ranks)
    nowhere: Any = None
    return Fit(model, optimizer, nowhere, nowhere, ranks)


def rows_of_step(layout: Layout, step: int, ranks: Ranks) -> Batch:
    """This rank's rows of a step: the first of two ranks has about two thirds.

    Of the five scenarios one has no row, two have rows on one rank only.
    """
    draw = np.random.default_rng(step)
    absent, first, second = (np.arange(3) + step) % len(SCENARIOS)
    scenario = draw.choice(np.delete(np.arange(len(SCENARIOS)), absent), ROWS)
    owner = (draw.random(ROWS) < 1 / 3).astype(int)
    owner[scenario == first], owner[scenario == second] = 0, 1
    lengths = draw.integers(0, 7, ROWS) * (draw.random(ROWS) < 0.8)
    columns = {
        **{name: draw.integers(0, HEIGHT, ROWS) for name in ("user_id", "item")},
        "tag": ragged(draw.integers(0, HEIGHT, (ROWS, 3)), draw.integers(0, 4, ROWS)),
        "age": draw.random(ROWS, np.float32),
        "history.item": ragged(draw.integers(0, HEIGHT, (ROWS, 6)), lengths),
        "history.scenario": ragged(draw.integers(0, len(SCENARIOS), (ROWS, 6)), lengths),
    }
    labels = draw.integers(0, 2, (ROWS, 2)).astype(np.float32)
    own = np.flatnonzero((owner == ranks.rank) | (ranks.world_size == 1))
    own = own[scenario[own].argsort(kind="stable")]
    packed = pack(layout, {name: column.take(own) for name, column in columns.items()}, scenario[own])
    return make_batch(layout, packed, labels_BT=labels[own], row_B=own)


def ragged(values: np.ndarray, lengths: np.ndarray) -> Ragged:
    """The first so many values of each row."""
    return Ragged(values[np.arange(values.shape[1]) < lengths[:, None]], np.concatenate([[0], lengths.cumsum()]))


if __name__ == "__main__":
    before_torch()
    with process_group(1) as group:
        assert dist.get_world_size() == 2, "the rows are shared by two ranks"
        trained = {case: train(case, group) for case in cases()}
        torch.save(trained, Path(sys.argv[1]) / f"{group.rank}.pt")
