"""A training step of the blocks whose state depends on all rows, by one process or two:
`composed_ranks.py FOLDER RANK`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from swrec_prod.blocks.clusters import Clusters
from swrec_prod.blocks.pruning import pruned_share
from swrec_prod.layers.composed import PartitionedNorm
from swrec_prod.layers.inputs import make_route


def step(at: slice) -> dict[str, Tensor]:
    """Buffers and gradients after a step on these of 40 rows; the loss is their mean, as each rank's is.

    "started", centres drawn from the first rank's rows, are the same on all ranks but not those of one process.
    """
    torch.manual_seed(0)
    x_BD, scenario_B, weight_BD = torch.randn(40, 4), torch.arange(40) % 2, torch.randn(40, 4)
    norm, clusters = PartitionedNorm(3, 4), Clusters(4, 3, "stable", 0.9, 0.05, warmup=0)
    clusters.steps.fill_(1)
    clusters(x_BD[at])
    started = Clusters(4, 3, "stable", 0.9, 0.05, warmup=0)
    torch.manual_seed(at.start or 0)  # ranks draw different rows
    started(x_BD[at])
    order = scenario_B[at].argsort(stable=True)
    y_BD = norm(x_BD[at][order], make_route(scenario_B[at][order], 3))
    (y_BD.square() * weight_BD[at][order]).sum(1).mean().backward()
    gradients = {f"gradient {name}": value.grad for name, value in norm.named_parameters()}
    shared = {"share": pruned_share([scenario_B[at].unsqueeze(1).float()]), "started": started.centre}
    return {**gradients, **shared, **dict(norm.named_buffers()), **dict(clusters.named_buffers())}


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(step(slice(20 * rank, 20 * rank + 20)), folder / f"{rank}.pt")
    dist.destroy_process_group()
