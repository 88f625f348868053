"""Bootstrap of figures and of their differences, in which users, sessions or other clusters are drawn with replacement.

A resample gives every cluster the number of times that it is drawn: multinomial weights, which is Efron's bootstrap of
clusters (Davison & Hinkley 1997, sec. 3.8; Field & Welsh, JRSS B 2007). Poisson weights (Chamandy et al. 2012) are for
streams whose clusters nobody has counted; here they are counted, and a fixed total is what other tools have too.
Rows are sorted once, and a figure comes from weights (statistics/reweighted.py): nothing is copied or sorted again.
All models have the same resamples, so that differences are paired.

Memory: the draws, and for each thread a few arrays of BLOCK numbers, or of one resample's rows where that is more.

Shapes: N rows, V columns of scores, G groups, C clusters, B resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from swrec_prod.errors import MetricError, SingleClassError, nearest
from swrec_prod.metrics.probabilities import row_losses, sigmoid
from swrec_prod.metrics.rows import checked, checked_weights
from swrec_prod.metrics.within_groups import ByGroup, gauc_by_group, ndcg_by_group
from swrec_prod.statistics.draws import Draws
from swrec_prod.statistics.reweighted import RankedRows, Ratio, Reweighted

BLOCK = 1 << 18  # weights of rows that a thread holds at a time


@dataclass(frozen=True, eq=False)
class SampledRows:
    """Rows that are drawn by cluster. labels_N; cluster_N, group_N: codes from 0; mass_N: weights of rows; k: the
    places that NDCG looks at.
    """

    labels_N: np.ndarray
    cluster_N: np.ndarray
    group_N: np.ndarray
    mass_N: np.ndarray | None
    k: int

    def ratio(self, above_N: np.ndarray, below_N: np.ndarray) -> Ratio:
        """The weighted sum of one column over that of another."""
        mass_N = 1 if self.mass_N is None else self.mass_N
        return Ratio(np.bincount(self.cluster_N, mass_N * above_N), np.bincount(self.cluster_N, mass_N * below_N))

    def clusters_of_groups(self) -> np.ndarray | None:
        """The cluster of each group, [G]; None where the rows of some group are of several."""
        cluster_G = np.zeros(self.group_N.max() + 1, np.int64)
        cluster_G[self.group_N] = self.cluster_N
        return cluster_G if np.array_equal(cluster_G[self.group_N], self.cluster_N) else None


Maker = Callable[[SampledRows, np.ndarray], Reweighted]


def _gauc(rows: SampledRows, scores_N: np.ndarray) -> Reweighted:
    cluster_G = rows.clusters_of_groups()
    if cluster_G is None:
        return RankedRows.of(rows.labels_N, scores_N, rows.cluster_N, rows.group_N, rows.mass_N)
    return _of_groups(rows, gauc_by_group(rows.labels_N, scores_N, rows.group_N, rows.mass_N), cluster_G)


def _ndcg(rows: SampledRows, scores_N: np.ndarray) -> Reweighted:
    cluster_G = rows.clusters_of_groups()
    if cluster_G is None:
        raise MetricError(
            "NDCG is resampled by clusters that hold whole groups: cluster by user, or group by the clusters"
        )
    return _of_groups(rows, ndcg_by_group(rows.labels_N, scores_N, rows.group_N, rows.k, rows.mass_N), cluster_G)


def _of_groups(rows: SampledRows, groups: ByGroup, cluster_G: np.ndarray) -> Ratio:
    """A mean over groups that lie inside clusters: drawing a cluster twice counts its groups twice."""
    counted = groups.counted_G
    at, weight = cluster_G[groups.group_G[counted]], groups.weight_G[counted]
    sums = (np.bincount(at, values, rows.cluster_N.max() + 1) for values in (groups.value_G[counted] * weight, weight))
    return Ratio(*sums)


FIGURES: Mapping[str, Maker] = {
    "auc": lambda rows, scores_N: RankedRows.of(rows.labels_N, scores_N, rows.cluster_N, mass_N=rows.mass_N),
    "gauc": _gauc,
    "ndcg": _ndcg,
    "logloss": lambda rows, scores_N: rows.ratio(row_losses(rows.labels_N, scores_N), np.ones_like(scores_N)),
    "calibration": lambda rows, scores_N: rows.ratio(sigmoid(scores_N), rows.labels_N),
}


def bootstrap(
    figures: Sequence[str],
    labels: np.ndarray,
    scores: np.ndarray,
    clusters: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    k: int = 10,
    resamples: int = 1000,
    seed: int = 0,
    threads: int = 2,
) -> dict[str, list[Draws]]:
    """Each figure of each column of scores, with its resamples: by name of the figure, in the order of the columns.

    figures: of FIGURES; labels: [N] of {0, 1}; scores: [N] or [V, N], finite, logits for "logloss" and "calibration";
    clusters: [N] ids of any type; groups: [N] ids of those whose rows GAUC and NDCG compare, default: the clusters;
    weights: [N] >= 0; k: places that NDCG looks at; seed: the same one gives the same draws, whatever the threads.

    Raises SingleClassError where all labels are equal, MetricError where fewer than two clusters count for a figure, or
    the inputs are not that.
    >>> labels, users = np.tile([0, 1, 0], 40), np.repeat(np.arange(40), 3)
    >>> scores = np.random.default_rng(0).normal(size=(2, 120)) + [labels, 2 * labels]
    >>> one, other = bootstrap(["auc"], labels, scores, users)["auc"]
    >>> 0 < (other - one).interval().low < (other - one).value
    True
    """
    rows, scores_VN = _checked(labels, scores, clusters, groups, weights, k)
    if resamples < 2:
        raise MetricError(f"a bootstrap needs two resamples or more, not {resamples}; 1000 are usual")
    reweighted = {name: [_figure(name, rows, scores_N) for scores_N in scores_VN] for name in figures}
    flat = [figure for columns in reweighted.values() for figure in columns]
    draw_FB = iter(_draws(flat, len(rows.labels_N), int(rows.cluster_N.max()) + 1, resamples, seed, threads).T)
    return {
        name: [Draws(figure.value, next(draw_FB), figure.influence()) for figure in columns]
        for name, columns in reweighted.items()
    }


def cluster_weights(generator: np.random.Generator, resamples: int, clusters: int) -> np.ndarray:
    """How often each cluster is drawn, when as many are drawn as there are: uint16 [resamples, clusters]."""
    drawn = generator.integers(0, clusters, (resamples, clusters)) + np.arange(resamples)[:, None] * clusters
    counts = np.bincount(drawn.ravel(), minlength=resamples * clusters)
    return counts.reshape(resamples, clusters).astype(np.uint16)


def _draws(
    figures: Sequence[Reweighted], rows: int, clusters: int, resamples: int, seed: int, threads: int
) -> np.ndarray:
    """[B, figures]. Each block of resamples has random numbers of its own."""
    block = max(1, BLOCK // rows)
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]

    def drawn(stream: np.random.SeedSequence, size: int) -> np.ndarray:
        weight_BC = cluster_weights(np.random.default_rng(stream), size, clusters)
        return np.stack([figure.under(weight_BC) for figure in figures], axis=1)

    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(drawn, np.random.SeedSequence(seed).spawn(len(sizes)), sizes)))


def _figure(name: str, rows: SampledRows, scores_N: np.ndarray) -> Reweighted:
    if name not in FIGURES:
        raise MetricError(f"{name}: no figure that is resampled; {nearest(name, FIGURES)}")
    figure = FIGURES[name](rows, scores_N)
    if figure.counted < 2:
        raise MetricError(f"{name}: a bootstrap needs two clusters that count, not {figure.counted}")
    return figure


def _checked(
    labels: np.ndarray,
    scores: np.ndarray,
    clusters: np.ndarray,
    groups: np.ndarray | None,
    weights: np.ndarray | None,
    k: int,
) -> tuple[SampledRows, np.ndarray]:
    """The rows of weight above 0, and their scores [V, N]."""
    scores_VN = np.atleast_2d(np.asarray(scores, np.float64))
    labels_N = checked(labels, scores_VN[0])[0]
    for scores_N in scores_VN[1:]:
        checked(labels_N, scores_N)
    mass_N = None if weights is None else checked_weights(weights, len(labels_N))
    kept = slice(None) if mass_N is None else mass_N > 0
    cluster_N = _codes("clusters", clusters, len(labels_N), kept)
    group_N = cluster_N if groups is None else _codes("groups", groups, len(labels_N), kept)
    if not 0 < labels_N[kept].sum() < len(labels_N[kept]):
        raise SingleClassError(f"all {len(labels_N[kept])} labels are {int(labels_N[kept].any())}")
    return SampledRows(labels_N[kept], cluster_N, group_N, None if mass_N is None else mass_N[kept], k), scores_VN[
        :, kept
    ]


def _codes(name: str, ids: np.ndarray, rows: int, kept: slice | np.ndarray) -> np.ndarray:
    """Ids as codes from 0."""
    if np.shape(ids) != (rows,):
        raise MetricError(f"{name} {np.shape(ids)} must be a column of {rows} ids")
    return np.unique(np.asarray(ids)[kept], return_inverse=True)[1]
