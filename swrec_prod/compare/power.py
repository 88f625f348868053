"""What differences a comparison can see: the smallest with its rows, and how much data one of TARGET would take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import ndtri

from swrec_prod.statistics.paired import ClusteredRows, SeedAucs
from swrec_prod.statistics.power import Variances, clusters_needed, smallest_difference, times_the_data
from swrec_prod.statistics.seeds import noise_floor

TARGET = 0.001  # a difference of AUC that is worth a release
POWER = 0.8  # the chance that a difference is seen


class Power(NamedTuple):
    """smallest: the difference of AUC that is seen with these rows, two-sided at 5 %, with a chance of POWER; clusters,
    days: how many it takes to see one of TARGET, None where no number is enough, as seeds vary too much; times: how
    many times the clusters and days there are.
    """

    smallest: float
    clusters: int | None
    days: int | None
    times: float | None

    @classmethod
    def of(cls, variances: tuple[float, float], clusters: int, days: int) -> Power:
        """variances: of rows and of seeds, those of the difference on so many clusters and days."""
        parts = Variances(*variances)
        users, dates = (clusters_needed(TARGET, parts, there, power=POWER) for there in (clusters, days))
        return cls(smallest_difference(parts, power=POWER), users, dates, times_the_data(TARGET, parts, power=POWER))


class NoiseFloor(NamedTuple):
    """Differences of AUC that mean nothing, in 95 of 100 cases. seeds: of two runs of one variant on the same rows,
    None where no variant has two seeds; halves: of one run on two halves of the test rows' clusters.
    """

    seeds: float | None
    halves: float | None

    @classmethod
    def of(cls, aucs: Sequence[SeedAucs], rows: ClusteredRows) -> NoiseFloor:
        """Of all variants: seeds pooled, halves on average. A half has twice the variance, and two halves' add up."""
        variance = sum(rows.variances([side])[0] for side in aucs) / len(aucs)
        return cls(noise_floor([side.auc_R for side in aucs]), float(ndtri(0.975)) * 2 * max(variance, 0.0) ** 0.5)
