"""Checkpoints of 1 GB of tables on one rank: how long training stands still, and how long saving and loading take.

The table is sharded as in training, by fbgemm with its row-wise Adagrad; the trainer's side is timed while nothing else
computes, the writing thread's until all is on the disk and checked.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.record import Figure
from swrec_prod.checkpoint_config import CheckpointConfig
from swrec_prod.train.distributed import before_torch, quiet_libraries

if TYPE_CHECKING:
    from torchrec.distributed.model_parallel import DistributedModelParallel

GB = 1e9
DIM = 16
ROWS = 15_600_000  # of DIM float32: 1 GB
WANTED_SHARE = 0.05


def checkpoint_figures(rounds: int, folder: Path) -> list[Figure]:
    """Measured in a process of its own. rounds: saves and loads; medians count. folder: on the disk in question."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.checkpoints", "--rounds", str(rounds)]
    done = subprocess.run([*command, "--folder", str(folder)], text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    seconds = json.loads(done.stdout.strip().splitlines()[-1])
    pause, save, load = (statistics.median(seconds[name]) for name in ("pauses", "saves", "loads"))
    interval = 60 * CheckpointConfig().minutes
    context = {**seconds, "bytes": 4 * DIM * ROWS}
    return [
        Figure("checkpoint_pause_share", pause / interval, "", "s between checkpoints by default", interval,
               f"<= {WANTED_SHARE}", held="value", context=context),
        Figure("checkpoint_save_1gb_s", save, "s", "of which training stands still", pause, context=context),
        Figure("checkpoint_load_1gb_s", load, "s", "save", save, context=context),
    ]  # fmt: skip


def measured(rounds: int, folder: Path) -> tuple[list[float], list[float], list[float]]:
    """Seconds of `rounds` saves: standing still, until whole and on the disk; and of as many loads, checked."""
    from swrec_prod.checkpoint import Saver, restore
    from swrec_prod.train.distributed import process_group

    with process_group(1), tempfile.TemporaryDirectory(dir=folder) as aside:
        model = _sharded()
        saver = Saver(Path(aside), keep=1)
        pauses, saves, loads = [], [], []
        for step in range(1, rounds + 1):
            started = time.perf_counter()
            saver.save(step, model, model.fused_optimizer, {"fit": {"best_step": step}}, [step])
            pauses.append(time.perf_counter() - started)
            saver.wait()
            saves.append(time.perf_counter() - started)
            started = time.perf_counter()
            restore(Path(aside) / f"step-{step:08d}", model, model.fused_optimizer)
            loads.append(time.perf_counter() - started)
        saver.close()
    return pauses, saves, loads


def _sharded() -> DistributedModelParallel:
    """One table of ROWS rows, as train/shard.py places it. (torch is imported once OpenMP is set.)"""
    import torch
    from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
    from torchrec.distributed.model_parallel import DistributedModelParallel
    from torchrec.optim import RowWiseAdagrad
    from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward

    table = EmbeddingBagConfig(name="t", embedding_dim=DIM, num_embeddings=ROWS, feature_names=["f"])
    tables = EmbeddingBagCollection(tables=[table], device=torch.device("cpu"))
    apply_optimizer_in_backward(RowWiseAdagrad, tables.parameters(), {"lr": 0.05})
    return DistributedModelParallel(tables, device=torch.device("cpu"), init_data_parallel=False)


def main() -> None:
    """Print the seconds of every save and load as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure; default: here")
    options = parser.parse_args()
    before_torch()
    quiet_libraries()
    free = shutil.disk_usage(options.folder).free
    if free < 3 * GB:
        parser.error(f"{options.folder}: {free / GB:.1f} GB are free, and 3 are needed")
    pauses, saves, loads = measured(options.rounds, options.folder)
    print(json.dumps({"pauses": pauses, "saves": saves, "loads": loads}))


if __name__ == "__main__":
    main()
