"""Errors of AUCs whose rows lie in several days and belong to users: components summed by user, a day at a time.

A row's component says how much it moves an AUC (DeLong et al., Biometrics 1988; metrics/ranks.py). Rows of one user are
not independent, on one day or on several, so their components are summed first (Obuchowski, Biometrics 1997): with all
rows in one day, that is the variance of statistics/paired.py, and its intervals by Student's t. What is held in memory
is a few numbers a user.

Shapes: N rows, K distinct scores, U users.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from swrec_prod.metrics.ranks import RankStatistic, auc_variance
from swrec_prod.statistics.paired import as_many_alike
from swrec_prod.statistics.seeds import rows_freedom
from swrec_prod.statistics.spread import Spread

SUMS = ("positive", "negative", "positives", "negatives")


def summed_by_user(
    before: pa.Table | None, users: pa.Array | pa.ChunkedArray, columns: Mapping[str, np.ndarray]
) -> pa.Table:
    """One line a user: sums of these rows, and of those that `before` has by user, None for none."""
    table = pa.table({"user": users, **{name: pa.array(values) for name, values in columns.items()}})
    table = table if before is None else pa.concat_tables([before, table])
    summed = table.group_by("user", use_threads=False).aggregate([(name, "sum") for name in columns])
    return summed.rename_columns({f"{name}_sum": name for name in columns})


class RowComponents(NamedTuple):
    """An AUC and the components of the rows of either label; those of the other label are 0. [N] each."""

    auc: float
    positive_N: np.ndarray
    negative_N: np.ndarray

    @classmethod
    def of(
        cls, statistic: RankStatistic, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
    ) -> RowComponents:
        """Of rows that are among those of the statistic. Raises SingleClassError when all its labels are equal."""
        auc, positive_K, negative_K = statistic.components()
        at_N = np.searchsorted(statistic.score_K, scores)
        mass_N = np.ones(len(labels)) if weights is None else weights
        return cls(auc, labels * mass_N * positive_K[at_N], (1 - labels) * mass_N * negative_K[at_N])

    def __sub__(self, other: RowComponents) -> RowComponents:
        """Of the difference of two AUCs on the same rows."""
        positive_N, negative_N = self.positive_N - other.positive_N, self.negative_N - other.negative_N
        return RowComponents(self.auc - other.auc, positive_N, negative_N)


class UserSums:
    """Components of one AUC, or of a weighted sum of AUCs of several days, summed by user."""

    def __init__(self) -> None:
        self._table: pa.Table | None = None

    def add(self, users: pa.ChunkedArray, labels: np.ndarray, rows: RowComponents, factor: float = 1.0) -> None:
        """Rows more. users: [N] ids of any type, the same in all calls; factor: of this day's AUC in the sum."""
        columns = (factor * rows.positive_N, factor * rows.negative_N, labels, 1.0 - labels)
        self._table = summed_by_user(self._table, users, dict(zip(SUMS, columns, strict=True)))

    @property
    def users(self) -> int:
        """How many there are."""
        return 0 if self._table is None else len(self._table)

    def spread(self, scale: float = 1.0) -> Spread | None:
        """Of the sum, divided by `scale`; None with fewer than two users of either label."""
        if self._table is None:
            return None
        positive_U, negative_U, positives_U, negatives_U = (self._table[name].to_numpy() for name in SUMS)
        if min(np.count_nonzero(positives_U), np.count_nonzero(negatives_U)) < 2:
            return None
        products = [positive_U @ positive_U, negative_U @ negative_U, 2 * (positive_U @ negative_U)]
        sizes = (positives_U, negatives_U, positives_U + negatives_U)
        variance = auc_variance(products, [as_many_alike(size_U) for size_U in sizes])
        return Spread(float(np.sqrt(max(variance, 0.0))) / scale, rows_freedom(positive_U + negative_U))
