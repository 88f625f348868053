"""TorchX components: `torchx run -s SCHEDULER swrec.COMPONENT ...`; the docstrings are the command line's help.

TorchX finds them by the package's entry point, and in a checkout also by path: `launch/components.py:COMPONENT`.

Annotations are evaluated here (no `from __future__ import annotations`): TorchX decodes arguments by them.
"""

import torchx.components.dist as dist
import torchx.specs as specs


def train(
    *overrides: str,
    run: str,
    out: str,
    nnodes: int = 1,
    nproc: int = 1,
    image: str = "",
    cpu: int = 2,
    gpu: int = 0,
    mem_mb: int = 8192,
    retries: int = 0,
) -> specs.AppDef:
    """Train a run file on nnodes hosts of nproc ranks each; a run that was cut off in `out` goes on.

    Example: torchx run -s local_cwd swrec.train --run movielens_mscan --out build/runs/mscan --nproc 2

    Args:
        overrides: key=value, for example train.epochs=1
        run: run file, or its name
        out: RUN_DIR to write
        nnodes: hosts
        nproc: ranks a host
        image: container image, or folder, where the scheduler needs one
        cpu: cores a host
        gpu: GPUs a host
        mem_mb: memory a host, MB
        retries: restarts after a failure; each goes on from the last checkpoint
    """
    return dist.ddp(
        *("train", run, *overrides, "--out", out),
        m="swrec_prod.cli",
        name="swrec-train",
        image=image,
        j=f"{nnodes}x{nproc}",
        cpu=cpu,
        gpu=gpu,
        memMB=mem_mb,
        max_retries=retries,
        env={"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(max(1, cpu // nproc))},
    )


def backfill(
    *words: str,
    replicas: int = 2,
    image: str = "",
    cpu: int = 2,
    gpu: int = 0,
    mem_mb: int = 8192,
    retries: int = 0,
) -> specs.AppDef:
    """Judge past days on several machines that see one folder, each its share of them; goes on where it was cut off.

    Example: torchx run -s local_cwd swrec.backfill -- build/runs/mscan --days 2000-12-01.. --out build/days

    Args:
        words: what swrec backfill takes: models and options, but for --share
        replicas: machines, or processes of local_cwd
        image: container image, or folder, where the scheduler needs one
        cpu: cores of each
        gpu: GPUs of each
        mem_mb: memory of each, MB
        retries: restarts after a failure; each goes on
    """
    share = ("--share", f"{specs.macros.replica_id}/{replicas}")
    role = specs.Role(
        name="days",
        image=image,
        entrypoint="python",
        args=["-m", "swrec_prod.cli", "backfill", *words, *share],
        num_replicas=replicas,
        max_retries=retries,
        resource=specs.resource(cpu=cpu, gpu=gpu, memMB=mem_mb),
        env={"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(cpu)},
    )
    return specs.AppDef(name="swrec-backfill", roles=[role])
