"""How good predictions are: exact figures from labels and logits. numpy only.

- AUC is exact and tie-correct at any click rate; `RankStatistic` adds up over ranks, shards and days without loss.
- GAUC compares only candidates of one user, as a ranked page does.
- A figure that has no value (one class, no rows) raises MetricError here and is null with its reason in `measure`.

Shapes: N rows, T tasks. K distinct scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from swrec_prod.errors import MetricError, SingleClassError


class Grouped(NamedTuple):
    """A metric averaged over groups. value: the average; rows, groups: how many of them took part."""

    value: float
    rows: int
    groups: int


class Interval(NamedTuple):
    """An estimate with its standard error and the ends of a confidence interval."""

    value: float
    error: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class RankStatistic:
    """All that AUC needs to know of a set of rows; `a + b` is the statistic of both sets together, to the bit.

    score_K: distinct scores, rising; positives_K, negatives_K: the rows at each score (counts, or sums of weights).
    """

    score_K: np.ndarray
    positives_K: np.ndarray
    negatives_K: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> RankStatistic:
        """The statistic of N rows. labels: [N] of {0, 1}; scores: [N] finite; weights: [N] >= 0, default 1.

        Raises MetricError when the inputs are not that. No rows give the neutral element of `+`.
        """
        labels, scores = _checked(labels, scores)
        if weights is None:  # a plain sort of each class is faster than one argsort of both
            return cls._count(scores[labels == 1], positive=True) + cls._count(scores[labels == 0], positive=False)
        order = np.argsort(scores)
        scores, mass = scores[order], _checked_weights(weights, len(scores))[order]
        positive = mass * labels[order]
        starts = _block_starts(scores)
        return cls(scores[starts], _block_sums(positive, starts), _block_sums(mass - positive, starts))

    @classmethod
    def _count(cls, scores: np.ndarray, positive: bool) -> RankStatistic:
        """The statistic of rows of one class."""
        scores = np.sort(scores)
        starts = _block_starts(scores)
        rows = np.diff(np.append(starts, len(scores)))
        none = np.zeros_like(rows)
        return cls(scores[starts], rows if positive else none, none if positive else rows)

    def __add__(self, other: RankStatistic) -> RankStatistic:
        scores = np.concatenate((self.score_K, other.score_K))
        order = np.argsort(scores, kind="stable")
        starts = _block_starts(scores[order])
        positives = np.concatenate((self.positives_K, other.positives_K))[order]
        negatives = np.concatenate((self.negatives_K, other.negatives_K))[order]
        return RankStatistic(scores[order][starts], _block_sums(positives, starts), _block_sums(negatives, starts))

    def auc(self) -> float:
        """Area under the ROC curve, ties counted half. Raises SingleClassError when all labels are equal."""
        positives, negatives = self._totals()
        below = np.cumsum(self.negatives_K) - self.negatives_K
        return float(np.dot(self.positives_K, below + 0.5 * self.negatives_K) / (float(positives) * float(negatives)))

    def interval(self, level: float = 0.95) -> Interval:
        """AUC with DeLong's interval, from the sorted counts as in Sun & Xu (IEEE SPL 2014, eq. 12-14).

        The interval is symmetric on the logit scale, so that it stays inside [0, 1]. Needs two rows of each class.
        """
        positives, negatives = self._totals()
        if min(positives, negatives) < 2:
            raise MetricError(
                f"an AUC interval needs two rows of each class, not {positives} positive and {negatives} negative"
            )
        below = np.cumsum(self.negatives_K) - 0.5 * self.negatives_K  # midranks of this score among the negatives
        above = positives - np.cumsum(self.positives_K) + 0.5 * self.positives_K
        value = float(np.dot(self.positives_K, below / negatives) / positives)
        spread_positive = np.dot(self.positives_K, (below / negatives - value) ** 2) / (positives - 1)
        spread_negative = np.dot(self.negatives_K, (above / positives - value) ** 2) / (negatives - 1)
        error = float(np.sqrt(spread_positive / positives + spread_negative / negatives))
        return _logit_interval(value, error, level)

    def _totals(self) -> tuple[Any, Any]:
        positives, negatives = self.positives_K.sum(), self.negatives_K.sum()
        if not positives or not negatives:
            raise SingleClassError(_one_class(positives, negatives))
        return positives, negatives


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve, exact, ties counted half (Fawcett 2006, sec. 7).

    labels: [N] of {0, 1}; scores: [N] finite, any scale; weights: [N] >= 0, default 1.
    Returns a value in [0, 1]. Raises SingleClassError when all labels are equal.
    >>> auc(np.array([0, 1]), np.array([0.1, 0.4]))
    1.0
    """
    return RankStatistic.of(labels, scores, weights).auc()


