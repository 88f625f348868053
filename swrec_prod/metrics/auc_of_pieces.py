"""Exact AUC of more rows than fit into memory: pieces wait on the disk, and are merged a range of scores at a time.

Shapes: K distinct scores, R ranges.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from swrec_prod.errors import SingleClassError
from swrec_prod.metrics.ranks import RankStatistic
from swrec_prod.metrics.rows import one_class
from swrec_prod.metrics.score_ranges import Masses, cut, range_edges, sample
from swrec_prod.shelf import Shelf

AT_ONCE = 1_000_000  # scores of a range, some hundred bytes each while they are merged


def auc_of_pieces(pieces: Iterable[RankStatistic], at_once: int = AT_ONCE, threads: int | None = None) -> float:
    """AUC of the rows of all pieces, to the bit that of their sum where every row counts once.

    pieces: taken one at a time. at_once: how many scores a thread merges at once; threads: by default one a core, at
    most 4. Memory is for a piece and a range a thread; the folder of temporary files takes 6 bytes a score of float32
    logits, up to 24 of others, twice. Raises SingleClassError when all labels are equal.
    """
    with tempfile.TemporaryDirectory(prefix="swrec-auc-") as folder:
        ranges, masses_R = _by_range(_Spilled(Path(folder), pieces), at_once)
        positives, negatives = (sum(masses) for masses in zip(*masses_R, strict=True))
        if not positives or not negatives:
            raise SingleClassError(one_class(positives, negatives))
        below_R = np.cumsum([masses.negatives for masses in masses_R])
        with ThreadPoolExecutor(threads or min(os.cpu_count() or 1, 4)) as pool:
            wins = pool.map(_wins, ranges, [0.0, *below_R[:-1]])
            return sum(wins) / (positives * negatives)


class _Spilled:
    """Pieces that are on the disk. scores: how many, of all of them; samples: of the scores of each."""

    def __init__(self, folder: Path, pieces: Iterable[RankStatistic]) -> None:
        self.folder, self.scores = folder, 0
        self.shelf: Shelf[RankStatistic] = Shelf(folder / "pieces")
        self.samples = []
        for piece in pieces:
            self.scores += len(piece.score_K)
            self.samples.append(sample(piece))
            self.shelf.put(_narrow(piece))


def _by_range(spilled: _Spilled, at_once: int) -> tuple[list[Shelf[RankStatistic]], list[Masses]]:
    """The pieces cut by score, and what the rows of each range weigh."""
    edges = range_edges(spilled.samples or [np.zeros(0)], max(1, -(-spilled.scores // at_once)))
    ranges = [Shelf[RankStatistic](spilled.folder / f"range-{r}") for r in range(len(edges) + 1)]
    masses = np.zeros((len(ranges), 2))
    for piece in spilled.shelf:
        for r, part in enumerate(cut(piece, edges)):
            ranges[r].put(part)
            masses[r] += Masses.of(part)
    spilled.shelf.clear()
    return ranges, [Masses(*of) for of in masses.tolist()]


def _wins(shelf: Shelf[RankStatistic], below: float) -> float:
    """The mass of pairs in order, ties half, of a positive row in a range and any negative row.

    below: the mass of negative rows with lower scores.
    """
    scores = RankStatistic.merged([_wide(piece) for piece in shelf])
    shelf.clear()
    before_K = np.cumsum(scores.negatives_K) - scores.negatives_K
    return float(np.dot(scores.positives_K, below + before_K + 0.5 * scores.negatives_K))


def _narrow(piece: RankStatistic) -> RankStatistic:
    """The same numbers in as few bytes as hold them."""
    scores = piece.score_K.astype(np.float32)
    counts = (_narrow_counts(masses) for masses in (piece.positives_K, piece.negatives_K))
    return RankStatistic(scores if np.array_equal(scores, piece.score_K) else piece.score_K, *counts)


def _narrow_counts(masses_K: np.ndarray) -> np.ndarray:
    whole = np.issubdtype(masses_K.dtype, np.integer)
    return masses_K.astype(np.min_scalar_type(masses_K.max(initial=0))) if whole else masses_K


def _wide(piece: RankStatistic) -> RankStatistic:
    """Whole counts as int64, so that their sums are exact."""
    masses = (piece.positives_K, piece.negatives_K)
    return RankStatistic(piece.score_K, *(m.astype(np.int64 if m.dtype.kind == "u" else m.dtype) for m in masses))
