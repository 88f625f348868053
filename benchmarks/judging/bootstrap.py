"""Part `bootstrap`: AUC and GAUC of a million rows in a thousand resamples of users, on two threads.

bootstrap_seconds  from columns to intervals; against the naive way, which gathers the rows of the drawn users and asks
                   scikit-learn for the AUC alone, measured on a few resamples
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.record import Figure
from swrec_prod.statistics.bootstrap import bootstrap

ROWS, USERS, RESAMPLES, CLICK_RATE = 1_000_000, 100_000, 1000, 0.05
NAIVE = 5  # resamples that are measured of the naive way


def figures(quick: bool = False) -> Iterator[Figure]:
    """One figure; a tenth of the rows when quick."""
    rows, users = (ROWS // 10, USERS // 10) if quick else (ROWS, USERS)
    labels, scores, user = columns(rows, users)
    started = time.perf_counter()
    for draws in bootstrap(["auc", "gauc"], labels, scores, user, resamples=RESAMPLES, threads=2).values():
        draws[0].interval()
    seconds = time.perf_counter() - started
    context = {"rows": rows, "users": users, "resamples": RESAMPLES, "threads": 2}
    wanted = {} if quick else {"wanted": "<= 60", "held": "value"}
    naive = naive_seconds(labels, scores, user) * RESAMPLES
    yield Figure(
        "bootstrap_seconds", seconds, "s", "rows gathered, scikit-learn's AUC", naive, context=context, **wanted
    )


def columns(rows: int, users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and users, of whom some have many more rows than others."""
    random = np.random.default_rng(0)
    user = (random.random(rows) ** 2 * users).astype(np.int64)
    labels = (random.random(rows) < CLICK_RATE).astype(np.int64)
    return labels, labels + 2 * random.normal(size=rows), user


def naive_seconds(labels: np.ndarray, scores: np.ndarray, user: np.ndarray) -> float:
    """Of one resample."""
    random, order = np.random.default_rng(1), np.argsort(user, kind="stable")
    rows_of = np.split(order, np.flatnonzero(np.diff(user[order])) + 1)
    started = time.perf_counter()
    for _ in range(NAIVE):
        rows = np.concatenate([rows_of[k] for k in random.integers(0, len(rows_of), len(rows_of))])
        roc_auc_score(labels[rows], scores[rows])
    return (time.perf_counter() - started) / NAIVE