def auc_interval(labels: np.ndarray, scores: np.ndarray, level: float = 0.95) -> Interval:
    """AUC and its confidence interval by DeLong's variance; O(N log N), see `RankStatistic.interval`.

    labels: [N] of {0, 1}; scores: [N] finite. Raises MetricError with fewer than two rows of either class.
    """
    return RankStatistic.of(labels, scores).interval(level)


def gauc(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> Grouped:
    """AUC within each user, averaged with the user's rows as weight (Zhou et al., KDD 2018, eq. 6).

    labels: [N] of {0, 1}; scores: [N] finite; users: [N] ids of any type. Users whose labels are all equal are left
    out; `rows` and `groups` say how many rows and users counted. Raises SingleClassError when no user counts.
    >>> gauc(np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.4, 0.3, 0.6, 0.9]), np.array([7, 7, 8, 8, 9]))
    Grouped(value=0.5, rows=4, groups=2)
    """
    labels, scores = _checked(labels, scores)
    group = _codes(users, len(scores))
    order = np.argsort(scores)
    order = order[np.argsort(group[order], kind="stable")]
    group, positive = group[order], labels[order].astype(np.int64)
    starts = _block_starts(group, scores[order])
    positives, rows = _block_sums(positive, starts), np.diff(np.append(starts, len(group)))
    negatives = rows - positives
    first = _block_starts(group[starts])  # the first block of each user
    user_positives, user_negatives = _block_sums(positives, first), _block_sums(negatives, first)
    before = np.cumsum(negatives) - negatives
    before -= np.repeat(before[first], np.diff(np.append(first, len(starts))))
    wins = _block_sums(positives * (before + 0.5 * negatives), first)
    pairs = user_positives * user_negatives
    counted = pairs > 0
    if not counted.any():
        raise SingleClassError(f"none of {len(first)} users has both a positive and a negative row")
    weight = (user_positives + user_negatives)[counted]
    return Grouped(
        float(np.average(wins[counted] / pairs[counted], weights=weight)), int(weight.sum()), int(counted.sum())
    )


def logloss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean negative log-likelihood in nats, from logits, so that no probability rounds to 0 or 1.

    labels: [N] of {0, 1}; logits: [N] finite. Raises MetricError without rows.
    """
    labels, logits = _some(labels, logits)
    return float(np.mean(np.maximum(logits, 0) - labels * logits + np.log1p(np.exp(-np.abs(logits)))))


def ne(labels: np.ndarray, logits: np.ndarray) -> float:
    """Normalised entropy: log loss over the entropy of the base rate (He et al., ADKDD 2014, eq. 1). Below 1 is better
    than predicting the mean click rate for everybody.

    labels: [N] of {0, 1}; logits: [N] finite. Raises SingleClassError when all labels are equal.
    """
    labels, logits = _some(labels, logits)
    rate = labels.mean()
    if rate in (0, 1):
        raise SingleClassError(_one_class(int(labels.sum()), int((1 - labels).sum())))
    return logloss(labels, logits) / float(-rate * np.log(rate) - (1 - rate) * np.log1p(-rate))


def calibration(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean predicted probability over mean label; 1 is right, above 1 promises too many clicks.

    labels: [N] of {0, 1}; logits: [N] finite. Raises SingleClassError without a positive label.
    """
    labels, logits = _some(labels, logits)
    if not labels.any():
        raise SingleClassError(_one_class(0, len(labels)))
    return float(sigmoid(logits).mean() / labels.mean())


class Bins(NamedTuple):
    """Equal-mass bins of rising prediction. rows: int64; predicted, observed: mean probability and mean label."""

    rows: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray


def calibration_bins(labels: np.ndarray, logits: np.ndarray, bins: int = 20) -> Bins:
    """Rows cut into at most `bins` bins of equal mass by prediction; equal predictions share a bin.

    labels: [N] of {0, 1}; logits: [N] finite. Raises MetricError without rows.
    """
    labels, logits = _some(labels, logits)
    order = np.argsort(logits)
    labels, logits = labels[order], logits[order]
    ties = _block_starts(logits)
    sizes = np.diff(np.append(ties, len(logits)))
    starts = _block_starts(np.repeat(ties * bins // len(logits), sizes))  # a tie lies where its first row lies
    rows = np.diff(np.append(starts, len(logits)))
    return Bins(rows, np.add.reduceat(sigmoid(logits), starts) / rows, np.add.reduceat(labels, starts) / rows)


def ece(labels: np.ndarray, logits: np.ndarray, bins: int = 20) -> float:
    """Expected calibration error: mean |predicted - observed| over equal-mass bins (Nguyen & O'Connor, EMNLP 2015).

    labels: [N] of {0, 1}; logits: [N] finite. Raises MetricError without rows.
    """
    rows, predicted, observed = calibration_bins(labels, logits, bins)
    return float(np.average(np.abs(predicted - observed), weights=rows))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z)) in float64, without overflow."""
    small = np.exp(-np.abs(np.asarray(logits, np.float64)))
    return np.where(np.asarray(logits) >= 0, 1.0, small) / (1.0 + small)


class Rows(NamedTuple):
    """What a metric may look at; each is [N]."""

    labels: np.ndarray
    logits: np.ndarray
    users: np.ndarray


METRICS: dict[str, Callable[[Rows], float]] = {
    "auc": lambda rows: auc(rows.labels, rows.logits),
    "gauc": lambda rows: gauc(rows.labels, rows.logits, rows.users).value,
    "logloss": lambda rows: logloss(rows.labels, rows.logits),
    "ne": lambda rows: ne(rows.labels, rows.logits),
    "calibration": lambda rows: calibration(rows.labels, rows.logits),
    "ece": lambda rows: ece(rows.labels, rows.logits),
}


def measure(labels: np.ndarray, logits: np.ndarray, users: np.ndarray) -> dict[str, Any]:
    """Every metric of METRICS as one JSON-ready record M, with `rows` and `positives`.

    labels: [N] of {0, 1}; logits: [N]; users: [N]. A metric without a value is None, and `reasons` says why;
    `reasons` is there only when it is needed.
    """
    rows = Rows(np.asarray(labels), np.asarray(logits), np.asarray(users))
    record: dict[str, Any] = {"rows": len(rows.labels), "positives": int(np.sum(rows.labels))}
    reasons: dict[str, str] = {}
    for name, metric in METRICS.items():
        try:
            record[name] = metric(rows)
        except MetricError as failure:
            record[name] = None
            reasons[name] = str(failure)
    return {**record, "reasons": reasons} if reasons else record


def summarise(
    labels: np.ndarray,
    logits: np.ndarray,
    users: np.ndarray,
    scenarios: np.ndarray,
    scenario_values: Sequence[str],
    tasks: Sequence[str] = (),
) -> dict[str, Any]:
    """`{"overall": M, "scenarios": {value: M}, "macro": M}`: the metrics of metrics.json.

    labels, logits: [N] or [N, T]; users: [N]; scenarios: int [N], indices into scenario_values. macro is the plain mean
    over the scenarios that have a value. With several tasks the first is at the top level, and `tasks` holds every
    task's record by its name. Raises MetricError for an index without a name or tasks that do not fit the logits.
    """
    labels_NT, logits_NT = (a[:, None] if a.ndim == 1 else a for a in map(np.asarray, (labels, logits)))
    num_tasks = logits_NT.shape[1]
    if len(tasks or "1") != num_tasks or labels_NT.shape != logits_NT.shape:
        raise MetricError(f"labels {labels_NT.shape} and logits {logits_NT.shape} do not fit tasks {list(tasks)}")
    users = _codes(users, len(labels_NT))
    by_task = [
        _summarise_task(labels_NT[:, t], logits_NT[:, t], users, np.asarray(scenarios), scenario_values)
        for t in range(num_tasks)
    ]
    return by_task[0] if num_tasks == 1 else {**by_task[0], "tasks": dict(zip(tasks, by_task, strict=True))}


def macro(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each metric over the records that have it; rows and positives are totals."""
    mean: dict[str, Any] = {key: sum(record[key] for record in records) for key in ("rows", "positives")}
    reasons: dict[str, str] = {}
    for name in METRICS:
        values = [record[name] for record in records if record[name] is not None]
        mean[name] = float(np.mean(values)) if values else None
        if not values:
            reasons[name] = f"none of {len(records)} scenarios has a value"
    return {**mean, "reasons": reasons} if reasons else mean


def _summarise_task(
    labels: np.ndarray, logits: np.ndarray, users: np.ndarray, scenarios: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    if len(scenarios) and not 0 <= scenarios.min() <= scenarios.max() < len(names):
        raise MetricError(
            f"scenario indices run from {scenarios.min()} to {scenarios.max()}, but {len(names)} scenarios are named"
        )
    order = np.argsort(scenarios, kind="stable")
    parts = np.split(order, np.searchsorted(scenarios[order], np.arange(1, len(names))))
    records = {name: measure(labels[part], logits[part], users[part]) for name, part in zip(names, parts, strict=True)}
    return {"overall": measure(labels, logits, users), "scenarios": records, "macro": macro(list(records.values()))}


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise MetricError(f"labels {labels.shape} and scores {scores.shape} must be two equally long columns")
    wrong = (labels != 0) & (labels != 1)
    if wrong.any():
        raise MetricError(f"a label is 0 or 1, not {labels[wrong][0]:g} ({wrong.sum()} of {len(labels)} rows)")
    finite = np.isfinite(scores)
    if not finite.all():
        raise MetricError(f"{(~finite).sum()} of {len(scores)} scores are not finite numbers")
    return labels, scores


def _some(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = _checked(labels, scores)
    if not len(labels):
        raise MetricError("there are no rows")
    return labels, scores


def _checked_weights(weights: np.ndarray, rows: int) -> np.ndarray:
    weights = np.asarray(weights, np.float64)
    if weights.shape != (rows,) or not (weights >= 0).all():
        raise MetricError(f"weights {weights.shape} must be {rows} numbers >= 0")
    return weights


def _codes(users: np.ndarray, rows: int) -> np.ndarray:
    """Users as int64 codes, whatever their type."""
    users = np.asarray(users)
    if users.shape != (rows,):
        raise MetricError(f"users {users.shape} must be a column of {rows} ids")
    return users if np.issubdtype(users.dtype, np.integer) else np.unique(users, return_inverse=True)[1]


def _one_class(positives: Any, negatives: Any) -> str:
    total = positives + negatives
    return f"all {total:g} labels are {int(positives > 0)}" if total else "there are no rows"


def _block_starts(*columns: np.ndarray) -> np.ndarray:
    """Where a run of equal values (of all columns) starts; [] for no rows."""
    if not len(columns[0]):
        return np.zeros(0, np.int64)
    changes = np.zeros(len(columns[0]) - 1, bool)
    for column in columns:
        changes |= column[1:] != column[:-1]
    return np.concatenate(([0], np.flatnonzero(changes) + 1))


def _block_sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.add.reduceat(values, starts) if len(starts) else values[:0]


def _logit_interval(value: float, error: float, level: float) -> Interval:
    """Delta method on log(v / (1 - v)) (Pepe 2003, sec. 5.2); at 0 and 1 the error is 0 and so is the width."""
    if not 0 < value < 1:
        return Interval(value, error, value, value)
    reach = NormalDist().inv_cdf(0.5 + level / 2) * error / (value * (1 - value))
    low, high = sigmoid(np.log(value / (1 - value)) + np.array([-reach, reach]))
    return Interval(value, error, float(low), float(high))
