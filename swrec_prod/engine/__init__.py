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
    from swrec_prod.engine.cluster import ClusterEngine

    return ClusterEngine(scratch, threads)


ENGINES: dict[str, Callable[[Path, int], Engine]] = {"local": _local, "cluster": _cluster}


@contextmanager
def engine(name: str, scratch: Path, threads: int = 2) -> Iterator[Engine]:
    """The engine called `name` for as long as the block runs. scratch: an existing folder for what does not fit into memory.

    threads: of the local engine, and of a Spark session that is started here. Raises ConfigError for an unknown name.
    """
    if name not in ENGINES:
        raise ConfigError(f"engine {name!r} is unknown; {nearest(name, ENGINES)}")
    running = ENGINES[name](scratch, threads)
    try:
        yield running
    finally:
        running.close()
