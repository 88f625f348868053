"""Experiments whose truth is known: users who come back, each with a click rate of their own, so that
impressions of one user are alike.

A fifth are heavy users, who see much and click seldom; the rate of a user stays from before the experiment to its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tea_tasting.aggr import Aggregates

from swrec_prod.abtest.columns import MetricSpec
from swrec_prod.abtest.lifts import Pair
from swrec_prod.abtest.measures import EXPOSURES, Metric

HEAVY_SHARE = 0.2
IMPRESSIONS = np.array([0.5, 2.0])  # a day, of light and heavy users
CLICK_RATE = np.array([0.12, 0.06])
CONCENTRATION = 6.0  # of the beta distribution of users' click rates; 1 / (1 + it) is the correlation of impressions
DAYS_BEFORE = 14
SHARES = np.array([1 - HEAVY_SHARE, HEAVY_SHARE])
CTR = float((SHARES * IMPRESSIONS * CLICK_RATE).sum() / (SHARES * IMPRESSIONS).sum())  # without a treatment

PLAIN = Metric(MetricSpec(name="ctr", value="click", per="exposure"), "m0", EXPOSURES)
CUPED = Metric(PLAIN.spec, "m0", EXPOSURES, "b0", "b1")


@dataclass(frozen=True)
class Traffic:
    """What happened. Shapes: U users, D days. shown, clicks: [U, D]; shown_before, clicks_before: [U]; treated: [U]."""

    shown_UD: np.ndarray
    clicks_UD: np.ndarray
    shown_before_U: np.ndarray
    clicks_before_U: np.ndarray
    treated_U: np.ndarray

    def pair(self, days: int) -> Pair:
        """Both variants at the end of day `days` (1 for the first), over the users that were seen until then."""
        shown = self.shown_UD[:, :days].sum(1)
        columns = np.stack([self.clicks_UD[:, :days].sum(1), shown, self.clicks_before_U, self.shown_before_U])
        sides = (columns[:, (self.treated_U == side) & (shown > 0)] for side in (False, True))
        return Pair(*(_aggregates(side, ("m0", EXPOSURES, "b0", "b1")) for side in sides))


def simulate(rng: np.random.Generator, users: int, days: int, lift: float = 0.0, fading: float = 0.0) -> Traffic:
    """Half of the users are treated, whose click rates are 1 + lift times what they were.

    fading: how much of the lift is gone on the last day, in even steps.
    """
    heavy = (rng.random(users) < HEAVY_SHARE).astype(int)
    rate, mean = IMPRESSIONS[heavy], CLICK_RATE[heavy]
    own = rng.beta(CONCENTRATION * mean, CONCENTRATION * (1 - mean))
    treated = rng.random(users) < 0.5
    lifts = lift * (1 - fading * np.arange(days) / max(days - 1, 1))
    shown = rng.poisson(rate[:, None], (users, days))
    chance = np.minimum(own[:, None] * (1 + lifts * treated[:, None]), 1)
    shown_before = rng.poisson(rate * DAYS_BEFORE)
    return Traffic(shown, rng.binomial(shown, chance), shown_before, rng.binomial(shown_before, own), treated)


def _aggregates(columns: np.ndarray, names: tuple[str, ...]) -> Aggregates:
    covariance = np.cov(columns)
    pairs = [(i, j) for i in range(len(names)) for j in range(len(names)) if names[i] < names[j]]
    return Aggregates(
        columns.shape[1],
        dict(zip(names, map(float, columns.mean(1)), strict=True)),
        dict(zip(names, map(float, np.diag(covariance)), strict=True)),
        {(names[i], names[j]): float(covariance[i, j]) for i, j in pairs},
    )
