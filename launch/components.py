"""TorchX components: `torchx run -s SCHEDULER swrec.COMPONENT ...`; the docstrings are the command line's help.

TorchX finds them by the package's entry point, and in a checkout also by path: `launch/components.py:COMPONENT`.

Annotations are evaluated here (no `from __future__ import annotations`): TorchX decodes arguments by them.
"""

import random
import shlex

import torchx.components.dist as dist
import torchx.specs as specs

TORCHRUN = "python -m swrec_prod.launch.torchrun"
PORTS = range(20_000, 32_000)  # below those that systems hand out by themselves


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
    env: str = "",
    rdzv_port: int = 0,
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
        retries: restarts after a failure, by torchrun and by the scheduler; each goes on from the last checkpoint
        env: variables for the ranks, as in a shell: "NCCL_DEBUG=INFO NOTE='a, b=c'"
        rdzv_port: port on the first host where several hosts meet; 0: one at random, so that jobs do not share it
    """
    app = dist.ddp(
        *_whole("train", run, *overrides, "--out", out),
        m="swrec_prod.cli",
        name="swrec-train",
        image=image,
        j=f"{nnodes}x{nproc}",
        cpu=cpu,
        gpu=gpu,
        memMB=mem_mb,
        max_retries=retries,
        env={"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(max(1, cpu // nproc)), **_variables(env)},
        rdzv_port=rdzv_port or random.choice(PORTS),
    )
    # our torchrun: it restarts ranks itself, which local schedulers never do, and ends without pages of traceback
    [role] = app.roles
    role.args = ["-c", role.args[1].replace("torchrun ", f"exec {TORCHRUN} --max_restarts {retries} ", 1)]
    return app


def backfill(
    *words: str,
    replicas: int = 2,
    image: str = "",
    cpu: int = 2,
    gpu: int = 0,
    mem_mb: int = 8192,
    retries: int = 0,
    env: str = "",
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
        retries: restarts after a failure, where the scheduler restarts; each goes on
        env: variables, as in a shell: "NOTE='a, b=c' OTHER=1"
    """
    share = ("--share", f"{specs.macros.replica_id}/{replicas}")
    role = specs.Role(
        name="days",
        image=image,
        entrypoint="python",
        args=["-m", "swrec_prod.cli", "backfill", *_whole(*words), *share],
        num_replicas=replicas,
        max_retries=retries,
        resource=specs.resource(cpu=cpu, gpu=gpu, memMB=mem_mb),
        env={"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(cpu), **_variables(env)},
    )
    return specs.AppDef(name="swrec-backfill", roles=[role])


def _whole(*words: str) -> list[str]:
    """Words that TorchX leaves as they are: to it, $ begins a macro."""
    return [word.replace("$", "$$") for word in words]


def _variables(text: str) -> dict[str, str]:
    """Variables as a shell has them; raises ValueError for a word without =.

    >>> _variables("A=1 B='x, y=z'")
    {'A': '1', 'B': 'x, y=z'}
    """
    variables = {}
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise ValueError(f"--env: {word!r} is not NAME=value; quote values that have spaces: \"NAME='a b'\"")
        variables[name] = value
    return variables
