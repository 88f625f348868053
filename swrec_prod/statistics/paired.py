"""Whether two models differ, or only their test rows and seeds do: AUC with exact paired errors.

The spread of DeLong's components over rows is the variance of an AUC (metrics/ranks.py). A mean over seeds has the mean
components, a difference of models the difference of theirs, so that rows that both models get wrong cancel.

- Rows of one user are not independent: components are summed over a cluster first (Obuchowski, Biometrics 1997). With
  one row a cluster that is DeLong's variance.
- Seeds are a sample too, and add what statistics/seeds.py says.
- A variance of K clusters is too small by the factor (K - 1) / K, and where some clusters are far larger than others, K
  is no measure: it is taken as (sum n)² / sum n², the number of clusters of one size that are as uneven as these.
- Few clusters, or few that weigh most, make the variance itself uncertain: hence Student's t (`rows_freedom`).

`python -m benchmarks.judging coverage` says how often these intervals cover the truth.

Shapes: N rows, R seeds, K clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from swrec_prod.errors import MetricError, SingleClassError
from swrec_prod.metrics.ranks import Interval, RankStatistic, auc_interval_around, auc_variance
from swrec_prod.statistics.seeds import SeedSpread, error_and_freedom, rows_freedom


class Difference(NamedTuple):
    """value: of the first minus the second; error: its standard error; low, high: the interval; p: two-sided."""

    value: float
    error: float
    low: float
    high: float
    p: float


def auc_difference(
    labels: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    clusters: np.ndarray | None = None,
    level: float = 0.95,
    same_seeds: bool = False,
) -> Difference:
    """Mean AUC of a's seeds minus that of b's on the same rows, paired by row; the variance is the module's.

    labels: [N] of {0, 1}, or probabilities: such a row is positive with that weight and negative with the rest; a, b:
    scores [N] or [R, N], finite, any scale, R may differ; clusters: [N] ids of any type, None for independent rows;
    same_seeds: the r-th of a and of b are two scores of one trained model, so that they are paired too.

    Raises SingleClassError when all labels are equal, MetricError when fewer than two clusters have a row of either
    class or the inputs are not that.
    >>> labels = np.array([0, 0, 0, 1, 1])
    >>> round(auc_difference(labels, np.array([1, 2, 3, 3, 4]), np.array([1, 2, 3, 2, 4])).value, 4)
    0.1667
    """
    rows = ClusteredRows.of(labels, clusters)
    if not same_seeds:
        return rows.difference(rows.seeds(a), rows.seeds(b), level)
    (auc_a, parts_a), (auc_b, parts_b) = (_components(rows, scores) for scores in (a, b))
    if len(auc_a) != len(auc_b):
        raise MetricError(f"same seeds need as many scores of both sides, not {len(auc_a)} and {len(auc_b)}")
    return rows.total([SeedAucs.of(auc_a - auc_b, parts_a - parts_b)], level)


def auc_mean(labels: np.ndarray, a: np.ndarray, clusters: np.ndarray | None = None, level: float = 0.95) -> Interval:
    """Mean AUC of a's seeds; its interval covers other rows (or clusters) and other seeds, and stays inside [0, 1].

    labels, a, clusters and the errors raised are those of `auc_difference`.
    """
    rows = ClusteredRows.of(labels, clusters)
    return rows.mean(rows.seeds(a), level)


@dataclass(frozen=True, eq=False)
class SeedAucs:
    """What the AUCs of one model's seeds say on some rows. auc_R: of each seed; mean_2K: their mean components of
    positives and of negatives, summed over clusters; products: sums of products of what seeds' components differ by
    from that, as `auc_variance` takes them.
    """

    auc_R: np.ndarray
    mean_2K: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, auc_R: np.ndarray, components_R2K: np.ndarray) -> SeedAucs:
        """From each seed's AUC and components."""
        mean_2K = components_R2K.mean(0)
        return cls(auc_R, mean_2K, np.sum([_products(part_2K - mean_2K) for part_2K in components_R2K], axis=0))

    def __neg__(self) -> SeedAucs:
        return SeedAucs(-self.auc_R, -self.mean_2K, self.products)

    @property
    def value(self) -> float:
        """The mean over seeds."""
        return float(self.auc_R.mean())


