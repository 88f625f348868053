"""How well the rows of one request, a page that was shown at once, are ordered. numpy only.

Rows of equal score have no order: each figure is its mean over all orders of them.

Shapes: N rows; K blocks, each the rows of one request with one score; G requests.
"""

from __future__ import annotations

import numpy as np

from swrec_prod.metrics.group_sums import Blocks, Grouped, GroupSums, check_places
from swrec_prod.metrics.within_groups import gauc

A_POSITIVE = "a positive row"


def sgauc(labels: np.ndarray, scores: np.ndarray, requests: np.ndarray, weights: np.ndarray | None = None) -> Grouped:
    """S-GAUC: AUC within each request or session, averaged with its impressions as weight (SFPNet, Zhang et al. 2025).

    `gauc` of requests instead of users: only candidates that compete for the same page are compared.
    labels: [N] of {0, 1}; scores: [N] finite; requests: [N] ids; weights: [N] >= 0, default 1. Requests whose labels
    are all equal are left out. Raises SingleClassError when no request counts.
    """
    return gauc(labels, scores, requests, weights)


def recall(
    labels: np.ndarray, scores: np.ndarray, requests: np.ndarray, k: int = 10, weights: np.ndarray | None = None
) -> Grouped:
    """Recall@k: which share of a request's positive rows is among its k highest scores, averaged over requests.

    sum_g w_g R_g / sum_g w_g, where R_g is the number of positive rows in places 1..k over that of all positive rows,
    and w_g the mean weight of the request's rows, 1 without weights.
    labels: [N] of {0, 1}; scores: [N] finite; requests: [N] ids; weights: [N] >= 0, default 1. Requests without a
    positive row are left out. Raises SingleClassError when no request counts, MetricError for k below 1.
    >>> recall(np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.4, 0.3, 0.6, 0.9]), np.array([7, 7, 8, 8, 8]), k=1)
    Grouped(value=0.75, rows=5, groups=2)
    """
    check_places("recall", k)
    return recall_sums(Blocks.of(labels, scores, requests, weights), k).mean(A_POSITIVE)


def recall_sums(blocks: Blocks, k: int) -> GroupSums:
    """What `recall` is the mean of, for rows that are judged in pieces."""
    hits_G = blocks.sums(blocks.hits_K)
    places_K = np.clip(k - blocks.above(), 0, blocks.rows_K)
    found_G = blocks.sums(blocks.hits_K * places_K / blocks.rows_K)
    return blocks.totals(found_G / np.maximum(hits_G, 1), blocks.mean_weight(), hits_G > 0)


def hit_rate(
    labels: np.ndarray, scores: np.ndarray, requests: np.ndarray, k: int = 10, weights: np.ndarray | None = None
) -> Grouped:
    """Hit rate@k: which share of requests has a positive row among its k highest scores (Deshpande &
    Karypis, TOIS 2004; there of users with one positive row each, where it is recall@k).

    sum_g w_g H_g / sum_g w_g, where H_g is 1 with a positive row in places 1..k, else 0, and w_g the mean weight of the
    request's rows, 1 without weights.
    labels: [N] of {0, 1}; scores: [N] finite; requests: [N] ids; weights: [N] >= 0, default 1. Requests without a
    positive row are left out. Raises SingleClassError when no request counts, MetricError for k below 1.
    >>> hit_rate(np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.4, 0.3, 0.6, 0.3]), np.array([7, 7, 8, 8, 8]), k=1)
    Grouped(value=0.5, rows=5, groups=2)
    """
    check_places("hit rate", k)
    return hit_rate_sums(Blocks.of(labels, scores, requests, weights), k).mean(A_POSITIVE)


