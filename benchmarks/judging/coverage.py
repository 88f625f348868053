"""Part `coverage`: in how many of 2,000 simulated logs each 95 % interval that we give covers the truth.

coverage_95            the one farthest from 0.95, over all intervals and worlds
coverage_95_<interval> the same over worlds; each world's stands in the context
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from benchmarks.judging.covered_worlds import WORLDS, Log
from benchmarks.record import Figure
from swrec_prod.metrics.ranks import Interval, auc_interval
from swrec_prod.statistics.bootstrap import bootstrap
from swrec_prod.statistics.paired import Difference, auc_difference, auc_mean

LEVEL = 0.95
RESAMPLES = 1000
CHUNK = 200  # repetitions that one process does at a time
BOUNDS = ">= 0.93", "<= 0.97"


def figures(quick: bool, processes: int = 2) -> list[Figure]:
    """All intervals over 2,000 logs of each world, so that chance moves a share by 0.005; over 200 when quick."""
    repetitions = 200 if quick else 2000
    jobs = [(name, start, min(CHUNK, repetitions - start)) for name in WORLDS for start in range(0, repetitions, CHUNK)]
    with ProcessPoolExecutor(processes) as pool:
        truths = dict(zip(WORLDS, pool.map(_truths, WORLDS), strict=True))
        found = pool.map(_counts, *zip(*((name, truths[name], start, many) for name, start, many in jobs), strict=True))
    hits: dict[str, dict[str, list[int]]] = {}
    for (world, _, _), counts in zip(jobs, found, strict=True):
        for interval, count in counts.items():
            hits.setdefault(interval, {}).setdefault(world, []).append(count)
    shares = {i: {world: sum(counts) / repetitions for world, counts in by.items()} for i, by in hits.items()}
    return list(_figures(shares, repetitions))


def covered(
    world: str, truths: dict[str, float], start: int, repetitions: int, resamples: int = RESAMPLES
) -> dict[str, int]:
    """How often each interval covers the truth, in repetitions from `start`, each with random numbers of its own."""
    hits: dict[str, int] = {}
    for repetition in range(start, start + repetitions):
        log = WORLDS[world].draw(np.random.default_rng([repetition, 7]))
        for name, figure, interval in intervals(log, resamples, repetition):
            hits[name] = hits.get(name, 0) + bool(interval.low <= truths[figure] <= interval.high)
    return hits


def intervals(log: Log, resamples: int, seed: int) -> Iterator[tuple[str, str, Interval | Difference]]:
    """Name, figure and interval; the intervals of rows are those of a world with one row a user."""
    labels, a, b, users = log
    alone = len(np.unique(users)) == len(users)
    if alone:
        yield "auc_metrics", "auc", auc_interval(labels, a)
        yield "auc_delong", "auc", auc_mean(labels, a)
        yield "auc_delong_difference", "auc_difference", auc_difference(labels, a, b)
    else:
        yield "auc_clustered", "auc", auc_mean(labels, a, users)
        yield "auc_clustered_difference", "auc_difference", auc_difference(labels, a, b, users)
    for figure in ("auc", "logloss") if alone else ("auc", "gauc", "logloss"):
        drawn = bootstrap([figure], labels, np.stack([a, b]), users, resamples=resamples, seed=seed, threads=1)
        of_a, of_b = drawn[figure]
        yield f"{figure}_bootstrap", figure, of_a.interval(LEVEL)
        yield f"{figure}_bootstrap_difference", f"{figure}_difference", (of_a - of_b).difference(LEVEL)


def _truths(world: str) -> dict[str, float]:
    return WORLDS[world].truths()


def _counts(world: str, truths: dict[str, float], start: int, repetitions: int) -> dict[str, int]:
    return covered(world, truths, start, repetitions)


def _figures(shares: dict[str, dict[str, float]], repetitions: int) -> Iterator[Figure]:
    every = [share for by_world in shares.values() for share in by_world.values()]
    yield _figure("coverage_95", every, {"repetitions": repetitions, "resamples": RESAMPLES})
    for interval, by_world in shares.items():
        yield _figure(f"coverage_95_{interval}", list(by_world.values()), {"worlds": by_world})


def _figure(name: str, shares: list[float], context: dict[str, Any]) -> Figure:
    worst = max(shares, key=lambda share: abs(share - LEVEL))
    return Figure(name, worst, "of intervals", "level", LEVEL, BOUNDS[worst > LEVEL], "value", context)