@dataclass(frozen=True, eq=False)
class ClusteredRows:
    """Rows that models are judged by, for figures of several models on the same rows: `seeds` of each, then `mean` and
    `difference` of these. labels_N; cluster_N: codes below K, or None where every row is a cluster; counts: clusters
    with positives, with negatives, and all; alike: as many clusters of one size are as uneven as these.
    """

    labels_N: np.ndarray
    cluster_N: np.ndarray | None
    counts: np.ndarray
    alike: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, clusters: np.ndarray | None = None) -> ClusteredRows:
        """labels, clusters: those of `auc_difference`. Raises SingleClassError when all labels are equal."""
        labels = np.asarray(labels, np.float64)
        if labels.ndim != 1 or not ((labels >= 0) & (labels <= 1)).all():
            raise MetricError(f"labels {labels.shape} must be a column of numbers from 0 to 1")
        if not labels.any() or labels.min() == 1:
            raise SingleClassError(
                f"all {len(labels)} labels are {int(labels.any())}" if len(labels) else "there are no rows"
            )
        code = None
        if clusters is not None:
            if np.shape(clusters) != labels.shape:
                raise MetricError(f"clusters {np.shape(clusters)} must be a column of {len(labels)} ids")
            code = np.unique(clusters, return_inverse=True)[1]
        sizes = [_summed(mass, code) for mass in (labels, 1 - labels, np.ones_like(labels))]
        counts = np.array([np.count_nonzero(size_K) for size_K in sizes])
        return cls(labels, code, counts, np.array([as_many_alike(size_K) for size_K in sizes]))

    @property
    def has_errors(self) -> bool:
        """Whether an AUC has a standard error here: two clusters have a row of either class."""
        return bool(self.counts.min() >= 2)

    def seeds(self, scores: np.ndarray) -> SeedAucs:
        """Of one model. scores: [N] or [R, N]. Raises MetricError when they are not that, or not finite."""
        return SeedAucs.of(*_components(self, scores))

    def mean(self, seeds: SeedAucs, level: float = 0.95) -> Interval:
        """See `auc_mean`. Raises MetricError when fewer than two clusters have a row of either class."""
        error, freedom = self._error([seeds])
        return auc_interval_around(seeds.value, error, float(stdtrit(freedom, 0.5 + level / 2)))

    def difference(self, a: SeedAucs, b: SeedAucs, level: float = 0.95) -> Difference:
        """See `auc_difference`. Raises MetricError when fewer than two clusters have a row of either class."""
        return self.total([a, -b], level)

    def total(self, sides: Sequence[SeedAucs], level: float = 0.95) -> Difference:
        """The sum of AUCs whose seeds are independent, of which one may be negative."""
        value = sum(side.value for side in sides)
        error, freedom = self._error(sides)
        if not error:  # no row tells the models apart, or every row says the same
            return Difference(value, error, value, value, float(value == 0))
        reach = error * float(stdtrit(freedom, 0.5 + level / 2))
        return Difference(value, error, value - reach, value + reach, float(2 * stdtr(freedom, -abs(value) / error)))

    def variances(self, sides: Sequence[SeedAucs]) -> tuple[float, float]:
        """Of the sum of `sides`: what is due to rows, which more clusters lessen, and what is due to seeds."""
        of_rows = auc_variance(_products(_total(sides)), self.alike)
        return of_rows, sum(self._seeds(side).unexplained for side in sides)

    def _error(self, sides: Sequence[SeedAucs]) -> tuple[float, float]:
        """Standard error of the sum of `sides`, and its degrees of freedom."""
        if not self.has_errors:
            what = "rows" if self.cluster_N is None else "clusters with rows"
            raise MetricError(
                f"an AUC interval needs two {what} of each class, "
                f"not {self.counts[0]} positive and {self.counts[1]} negative"
            )
        freedom = rows_freedom(_total(sides).sum(0))
        return error_and_freedom(self.variances(sides)[0], freedom, [self._seeds(side) for side in sides])

    def _seeds(self, side: SeedAucs) -> SeedSpread:
        """What a side's seeds vary by beyond their components."""
        seeds = len(side.auc_R)
        return SeedSpread.of(side.auc_R, auc_variance(side.products, self.alike) / max(seeds - 1, 1) / seeds)


def as_many_alike(size_K: np.ndarray) -> float:
    """As many clusters of one size as are as uneven as these: (sum n)² / sum n²."""
    return float(size_K.sum() ** 2 / (size_K @ size_K))


def _total(sides: Sequence[SeedAucs]) -> np.ndarray:
    """The mean components of the sum of `sides`, [2, K]."""
    return np.sum([side.mean_2K for side in sides], axis=0)


def _components(rows: ClusteredRows, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUC [R], and its components [R, 2, K]: of positives and of negatives. scores: [N] or [R, N]."""
    scores_RN = np.atleast_2d(np.asarray(scores))
    if scores_RN.ndim != 2 or scores_RN.shape[1] != len(rows.labels_N) or not len(scores_RN):
        raise MetricError(
            f"scores {scores_RN.shape} must be [{len(rows.labels_N)}] or [seeds, {len(rows.labels_N)}], as the labels"
        )
    wrong = ~np.isfinite(scores_RN)
    if wrong.any():
        raise MetricError(f"{wrong.sum()} of {wrong.size} scores are not finite numbers")
    auc_R, components_R = zip(*(_components_of_seed(rows, scores_N) for scores_N in scores_RN), strict=True)
    return np.array(auc_R), np.stack(components_R)


def _components_of_seed(rows: ClusteredRows, scores_N: np.ndarray) -> tuple[float, np.ndarray]:
    """AUC of one seed, and its components summed over clusters: [2, K]."""
    score_K, at_N = np.unique(scores_N, return_inverse=True)
    negative_N = 1 - rows.labels_N
    counts = RankStatistic(score_K, np.bincount(at_N, rows.labels_N), np.bincount(at_N, negative_N))
    auc, positive_K, negative_K = counts.components()
    parts = (rows.labels_N * positive_K[at_N], negative_N * negative_K[at_N])
    return auc, np.stack([_summed(part_N, rows.cluster_N) for part_N in parts])


def _products(components_2K: np.ndarray) -> np.ndarray:
    """Sums of products of components, as `auc_variance` takes them."""
    positive, negative = components_2K
    return np.array([positive @ positive, negative @ negative, 2 * (positive @ negative)])


def _summed(values_N: np.ndarray, cluster_N: np.ndarray | None) -> np.ndarray:
    return values_N if cluster_N is None else np.bincount(cluster_N, values_N)
