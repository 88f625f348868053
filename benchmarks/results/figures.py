"""What docs/results.md has that `swrec compare` has not: variants that change another one, and the true interest of
simulated rows. Figures are computed from predictions of finished runs, with the rows of a user as one cluster.

Shapes: N test rows, R seeds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from swrec_prod.compare.comparison import Contrast, JudgedVariants, contrasts
from swrec_prod.compare.runs import Scores, TestRows
from swrec_prod.metrics.ranks import Interval
from swrec_prod.statistics.paired import Difference, auc_difference, auc_mean

BASELINES = ("shared_bottom", "dnn")


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


def changes(judged: JudgedVariants) -> dict[tuple[str, str], Contrast]:
    """Variants that are another one with something changed, less that one: `mscan_fast` is a change of `mscan`."""
    pairs = [(name, parent) for name in judged.scores if (parent := _parent(name, judged.scores)) is not None]
    return contrasts({(name, parent): judged.whole.difference(name, parent) for name, parent in pairs})


def liked_of(rows: TestRows, scores: Sequence[Scores], chance_N: np.ndarray) -> list[Liked]:
    """Every variant against the true interest.

    chance_N: probability that the user likes the item, see `chance_of_liking`.
    """
    reference = next((s.logit_RN for s in scores if s.variant == BASELINES[0]), None)
    return [_liked(rows, s, chance_N, None if s.variant == BASELINES[0] else reference) for s in scores]


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


def _parent(name: str, known: Collection[str]) -> str | None:
    """The longest other variant that `name` continues behind an underscore."""
    return max((other for other in known if name.startswith(f"{other}_")), key=len, default=None)
