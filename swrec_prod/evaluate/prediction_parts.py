"""Predictions are written piece by piece, by all ranks at once, so that nobody holds all rows.

    predictions.parquet                       a file, where one process writes
    predictions.parquet/part-00000.parquet    a folder with a part of every rank, where several do

`read_predictions` takes either.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.files import commit, replaced
from swrec_prod.peers import ALONE, Peers

Write = Callable[[pa.Table], None]


@contextmanager
def written(path: Path, peers: Peers = ALONE) -> Iterator[Write]:
    """`write` adds rows to the predictions at `path`, which are there once the block has ended well, on every rank.

    Every rank enters the block, and all of them see `path` on the same disk. A rank that writes nothing has no part.
    A killed write leaves the old predictions or none.
    """
    if peers.world_size > 1:
        with _folder(path, peers) as folder, _file(folder / part_name(peers.rank)) as write:
            yield write
    else:
        with replaced(path) as aside:
            with _file(aside) as write:
                yield write
            if path.is_dir():
                shutil.rmtree(path)


def part_name(number: int) -> str:
    """The file of a rank.

    >>> part_name(3)
    'part-00003.parquet'
    """
    return f"part-{number:05d}.parquet"


def part_files(path: Path) -> list[Path]:
    """The files that predictions at `path` are made of: itself, or the parts of a folder."""
    return sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]


@contextmanager
def _folder(path: Path, peers: Peers) -> Iterator[Path]:
    """An empty folder beside `path` for the parts of all ranks, which becomes `path`."""
    aside = path.with_name(f".{path.name}.aside")
    if peers.rank == 0:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    peers.to_all(None)
    yield aside
    peers.to_all(None)
    if peers.rank == 0:
        if path.is_file():
            path.unlink()
        commit(aside, path)
    peers.to_all(None)


@contextmanager
def _file(path: Path) -> Iterator[Write]:
    """A Parquet file that begins with the first rows."""
    writer: pq.ParquetWriter | None = None

    def write(table: pa.Table) -> None:
        nonlocal writer
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
