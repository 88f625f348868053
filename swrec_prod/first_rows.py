"""The rows that embedding tables begin with.

A row is a function of the seed, its table and its number alone. So whoever holds a part of a table draws that part: all
sharding plans begin with the same weights, and no rank ever has more than its own.

Rows are drawn in blocks, each by a Philox generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3")
of its own: a part that begins within a block costs at most a block more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

BLOCK = 1024  # rows


@dataclass(frozen=True)
class FirstRows:
    """Rows of one table [rows, width], drawn from N(0, std^2). table: its name, seed: of the run."""

    table: str
    width: int
    seed: int
    std: float

    def __call__(self, weight: Tensor) -> None:
        """Fill a whole table, as torchrec's `init_fn` does."""
        self.fill(weight, (0, 0))

    @torch.no_grad()
    def fill(self, part: Tensor, at: Sequence[int]) -> None:
        """Fill a part [n, d] of the table. at: row and column of the table where the part begins."""
        (first, left), (rows, columns) = at, part.shape
        last = first + rows
        for start in range(first - first % BLOCK, last, BLOCK):
            low, high = max(first, start), min(last, start + BLOCK)
            drawn = self._block(start // BLOCK)[low - start : high - start, left : left + columns]
            part[low - first : high - first].copy_(torch.from_numpy(drawn))

    def _block(self, number: int) -> np.ndarray:
        key = int.from_bytes(blake2b(f"{self.seed}:{self.table}".encode(), digest_size=8).digest(), "little")
        generator = np.random.Generator(np.random.Philox(key=np.array([key, number], np.uint64)))
        return generator.standard_normal((BLOCK, self.width), dtype=np.float32) * np.float32(self.std)
