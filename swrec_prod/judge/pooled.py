"""The figures of the rows of several days together, though memory holds a day at a time.

Every figure but the intervals' errors is exact: scores wait on the disk and are added up by range (shares/).
An error needs the rank of each row among all of them, for which FINEST ranges of equally many rows are enough: a
component is off by less than one in FINEST.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from swrec_prod.judge.day import read_day, read_piece, read_scores
from swrec_prod.judge.figures import AucIntervals, Part, figures_of, statistics_of
from swrec_prod.judge.record import Figures
from swrec_prod.judge.unknown_shares import Unknown
from swrec_prod.metrics.ranks import RankStatistic
from swrec_prod.peers import ALONE
from swrec_prod.shares.all_pieces import AllPieces

FINEST = 1 << 16
AT_ONCE = 500_000  # rows whose scores are added up at once


def pooled(folders: Sequence[Path], unknown: Unknown) -> tuple[Figures, ...]:
    """Of judged days, each in its folder. A user is a group of GAUC on each day, and one cluster of the intervals."""
    rows = sum(read_day(folder).figures[0].rows for folder in folders)
    statistics: dict[Part, RankStatistic] = {}
    with tempfile.TemporaryDirectory(prefix="swrec-pooled-") as folder:
        pieces = AllPieces(ALONE, max(1, -(-rows // AT_ONCE)), Path(folder))
        for day in folders:
            piece = read_piece(day)
            pieces.add(piece)
            for part, scores in statistics_of(piece).items():
                before = [statistics[part]] if part in statistics else []
                statistics[part] = thinned(RankStatistic.merged([*before, scores]))
        whole = pieces.whole()
    assert whole is not None, "a backfill has a day"
    intervals = AucIntervals(statistics)
    for day in folders:
        intervals.add(read_scores(day))
    return tuple(figures_of(whole, intervals.found(), unknown))


def thinned(statistic: RankStatistic, most: int = FINEST) -> RankStatistic:
    """The same rows with at most `most` distinct scores: neighbours become the highest of them."""
    rows_K = statistic.positives_K + statistic.negatives_K
    if len(rows_K) <= most:
        return statistic
    below_K = np.cumsum(rows_K)
    ends = np.searchsorted(below_K, below_K[-1] * np.arange(1, most + 1) / most)
    ends = np.unique(np.append(np.minimum(ends, len(rows_K) - 1), len(rows_K) - 1))
    starts = np.append(0, ends[:-1] + 1)
    positives, negatives = (np.add.reduceat(of, starts) for of in (statistic.positives_K, statistic.negatives_K))
    return RankStatistic(statistic.score_K[ends], positives, negatives)
