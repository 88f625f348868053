"""Id dropout: in training, a share of the known ids of a feature becomes 0, so that row 0 learns what unknown values
are like (train.unknown_rate).

Which ids those are is a hash of (seed, epoch, row id) by feature, and of the value's place in a bag: whatever the batch
and the rank, and wherever a run goes on, a row is trained as it would have been.

Shapes: B rows of a batch, V values of a bag in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from swrec_prod.encoding.pack import Column, Ragged
from swrec_prod.encoding.stable_hash import hash_integers

BITS, DRAWS = 16, 4  # bits of a draw, and draws of one hash
LARGEST = 2**BITS - 1


class IdDropout:
    """rates: by feature, in [0, 1), taken to 1 / 65,536. seed: of the run."""

    def __init__(self, rates: Mapping[str, float], seed: int) -> None:
        self.seed = seed
        self._limits = {name: min(round(rate * 2**BITS), LARGEST) for name, rate in sorted(rates.items())}

    def __call__(self, columns: Mapping[str, Column], row_B: np.ndarray, epoch: int) -> dict[str, Column]:
        """The columns of a batch, those of the features anew. row_B: int64 row ids."""
        left = dict(columns)
        for i, (name, limit) in enumerate(self._limits.items()):
            group, place = divmod(i, DRAWS)
            if place == 0:
                hash_B = hash_integers(row_B ^ self._key(epoch, group))
            column = columns[name]
            if isinstance(column, Ragged):
                draw_V = _draw(_of_values(hash_B, column.offsets), place)
                left[name] = column._replace(values=np.where(draw_V < limit, np.int32(0), column.values))
            else:
                left[name] = np.where(_draw(hash_B, place) < limit, np.int32(0), column)
        return left

    def _key(self, epoch: int, group: int) -> np.int64:
        """What the row ids of an epoch are mixed with, for a group of features."""
        state = np.random.SeedSequence([self.seed, epoch, group]).generate_state(1, np.uint64)
        return np.int64(state.view(np.int64)[0])


def _draw(hashes: np.ndarray, place: int) -> np.ndarray:
    """16 bits of each hash; place: which."""
    return (hashes >> np.uint64(BITS * place)).astype(np.uint16)


def _of_values(hash_B: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """uint64 [V]: a hash of each value of a bag, of its row's and its place in the row."""
    lengths = np.diff(offsets)
    place_V = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return hash_integers(np.repeat(hash_B, lengths).view(np.int64) ^ place_V)
