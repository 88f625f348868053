"""Id dropout: in training, a share of the known ids of a feature becomes 0, so that row 0 learns what unknown values
are like (train.unknown_rate).

A row loses the ids of a side (user, item, context) together, as a new item is new in its creator and sound, too: if
each went for itself, a model would learn to know the item by the others, which are no better known when it is new. The
values of a bag go one by one.

Which ids those are is a hash of (seed, epoch, row id) by side, and of the value's place in a bag: whatever the batch
and the rank, and wherever a run goes on, a row is trained as it would have been.

Shapes: B rows of a batch, V values of a bag in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from swrec_prod.encoding.pack import Column, Ragged
from swrec_prod.encoding.stable_hash import hash_integers
from swrec_prod.schema import Feature
from swrec_prod.schema.feature import Side

BITS = 16  # of a draw; one hash of 64 has one for each side
LARGEST = 2**BITS - 1
SIDES = get_args(Side)


class IdDropout:
    """rates: by the name of an id or bag feature, in [0, 1), taken to 1 / 65,536. features: the id and bag features of
    the batch. seed: of the run.
    """

    def __init__(self, rates: Mapping[str, float], features: Sequence[Feature], seed: int) -> None:
        self.seed = seed
        self._limits = {
            f.name: (SIDES.index(f.side), min(round(rates[f.name] * 2**BITS), LARGEST))
            for f in features
            if rates.get(f.name)
        }

    def __call__(self, columns: Mapping[str, Column], row_B: np.ndarray, epoch: int) -> dict[str, Column]:
        """The columns of a batch, those of the features anew. row_B: int64 row ids."""
        hash_B = hash_integers(row_B ^ self._key(epoch))
        return {**columns, **{name: self._left(columns[name], hash_B, *rest) for name, rest in self._limits.items()}}

    def _left(self, column: Column, hash_B: np.ndarray, side: int, limit: int) -> Column:
        """The column, with 0 where the draw of a row (of a value) is below the limit."""
        if isinstance(column, Ragged):
            draw_V = _draw(_of_values(hash_B, column.offsets), side)
            return column._replace(values=np.where(draw_V < limit, np.int32(0), column.values))
        return np.where(_draw(hash_B, side) < limit, np.int32(0), column)

    def _key(self, epoch: int) -> np.int64:
        """What the row ids of an epoch are mixed with."""
        state = np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)
        return np.int64(state.view(np.int64)[0])


def _draw(hashes: np.ndarray, side: int) -> np.ndarray:
    """16 bits of each hash."""
    return (hashes >> np.uint64(BITS * side)).astype(np.uint16)


def _of_values(hash_B: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """uint64 [V]: a hash of each value of a bag, of its row's and its place in the row."""
    lengths = np.diff(offsets)
    place_V = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return hash_integers(np.repeat(hash_B, lengths).view(np.int64) ^ (place_V + 1))
