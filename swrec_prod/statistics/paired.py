"""Whether two models differ, or only their test rows and seeds do:
AUC over several training seeds with exact paired errors.

The spread of DeLong's components over rows is the variance of an AUC (metrics/ranks.py). A mean over seeds has the mean
components, a difference of models the difference of theirs, so that rows that both models get wrong cancel.

- Rows of one user are not independent: components are summed over a cluster first (Obuchowski, Biometrics 1997). With
  one row a cluster that is DeLong's variance.
- Seeds are a sample too. What the AUCs of R seeds vary *beyond* what their components explain is added for each model,
  divided by R; the rest of their variance comes from rows on which seeds disagree, which the mean components have
  already. One seed says nothing of others: its interval is of rows alone.
- The added part is an estimate from few seeds, hence Student's t with the degrees of freedom of Satterthwaite (1946).
  In simulations of 2,000 rows, intervals of 95 % covered the truth in 94 to 98 % of draws with five seeds, and in 95 to
  99 % with two or three.

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

MANY = 1e9  # degrees of freedom at which Student's t is the normal


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

    @property
    def freedom(self) -> int:
        """Degrees of freedom of `spread`; 0: one seed."""
        return len(self.auc_R) - 1

    @property
    def spread(self) -> float:
        """Variance of `value` as far as seeds' AUCs vary."""
        return float(self.auc_R.var(ddof=1)) / len(self.auc_R) if self.freedom else 0.0


@dataclass(frozen=True, eq=False)
class ClusteredRows:
    """Rows that models are judged by, for figures of several models on the same rows: `seeds` of each, then `mean` and
    `difference` of these. labels_N; cluster_N: codes below K, or None where every row is a cluster; counts: clusters
    with positives, with negatives, and all.
    """

    labels_N: np.ndarray
    cluster_N: np.ndarray | None
    counts: np.ndarray

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
        masses = (labels, 1 - labels, np.ones_like(labels))
        return cls(labels, code, np.array([np.count_nonzero(_summed(mass, code)) for mass in masses]))

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

    def _error(self, sides: Sequence[SeedAucs]) -> tuple[float, float]:
        """Standard error of the sum of `sides`, and Satterthwaite's degrees of freedom, where those of rows are as good
        as infinite.

        What seeds' AUCs vary beyond what their components explain is as uncertain as the spread that it is a part of, 2
        spread² / freedom, also where nothing of it is left. Spreads that the components explain can exceed the whole
        variance where models share their seeds; the freedom is never below a side's own.
        """
        if not self.has_errors:
            what = "rows" if self.cluster_N is None else "clusters with rows"
            raise MetricError(
                f"an AUC interval needs two {what} of each class, "
                f"not {self.counts[0]} positive and {self.counts[1]} negative"
            )
        of_rows = auc_variance(_products(np.sum([side.mean_2K for side in sides], axis=0)), self.counts)
        variance = of_rows + sum(self._unexplained(side) for side in sides)
        error = float(np.sqrt(max(variance, 0.0)))
        uncertain = sum(side.spread**2 / side.freedom for side in sides if side.freedom)
        if not uncertain:
            return error, MANY
        least = min(side.freedom for side in sides if side.freedom)
        return error, min(max(variance**2 / uncertain, least), MANY)

    def _unexplained(self, side: SeedAucs) -> float:
        """The part of a side's spread that the components leave unexplained."""
        if not side.freedom:
            return 0.0
        explained = auc_variance(side.products, self.counts) / side.freedom / len(side.auc_R)
        return max(0.0, side.spread - explained)


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
