"""Rows of a log dealt at random to train, valid and test."""

from __future__ import annotations

import numpy as np
import pydantic

from swrec_prod.strict import Strict

SPLITS = ("train", "valid", "test")


class RandomSplit(Strict):
    """Rows are dealt at random to train, valid and test.

    parts: the share of each; positive, and 1 together. seed: of the draw.
    """

    seed: int = 1
    parts: tuple[float, float, float] = (0.8, 0.1, 0.1)

    @pydantic.field_validator("parts")
    @classmethod
    def _is_whole(cls, parts: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(parts) <= 0 or abs(sum(parts) - 1) > 1e-9:
            raise ValueError(f"parts must be positive and sum to 1, not {list(parts)}")
        return parts

    def deal(self, row: np.ndarray) -> np.ndarray:
        """A place in SPLITS for each row number [N], int8 [N]: the same for a row however the rows are ordered."""
        ends = np.round(np.cumsum(self.parts) * len(row)).astype(np.int64)
        dealt = np.searchsorted(ends[:2], np.arange(len(row)), side="right").astype(np.int8)
        by_row = np.empty(len(row), np.int8)
        by_row[np.argsort(row)] = dealt[np.random.default_rng(self.seed).permutation(len(row))]
        return by_row


class Split(Strict):
    """The `split` column of benchmark datasets. Behaviours are training rows then: others would tell their labels.

    random: rows are dealt at random.
    """

    random: RandomSplit = RandomSplit()