def hit_rate_sums(blocks: Blocks, k: int) -> GroupSums:
    """What `hit_rate` is the mean of, for rows that are judged in pieces."""
    places_K = np.clip(k - blocks.above(), 0, blocks.rows_K)
    found_K = 1 - _none_drawn(blocks.rows_K, blocks.hits_K, places_K)
    hit_G = np.minimum(blocks.sums(found_K), 1)  # only in the block that place k cuts is it between 0 and 1
    return blocks.totals(hit_G, blocks.mean_weight(), blocks.sums(blocks.hits_K) > 0)


def mrr(
    labels: np.ndarray, scores: np.ndarray, requests: np.ndarray, k: int = 10, weights: np.ndarray | None = None
) -> Grouped:
    """MRR@k: one over the place of a request's first positive row, 0 behind place k, averaged over requests (Voorhees,
    TREC-8 1999).

    sum_g w_g / place_g / sum_g w_g, where w_g is the mean weight of the request's rows, 1 without weights.
    labels: [N] of {0, 1}; scores: [N] finite; requests: [N] ids; weights: [N] >= 0, default 1. Requests without a
    positive row are left out. Raises SingleClassError when no request counts, MetricError for k below 1.
    >>> mrr(np.array([0, 1, 1, 0, 1]), np.array([0.5, 0.4, 0.3, 0.6, 0.9]), np.array([7, 7, 8, 8, 8]))
    Grouped(value=0.75, rows=5, groups=2)
    """
    check_places("MRR", k)
    return mrr_sums(Blocks.of(labels, scores, requests, weights), k).mean(A_POSITIVE)


def mrr_sums(blocks: Blocks, k: int) -> GroupSums:
    """What `mrr` is the mean of, for rows that are judged in pieces."""
    hits_G = blocks.sums(blocks.hits_K)
    better_K = np.repeat(hits_G, blocks.sizes_G) - blocks.before(blocks.hits_K) - blocks.hits_K
    first_K = (blocks.hits_K > 0) & (better_K == 0)  # the highest score that a positive row has
    value_K = np.zeros(len(first_K))
    value_K[first_K] = _first_hit(blocks.above()[first_K], blocks.rows_K[first_K], blocks.hits_K[first_K], k)
    return blocks.totals(blocks.sums(value_K), blocks.mean_weight(), hits_G > 0)


def _first_hit(above_B: np.ndarray, rows_B: np.ndarray, hits_B: np.ndarray, k: int) -> np.ndarray:
    """The mean over orders of one over the place of the first of `hits` rows among `rows` equal ones, by block.

    The chance that it is the j-th of them is C(rows - j, hits - 1) / C(rows, hits).
    """
    choices_B = rows_B - hits_B + 1
    block = np.repeat(np.arange(len(rows_B)), choices_B)
    j = np.arange(len(block)) - np.repeat(np.cumsum(choices_B) - choices_B, choices_B) + 1
    rows, hits, place = rows_B[block], hits_B[block], above_B[block] + j
    logs = _log_factorials(rows_B)
    chance = np.exp(logs[rows - j] - logs[rows - j - hits + 1] + logs[rows - hits] - logs[rows]) * hits
    return np.bincount(block, np.where(place <= k, chance / place, 0), len(rows_B))


def _none_drawn(rows_B: np.ndarray, hits_B: np.ndarray, places_B: np.ndarray) -> np.ndarray:
    """The chance that none of `hits` among `rows` equal rows comes to one of the first `places`, by block.

    C(rows - hits, places) / C(rows, places).
    """
    logs, left_B = _log_factorials(rows_B), rows_B - hits_B - places_B
    chance_B = np.exp(
        logs[rows_B - hits_B] + logs[rows_B - places_B] - logs[np.maximum(left_B, 0)] - logs[rows_B],
    )
    return np.where(left_B < 0, 0.0, np.where((hits_B == 0) | (places_B == 0), 1.0, chance_B))


def _log_factorials(rows_B: np.ndarray) -> np.ndarray:
    """The logarithms of 0!, 1!, ..., up to the largest number of rows."""
    return np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, rows_B.max(initial=1) + 1)))))
