"""How well the rows of one group are ordered: a user's, a request's, those of any column. numpy only.

A ranked page holds the candidates of one request, so only their order among each other can be seen. Both figures are of
the groups that have a positive and a negative row: with one class there is no order that is better than another.

Shapes: N rows; K blocks, each the rows of one group with one score; G groups.
"""

from __future__ import annotations

import numpy as np

from swrec_prod.metrics.group_sums import Blocks, Grouped, GroupSums, check_places


def gauc(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray | None = None) -> Grouped:
    """AUC within each group, averaged with the group's impressions as weight (Zhou et al., KDD 2018, eq. 6).

    sum_g W_g AUC_g / sum_g W_g, where W_g is the weight of all rows of group g, their number without weights, and AUC_g
    counts a pair with the product of its weights.
    labels: [N] of {0, 1}; scores: [N] finite; groups: [N] ids of any type; weights: [N] >= 0, default 1. Groups whose
    labels are all equal are left out; `rows` and `groups` say how many rows and groups counted. Raises SingleClassError
    when no group counts.
    >>> gauc(np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.4, 0.3, 0.6, 0.9]), np.array([7, 7, 8, 8, 9]))
    Grouped(value=0.5, rows=4, groups=2)
    """
    return gauc_sums(Blocks.of(labels, scores, groups, weights)).mean()


def gauc_sums(blocks: Blocks) -> GroupSums:
    """What `gauc` is the mean of, for rows that are judged in pieces."""
    counted = blocks.both_classes()
    below_K = blocks.before(blocks.negatives_K) + 0.5 * blocks.negatives_K
    wins_G = blocks.sums(blocks.positives_K * below_K)
    positives_G, negatives_G = blocks.sums(blocks.positives_K), blocks.sums(blocks.negatives_K)
    value_G = wins_G / np.where(counted, positives_G * negatives_G, 1)
    return blocks.totals(value_G, positives_G + negatives_G, counted)


def ndcg(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, k: int = 10, weights: np.ndarray | None = None
) -> Grouped:
    """Normalised discounted cumulative gain of the k highest scores of each group, averaged over groups (Järvelin &
    Kekäläinen, TOIS 2002).

    sum_g w_g DCG_g / IDCG_g / sum_g w_g, where DCG_g is the sum of y_i / log2(1 + i) over the places i = 1..k, IDCG_g
    that of the best order, and w_g the mean weight of the group's rows, 1 without weights. Rows of equal score share
    the mean of their places' discounts (McSherry & Najork, ECIR 2008), as in scikit-learn's ndcg_score.
    labels: [N] of {0, 1}; scores: [N] finite; groups: [N] ids of any type; weights: [N] >= 0, default 1. Left out and
    raised is what `gauc` leaves out and raises; MetricError also for k below 1.
    >>> ndcg(np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.4, 0.3, 0.6, 0.9]), np.array([7, 7, 8, 8, 9]), k=1)
    Grouped(value=0.5, rows=4, groups=2)
    """
    check_places("NDCG", k)
    return ndcg_sums(Blocks.of(labels, scores, groups, weights), k).mean()


def ndcg_sums(blocks: Blocks, k: int) -> GroupSums:
    """What `ndcg` is the mean of, for rows that are judged in pieces."""
    counted = blocks.both_classes()
    rows_G, hits_G = blocks.sums(blocks.rows_K), blocks.sums(blocks.hits_K)
    discounts = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, min(k, int(rows_G.max(initial=0))) + 2)))))
    last, above_K = len(discounts) - 1, blocks.above()
    shared_K = discounts[np.minimum(above_K + blocks.rows_K, last)] - discounts[np.minimum(above_K, last)]
    dcg_G = blocks.sums(blocks.hits_K / blocks.rows_K * shared_K)
    value_G = dcg_G / np.where(counted, discounts[np.minimum(hits_G, last)], 1)
    return blocks.totals(value_G, blocks.mean_weight(), counted)
