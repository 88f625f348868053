"""How a run comes to be: what run_info.json says of the processes that work at it."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

from swrec_prod.data.catalog import Catalog
from swrec_prod.run_dir import DataUsed, RunDir, RunInfo, Session
from swrec_prod.train.distributed import Ranks
from swrec_prod.train.resume import Beginning

LIBRARIES = ("swrec-prod", "torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu", "numpy", "pyarrow")
GIT_SECONDS = 10  # a repository that answers later is left out


@contextmanager
def recorded(run: RunDir, catalog: Catalog, ranks: Ranks, start: Beginning | None = None) -> Iterator[None]:
    """Add this session to run_info.json when it begins, and how long it took when it ends. By the main rank.

    start: where training begins in it; None for a session that only puts runs together.
    """
    if not ranks.is_main:
        yield
        return
    before, session, started = run.info(), _session(ranks, start), time.monotonic()
    data = DataUsed(path=str(catalog.root.resolve()), fingerprint=catalog.fingerprint)
    sessions = before.sessions if before else ()
    run.write_info(RunInfo(data=data, sessions=(*sessions, session)))
    try:
        yield
    finally:
        ended = session.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
        run.write_info(RunInfo(data=data, sessions=(*sessions, ended)))


def _session(ranks: Ranks, start: Beginning | None) -> Session:
    return Session(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=tuple(sys.argv),
        host=platform.node(),
        ranks=ranks.world_size,
        device=ranks.device.type,
        threads=torch.get_num_threads(),
        versions={"python": platform.python_version(), **_versions()},
        git_commit=_git_commit(Path.cwd()),
        rows_a_step=start.rows_a_step if start else None,
        resumed_from=start.path.name if start and start.path else None,
        changed=start.changed if start else (),
    )


def _versions() -> dict[str, str]:
    """Of those libraries that are installed."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git_commit(folder: Path) -> str | None:
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return commit + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *words: str) -> str:
    """What git says; "" where it is not installed, or this is no repository."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
