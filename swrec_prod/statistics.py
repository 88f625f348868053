"""Whether two models differ, or only their test rows and seeds do:
AUC over several training seeds with exact paired errors.

The spread of DeLong's components over rows is the variance of an AUC (metrics.py). A mean over seeds has the mean
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
from swrec_prod.metrics import Interval, RankStatistic, auc_interval_around, auc_variance

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
    rows = _Rows.of(labels, clusters)
    (auc_a, parts_a), (auc_b, parts_b) = (_components(rows, scores) for scores in (a, b))
    if same_seeds:
        if len(auc_a) != len(auc_b):
            raise MetricError(f"same seeds need as many scores of both sides, not {len(auc_a)} and {len(auc_b)}")
        sides = [_Seeds.of(rows, auc_a - auc_b, parts_a - parts_b)]
    else:
        sides = [_Seeds.of(rows, auc_a, parts_a), _Seeds.of(rows, -auc_b, -parts_b)]
    value = sum(side.value for side in sides)
    error, freedom = _error(rows, sides)
    if not error:  # no row tells the models apart, or every row says the same
        return Difference(value, error, value, value, float(value == 0))
    reach = error * float(stdtrit(freedom, 0.5 + level / 2))
    return Difference(value, error, value - reach, value + reach, float(2 * stdtr(freedom, -abs(value) / error)))


def auc_mean(labels: np.ndarray, a: np.ndarray, clusters: np.ndarray | None = None, level: float = 0.95) -> Interval:
    """Mean AUC of a's seeds; its interval covers other rows (or clusters) and other seeds, and stays inside [0, 1].

    labels, a, clusters and the errors raised are those of `auc_difference`.
    """
    rows = _Rows.of(labels, clusters)
    seeds = _Seeds.of(rows, *_components(rows, a))
    error, freedom = _error(rows, [seeds])
    return auc_interval_around(seeds.value, error, float(stdtrit(freedom, 0.5 + level / 2)))


@dataclass(frozen=True, eq=False)
class _Rows:
    """labels_N; cluster_N: codes below K, or None where every row is a cluster; counts: clusters with positives, with
    negatives, and all.
    """

    labels_N: np.ndarray
    cluster_N: np.ndarray | None
    counts: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, clusters: np.ndarray | None) -> _Rows:
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
        counts = np.array([np.count_nonzero(_summed(mass, code)) for mass in masses])
        if counts.min() < 2:
            what = "rows" if code is None else "clusters with rows"
            raise MetricError(
                f"an AUC interval needs two {what} of each class, not {counts[0]} positive and {counts[1]} negative"
            )
        return cls(labels, code, counts)

    def variance(self, components_2K: np.ndarray) -> float:
        """Of an AUC, from components summed over clusters."""
        positive, negative = components_2K
        return auc_variance((positive @ positive, negative @ negative, 2 * (positive @ negative)), self.counts)


@dataclass(frozen=True, eq=False)
class _Seeds:
    """value: mean over seeds; components_2K: their mean components; spread: variance of `value` as far as seeds' AUCs
    vary; excess: the part of it that the components leave unexplained; freedom: degrees of freedom of `spread` (0: one
    seed).
    """

    value: float
    components_2K: np.ndarray
    spread: float
    excess: float
    freedom: int

    @classmethod
    def of(cls, rows: _Rows, auc_R: np.ndarray, components_R2K: np.ndarray) -> _Seeds:
        mean_2K, freedom = components_R2K.mean(0), len(auc_R) - 1
        if not freedom:
            return cls(float(auc_R[0]), mean_2K, 0.0, 0.0, 0)
        explained = sum(rows.variance(part_2K - mean_2K) for part_2K in components_R2K) / freedom / len(auc_R)
        spread = float(auc_R.var(ddof=1)) / len(auc_R)
        return cls(float(auc_R.mean()), mean_2K, spread, max(0.0, spread - explained), freedom)


def _components(rows: _Rows, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def _components_of_seed(rows: _Rows, scores_N: np.ndarray) -> tuple[float, np.ndarray]:
    """AUC of one seed, and its components summed over clusters: [2, K]."""
    score_K, at_N = np.unique(scores_N, return_inverse=True)
    negative_N = 1 - rows.labels_N
    counts = RankStatistic(score_K, np.bincount(at_N, rows.labels_N), np.bincount(at_N, negative_N))
    auc, positive_K, negative_K = counts.components()
    parts = (rows.labels_N * positive_K[at_N], negative_N * negative_K[at_N])
    return auc, np.stack([_summed(part_N, rows.cluster_N) for part_N in parts])


def _error(rows: _Rows, sides: Sequence[_Seeds]) -> tuple[float, float]:
    """Standard error of the sum of `sides`, and Satterthwaite's degrees of freedom,
    where those of rows are as good as infinite.

    An excess is as uncertain as the spread that it is a part of, 2 spread² / freedom, also where nothing of it is left.
    Spreads that the components explain can exceed the whole variance where models share their seeds; the freedom is
    never below a side's own.
    """
    variance = rows.variance(np.sum([side.components_2K for side in sides], axis=0)) + sum(
        side.excess for side in sides
    )
    error = float(np.sqrt(max(variance, 0.0)))
    uncertain = sum(side.spread**2 / side.freedom for side in sides if side.freedom)
    if not uncertain:
        return error, MANY
    least = min(side.freedom for side in sides if side.freedom)
    return error, min(max(variance**2 / uncertain, least), MANY)


def _summed(values_N: np.ndarray, cluster_N: np.ndarray | None) -> np.ndarray:
    return values_N if cluster_N is None else np.bincount(cluster_N, values_N)
