"""What another policy would have earned, from a log of one whose probabilities are known.

A row is an action a that the logging policy took with probability p = pi_0(a | x), its reward r, and the probability
q = pi(a | x) with which the policy that is judged, the target, would have taken it there. With w = q / p

    ips          mean(w r)                              unbiased (Horvitz & Thompson 1952; Li et al., WSDM 2011)
    clipped_ips  mean(min(w, clip) r)                   less variance, and a bias: `Weights.clipped_mass`
    snips        sum(w r) / sum(w)                      unbiased for many rows only, and steadier where w varies: it is
                                                        one of the rewards' averages (Swaminathan & Joachims, NeurIPS
                                                        2015)
    dr           mean(e + w (r - m))                    doubly robust (Dudik, Langford & Li, ICML 2011): m predicts the
    sndr         mean(e) + sum(w (r - m)) / sum(w)      reward of a, e is the mean of such predictions over the target's
                                                        actions; right if p or m are, and steady where m is good

All but ips and dr take w to have mean 1, as it has where every action that the target takes can be logged. A mean of w
that is surely not 1 (`Weights.mean`) says that p or q are not what they are called, or that actions were never logged.

Intervals are of the delta method: an estimate's variance is the sum of squares of what it changes by with one cluster,
times K / (K - 1) (Owen, Monte Carlo theory 2013, sec. 9.2, for snips; clusters as in Obuchowski 1997). Their reach is
Student's, with degrees of freedom (sum e^2)^2 / sum e^4 - 1: as many as clusters that take part, were they alike. Where
clicks are rare and weights uneven few rows make the estimate, and the normal's quantile is too short: in worlds of
10,000 rows, 40 to 140 clicks and weights of Thompson sampling its 95 % intervals held the truth in 84 to 93 % of draws,
these in 94 to 97 %. With few clicks and milder weights they are wider than they need be (99 %).

Shapes: N rows, K clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from swrec_prod.errors import MetricError
from swrec_prod.metrics.ranks import Interval

LEVEL = 0.95


class Weights(NamedTuple):
    """What the weights w say of the log. rows, clusters: how many. mean: of w, with its interval: 1 where all is right.

    effective_rows: (sum w)^2 / sum w^2, so many rows of the target's own would be as good (Kish 1965); effective_
    rewards: the same over rows with a reward, which is what an interval hangs on. largest: the highest w. clip: where
    weights were cut, None for nowhere; clipped_rows: how many were. clipped_mass: 1 - mean(min(w, clip)), the part of
    the target's probability that clipping ignores, as w has mean 1: with rewards from 0 to 1 the bias of clipped_ips is
    between 0 and minus that.
    """

    rows: int
    clusters: int
    mean: Interval
    effective_rows: float
    effective_rewards: float
    largest: float
    clip: float | None
    clipped_rows: int
    clipped_mass: float

    @property
    def is_off(self) -> bool:
        """Whether 1 is so far from the mean weight that chance does not explain it: by four standard errors."""
        return abs(self.mean.value - 1) > 4 * self.mean.error + 1e-9


class OffPolicy(NamedTuple):
    """estimates: an interval by estimator. logged: mean reward of the log, what the logging policy earned."""

    logged: Interval
    estimates: dict[str, Interval]
    weights: Weights


@dataclass(frozen=True, eq=False)
class LoggedActions:
    """Rows of a log, checked. reward_N, weight_N: r and w; predicted_N, expected_N: m and e, None without a model of
    rewards; cluster_N: codes below K.
    """

    reward_N: np.ndarray
    weight_N: np.ndarray
    cluster_N: np.ndarray
    predicted_N: np.ndarray | None = None
    expected_N: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        reward: np.ndarray,
        propensity: np.ndarray,
        target: np.ndarray,
        clusters: np.ndarray | None = None,
        predicted: np.ndarray | None = None,
        expected: np.ndarray | None = None,
    ) -> LoggedActions:
        """reward: [N], r; propensity: [N], p in (0, 1]; target: [N], q in [0, 1]; clusters: [N] ids of any type, None
        where every row is one; predicted, expected: [N], m and e, both or neither.

        Raises MetricError saying how many values are not that, with fewer than two clusters, and where no row that the
        target would repeat has a reward: nothing can be said then, not even that the value is 0.
        """
        columns = {"reward": reward, "propensity": propensity, "target": target}
        if (predicted is None) != (expected is None):
            raise MetricError("doubly robust estimates need the predicted and the expected reward, only one is given")
        if predicted is not None and expected is not None:
            columns |= {"predicted": predicted, "expected": expected}
        numbers = {name: _column(name, values, len(reward)) for name, values in columns.items()}
        _refuse_probabilities(numbers["propensity"], numbers["target"])
        if clusters is not None and np.shape(clusters) != (len(reward),):
            raise MetricError(f"clusters {np.shape(clusters)} must be a column of {len(reward)} ids")
        code_N = np.arange(len(reward)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
        weight_N = numbers["target"] / numbers["propensity"]
        log = cls(numbers["reward"], weight_N, code_N, numbers.get("predicted"), numbers.get("expected"))
        log._refuse_empty()
        return log

    def judged(self, clip: float | None = None, level: float = LEVEL) -> OffPolicy:
        """All estimates that the columns allow, `clipped_ips` with a clip. MetricError for a clip of 0 or less."""
        if clip is not None and not clip > 0:
            raise MetricError(f"clip is {clip}, expected a weight above 0")
        r_N, w_N, m_N, e_N = self.reward_N, self.weight_N, self.predicted_N, self.expected_N
        estimates = {"ips": self._mean(w_N * r_N, level), "snips": self._ratio(r_N, level)}
        if clip is not None:
            estimates["clipped_ips"] = self._mean(np.minimum(w_N, clip) * r_N, level)
        if m_N is not None and e_N is not None:
            estimates["dr"] = self._mean(e_N + w_N * (r_N - m_N), level)
            estimates["sndr"] = self._ratio(r_N - m_N, level, e_N)
        floor = 0.0 if r_N.min() >= 0 else -np.inf  # what is estimated is no less
        estimates = {name: one._replace(low=max(one.low, floor)) for name, one in estimates.items()}
        logged = self._mean(r_N, level)
        return OffPolicy(logged._replace(low=max(logged.low, floor)), estimates, self._weights(clip, level))

    def _weights(self, clip: float | None, level: float) -> Weights:
        w_N, cut_N = self.weight_N, np.minimum(self.weight_N, np.inf if clip is None else clip)
        return Weights(
            rows=len(w_N),
            clusters=int(self.cluster_N.max()) + 1,
            mean=self._mean(w_N, level),
            effective_rows=_effective(w_N),
            effective_rewards=_effective(w_N * np.abs(self.reward_N)),
            largest=float(w_N.max()),
            clip=clip,
            clipped_rows=int((cut_N < w_N).sum()),
            clipped_mass=max(0.0, 1 - float(cut_N.mean())) if clip is not None else 0.0,
        )

    def _mean(self, values_N: np.ndarray, level: float) -> Interval:
        """The mean of a column."""
        value = float(values_N.mean())
        return self._interval(value, (values_N - value) / len(values_N), level)

    def _ratio(self, values_N: np.ndarray, level: float, shift_N: np.ndarray | float = 0.0) -> Interval:
        """mean(shift) + sum(w values) / sum(w)."""
        mean, w_N = float(np.mean(shift_N)), self.weight_N
        ratio = float(w_N @ values_N / w_N.sum())
        change_N = (shift_N - mean) / len(w_N) + w_N * (values_N - ratio) / w_N.sum()
        return self._interval(mean + ratio, change_N, level)

    def _interval(self, value: float, change_N: np.ndarray, level: float) -> Interval:
        """change_N: what the estimate changes by with each row."""
        change_K = np.bincount(self.cluster_N, change_N)
        most = float(np.abs(change_K).max())
        if not most:
            return Interval(value, 0.0, value, value)
        square_K = (change_K / most) ** 2  # from 0 to 1, so that no power of it runs out of numbers
        total = float(square_K.sum())
        freedom = max(total**2 / float(square_K @ square_K) - 1, 1.0)
        error = most * float(np.sqrt(total * len(square_K) / (len(square_K) - 1)))
        reach = error * float(stdtrit(freedom, 0.5 + level / 2))
        return Interval(value, error, value - reach, value + reach)

    def _refuse_empty(self) -> None:
        clusters = len(np.unique(self.cluster_N))
        if clusters < 2:
            raise MetricError(f"an off-policy interval needs two clusters of rows, not {clusters}")
        if not (self.weight_N * self.reward_N).any():
            repeated = int((self.weight_N > 0).sum())
            raise MetricError(f"none of the {repeated:,} rows that the target would repeat has a reward")


def _effective(weight_N: np.ndarray) -> float:
    return float(weight_N.sum() ** 2 / (weight_N @ weight_N))


def _column(name: str, values: np.ndarray, rows: int) -> np.ndarray:
    """float64 [N]. Raises MetricError when it is not N finite numbers."""
    column = np.asarray(values, np.float64)
    if column.shape != (rows,):
        raise MetricError(f"{name} {column.shape} must be a column of {rows} numbers")
    wrong = int((~np.isfinite(column)).sum())
    if wrong:
        raise MetricError(f"{name}: {wrong:,} of {rows:,} rows have no finite number")
    return column


def _refuse_probabilities(propensity_N: np.ndarray, target_N: np.ndarray) -> None:
    """Raises MetricError with the counts of what is no probability: an action that was logged was possible."""
    columns = (
        ("propensity", propensity_N, propensity_N <= 0, "0 or less"),
        ("target", target_N, target_N < 0, "below 0"),
    )
    for name, values_N, low_N, called in columns:
        low, high = int(low_N.sum()), int((values_N > 1).sum())
        if low or high:
            counts = " and ".join(f"{n:,} {what}" for n, what in ((low, called), (high, "above 1")) if n)
            raise MetricError(f"{name}: of {len(values_N):,} rows {counts}; it is the probability of the logged action")
