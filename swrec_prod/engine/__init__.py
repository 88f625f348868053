"""Engines: where the relational part of preparing data is evaluated. One Ibis expression, embedded or on a cluster.

    local     DuckDB in this process, spilling to disk: the default, nothing to install
    cluster   PySpark: an existing Spark cluster, or its local mode (needs Java and the package pyspark)

A module that builds expressions takes an Engine and never asks which one it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import ConfigError, nearest


def _local(scratch: Path, threads: int) -> Engine:
    from swrec_prod.engine.local import LocalEngine

    return LocalEngine(scratch, threads)


def _cluster(scratch: Path, threads: int) -> Engine:
    try:
        from swrec_prod.engine.cluster import ClusterEngine
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] not in ("pyspark", "py4j"):
            raise
        message = (
            "engine cluster: pyspark is not installed; "
            "run `make cluster` (it needs Java 17 too), or use the engine local"
        )
        raise ConfigError(message) from None

    return ClusterEngine(scratch, threads)


ENGINES: dict[str, Callable[[Path, int], Engine]] = {"local": _local, "cluster": _cluster}


def check_name(name: str) -> None:
    """Raises ConfigError for an unknown engine, before any work is done for it."""
    if name not in ENGINES:
        raise ConfigError(f"engine {name!r} is unknown; {nearest(name, ENGINES)}")


@contextmanager
def engine(name: str, scratch: Path, threads: int = 2) -> Iterator[Engine]:
    """The engine called `name` for as long as the block runs.

    scratch: an existing folder for what does not fit into memory.

    threads: of the local engine, and of Spark's local mode. Raises ConfigError for an unknown name, or where Spark
    cannot be started.
    """
    check_name(name)
    running = ENGINES[name](scratch, threads)
    try:
        yield running
    finally:
        running.close()
