"""What a rank keeps in memory for a table of 20 M x 16 rows, from the build to a saved checkpoint: prints a JSON line.

torchrun --standalone --nproc-per-node 2 -m benchmarks.sharded_memory [--rows 20000000]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from swrec_prod.train.distributed import before_torch

STEPS, BATCH, WIDTH = 10, 4096, 16
MIB = 1 << 20


def main() -> None:
    """Build, train some steps and save; the main rank prints what each rank had at most, against what it owns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    options = parser.parse_args()
    before_torch()
    from swrec_prod.train.distributed import process_group

    with process_group(1) as ranks:
        measured = ranks.to_all(_measure(options.rows, ranks))
        if ranks.is_main:
            print(json.dumps(measured), flush=True)


def _measure(rows: int, ranks: Any) -> dict[str, float]:
    """MiB of this rank: before anything was built, at most by the end of each part, and of its own rows and their
    state.
    """
    from swrec_prod.ranker import build_ranker, resolve_run
    from swrec_prod.train.loop import Fit
    from swrec_prod.train.optim import make_optimizer
    from swrec_prod.train.shard import shard

    config, schema, nowhere = _config(), _schema(rows), None
    run = resolve_run(schema, config)
    measured = {"before": _resident("VmRSS")}
    model = shard(build_ranker(run, tables_on="meta"), config.train, ranks)
    fit = Fit(model, make_optimizer(model, config.train), nowhere, nowhere, ranks)  # type: ignore[arg-type]
    measured["built"] = _resident("VmHWM")
    model.train()
    for step in range(STEPS):
        fit.step(_batch(run.layout, rows, step))
    measured["trained"] = _resident("VmHWM")
    measured["owned"] = _owned(model)
    _save(fit, ranks)
    return {**measured, "saved": _resident("VmHWM")}


def _save(fit: Any, ranks: Any) -> None:
    from swrec_prod import checkpoint
    from swrec_prod.train.distributed import on_main

    with tempfile.TemporaryDirectory() as mine:
        folder = on_main(ranks, lambda: Path(mine))
        checkpoint.save(folder, 1, fit.model, fit.optimizer, {})
        ranks.to_all(None)  # the main rank's folder is there until all have saved


def _owned(model: Any) -> float:
    """MiB of this rank's rows, and of row-wise Adagrad's one number a row."""
    from torch.distributed._shard.sharded_tensor import ShardedTensor

    placed = [value for value in model.state_dict().values() if isinstance(value, ShardedTensor)]
    shards = [part.tensor for value in placed for part in value.local_shards()]
    return sum(part.numel() * 4 + part.shape[0] * 4 for part in shards) / MIB


def _config() -> Any:
    from swrec_prod.config import RunConfig

    sections = {"data": {"path": "none", "split": "random"}, "model": {"name": "shared_bottom"}}
    return RunConfig.model_validate({**sections, "train": {"batch_size": BATCH, "threads": 1}})


def _schema(rows: int) -> Any:
    from swrec_prod.schema import Feature, FeatureSchema, Label, Scenario

    def id_of(name: str, side: Any, rows: int) -> Feature:
        return Feature(name=name, side=side, kind="id", encoder="vocab", rows=rows, dim=WIDTH)

    return FeatureSchema(
        name="large",
        time="time",
        user="user_id",
        scenario=Scenario(values=("a", "b")),
        labels=(Label(name="click", column="click"),),
        features=(id_of("user_id", "user", rows), id_of("item", "item", 10_000)),
    )


def _batch(layout: Any, rows: int, step: int) -> Any:
    import numpy as np

    from swrec_prod.data.batch import make_batch
    from swrec_prod.encoding.pack import pack

    draw = np.random.default_rng(step)
    columns = {"user_id": draw.integers(0, rows, BATCH), "item": draw.integers(0, 10_000, BATCH)}
    packed = pack(layout, columns, np.sort(draw.integers(0, 2, BATCH)))
    labels = draw.integers(0, 2, (BATCH, 1)).astype(np.float32)
    return make_batch(layout, packed, labels_BT=labels, row_B=np.arange(BATCH))


def _resident(key: str) -> float:
    """MiB of this process, now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    main()
