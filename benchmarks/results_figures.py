"""The figures of docs/results.md: every one is computed from predictions of finished runs,
with the rows of a user as one cluster.

Shapes: N test rows, R seeds, S scenarios.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from scipy.stats import false_discovery_control

from benchmarks.results_runs import Scores, TestRows
from swrec_prod.errors import SingleClassError
from swrec_prod.metrics import Interval, auc, gauc, logloss
from swrec_prod.statistics import Difference, auc_difference, auc_mean

BASELINES = ("shared_bottom", "dnn")
FALSE_DISCOVERIES = 0.05
KeyT = TypeVar("KeyT", bound=Hashable)
STRENGTHS = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)  # values of c that a table shows


class Line(NamedTuple):
    """A variant's figures, each a mean over its seeds. deviation: standard deviation of AUC over seeds, None for one
    seed; scenarios: AUC of each, None where all its labels are equal; macro: their mean.
    """

    variant: str
    seeds: tuple[int, ...]
    auc: Interval
    deviation: float | None
    logloss: float
    scenarios: list[float | None]
    macro: float | None
    gauc: float | None


class Compared(NamedTuple):
    """A difference of AUC, and whether it stays significant among all that were made with it."""

    difference: Difference
    significant: bool


class Liked(NamedTuple):
    """AUC against the true interest: of the probability, of the ranking score, of y_m alone;
    gain: score less probability.

    score, interest, gain: None without a causal split. ahead: the ranking score (or probability) less that of
    shared_bottom.
    """

    variant: str
    probability: Interval
    score: Interval | None
    interest: float | None
    gain: Difference | None
    ahead: Difference | None


def line_of(rows: TestRows, scores: Scores) -> Line:
    """All plain figures of one variant."""
    auc_R = [auc(rows.labels_N, logit_N) for logit_N in scores.logit_RN]
    parts = [np.flatnonzero(rows.scenario_N == s) for s in range(len(rows.scenarios))]
    by_scenario = [_mean_auc(rows.labels_N[part], scores.logit_RN[:, part]) for part in parts]
    known = [value for value in by_scenario if value is not None]
    return Line(
        scores.variant,
        scores.seeds,
        auc_mean(rows.labels_N, scores.logit_RN, rows.user_N),
        float(np.std(auc_R, ddof=1)) if len(auc_R) > 1 else None,
        float(np.mean([logloss(rows.labels_N, logit_N) for logit_N in scores.logit_RN])),
        by_scenario,
        float(np.mean(known)) if known else None,
        _mean_gauc(rows, scores.logit_RN),
    )


def against(rows: TestRows, scores: Sequence[Scores], baseline: str) -> dict[str, Compared]:
    """Every other variant less `baseline`, by variant; empty when the baseline has no finished run."""
    by_name = {s.variant: s for s in scores}
    if baseline not in by_name:
        return {}
    pairs = {name: (s.logit_RN, by_name[baseline].logit_RN) for name, s in by_name.items() if name != baseline}
    return compared({name: auc_difference(rows.labels_N, a, b, rows.user_N) for name, (a, b) in pairs.items()})


def changes(rows: TestRows, scores: Sequence[Scores]) -> dict[tuple[str, str], Compared]:
    """Variants that are another one with something changed, less that one: `mscan_fast` is a change of `mscan`."""
    by_name = {s.variant: s for s in scores}
    pairs = [(name, parent) for name in by_name if (parent := _parent(name, by_name)) is not None]
    return compared(
        {(a, b): auc_difference(rows.labels_N, by_name[a].logit_RN, by_name[b].logit_RN, rows.user_N) for a, b in pairs}
    )


def liked_of(rows: TestRows, scores: Sequence[Scores], chance_N: np.ndarray) -> list[Liked]:
    """Every variant against the true interest.

    chance_N: probability that the user likes the item, see `chance_of_liking`.
    """
    reference = next((s.logit_RN for s in scores if s.variant == BASELINES[0]), None)
    return [_liked(rows, s, chance_N, None if s.variant == BASELINES[0] else reference) for s in scores]


def strengths_of(labels_N: np.ndarray, scores: Scores) -> list[float]:
    """AUC of the ranking score over all scenarios for every c of STRENGTHS, mean of seeds.

    labels_N: or probabilities.
    """
    return [auc_mean(labels_N, np.stack([split.rescored(c) for split in scores.splits])).value for c in STRENGTHS]


def compared(found: Mapping[KeyT, Difference]) -> dict[KeyT, Compared]:
    """With the rate of false discoveries among them held (Benjamini & Hochberg 1995)."""
    if not found:
        return {}
    adjusted = false_discovery_control([difference.p for difference in found.values()])
    return {key: Compared(found[key], bool(p <= FALSE_DISCOVERIES)) for key, p in zip(found, adjusted, strict=True)}


def _liked(rows: TestRows, scores: Scores, chance_N: np.ndarray, reference: np.ndarray | None) -> Liked:
    probability = auc_mean(chance_N, scores.logit_RN, rows.user_N)
    ahead = None if reference is None else auc_difference(chance_N, scores.score_RN, reference, rows.user_N)
    if not scores.splits:
        return Liked(scores.variant, probability, None, None, None, ahead)
    interest_RN = np.stack([split.interest for split in scores.splits])
    gain = auc_difference(chance_N, scores.score_RN, scores.logit_RN, rows.user_N, same_seeds=True)
    return Liked(
        scores.variant,
        probability,
        auc_mean(chance_N, scores.score_RN, rows.user_N),
        auc_mean(chance_N, interest_RN).value,
        gain,
        ahead,
    )


def _parent(name: str, known: Mapping[str, Scores]) -> str | None:
    """The longest other variant that `name` continues behind an underscore."""
    return max((other for other in known if name.startswith(f"{other}_")), key=len, default=None)


def _mean_auc(labels_N: np.ndarray, logit_RN: np.ndarray) -> float | None:
    try:
        return float(np.mean([auc(labels_N, logit_N) for logit_N in logit_RN]))
    except SingleClassError:
        return None


def _mean_gauc(rows: TestRows, logit_RN: np.ndarray) -> float | None:
    try:
        return float(np.mean([gauc(rows.labels_N, logit_N, rows.user_N).value for logit_N in logit_RN]))
    except SingleClassError:
        return None
