"""Rows that are dealt out, so that all rows of a group come together while nobody holds more than a share of the rows.

Every rank deals its rows to buckets by a hash of the group, and gives each bucket to the rank that is to have it. Where
a share is still too much, there are several turns, and buckets wait on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from swrec_prod.metrics.pieces import piece_of_group
from swrec_prod.peers import Peers
from swrec_prod.shelf import Shelf


class DealtRows:
    """Takes this rank's rows table by table. column: of the groups; rows without a value are in no group.

    turns: into how many tables a rank's share comes. folder: where rows wait; None: in memory.
    """

    def __init__(self, column: str, peers: Peers, turns: int = 1, folder: Path | None = None) -> None:
        self._column, self._peers = column, peers
        buckets = turns * peers.world_size
        self._buckets = [Shelf[pa.Table](folder and folder / f"bucket-{number}") for number in range(buckets)]

    def add(self, table: pa.Table) -> None:
        """Some more rows; all tables have the same columns."""
        if len(self._buckets) == 1:
            self._buckets[0].put(table)
            return
        numbers = bucket_of(table[self._column], len(self._buckets))
        for number, bucket in enumerate(self._buckets):
            bucket.put(table.filter(pa.array(numbers == number)).combine_chunks())

    def shares(self) -> Iterator[pa.Table | None]:
        """The rows that this rank is to have, of all ranks, in one table a turn, whose groups are whole; None for a
        turn without. All ranks go through this together.
        """
        world_size = self._peers.world_size
        for first in range(0, len(self._buckets), world_size):
            parcels = [list(bucket) for bucket in self._buckets[first : first + world_size]]
            tables = [table for parcel in self._peers.exchange(parcels) for table in parcel]
            for bucket in self._buckets[first : first + world_size]:
                bucket.clear()
            yield pa.concat_tables(tables) if sum(map(len, tables)) else None


def bucket_of(column: pa.ChunkedArray, buckets: int) -> np.ndarray:
    """int64 [N]: the bucket of each row, the same on every rank; rows without a value are spread over all buckets."""
    values = column.cast(pa.string()).fill_null("").combine_chunks().dictionary_encode()
    numbers = piece_of_group(np.array(values.dictionary.to_pylist(), np.str_), buckets)[values.indices.to_numpy()]
    return np.where(column.is_null().to_numpy(), np.arange(len(column)) % buckets, numbers)
