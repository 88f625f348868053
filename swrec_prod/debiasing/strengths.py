"""What c, the strength with which the scenario's direct influence is taken away, changes, and what it leaves alone.

score = sigmoid(y_s) (y_m - c) (M-scan, Zhu et al., WWW 2024, eq. 12). Inside a scenario y_s is one number, so that c
moves no row past another; between scenarios it does. Hence, of one table and for every c, without inference:

    pooled AUC, GAUC and NDCG    of the score, over rows of all scenarios together
    liked                        AUC against a draw with P(click) as it would be without direct effects, where known
    page shares                  whose rows take the first k places of each user's page: the counterfactual replay
    moved                        which share of those places other rows have than at c = 0
    page rate                    clicks a row in those places. In traffic that chance chose it is what pages ordered so
                                 would get (SNIPS with equal propensities); in all other traffic it is of rows that the
                                 policy of the log chose

The probability knows no c: log loss and calibration are the same everywhere. Intervals are of 95 %, with users as
clusters.

Shapes: N rows, S scenarios, G users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from swrec_prod.debiasing.causal_rows import CausalRows
from swrec_prod.errors import MetricError
from swrec_prod.metrics.group_sums import Blocks, ByGroup
from swrec_prod.metrics.probabilities import sigmoid
from swrec_prod.metrics.ranks import Interval
from swrec_prod.metrics.within_groups import gauc_by_group, ndcg_by_group
from swrec_prod.statistics.off_policy import LoggedActions
from swrec_prod.statistics.paired import auc_mean
from swrec_prod.statistics.spread import mean_and_spread

NDCG_K = 10


class Strength(NamedTuple):
    """The figures of one c. name: "0", "2", or "own" where each scenario has its own. A figure is None where there are
    no labels, or not both of them. shares: of page places by scenario.
    """

    name: str
    auc: Interval | None
    gauc: Interval | None
    ndcg: Interval | None
    liked: Interval | None
    page_rate: Interval | None
    shares: tuple[float, ...]
    moved: float


class ScenarioFigures(NamedTuple):
    """What no c changes. rate, probability: mean label and probability, calibration their quotient; auc: inside the
    scenario; factor: mean sigmoid(y_s); interest: mean y_m; spread: the range of y_s, 0 where c cannot reorder.
    """

    name: str
    rows: int
    rate: float | None
    calibration: float | None
    auc: Interval | None
    factor: float
    interest: float
    spread: float


def strengths(rows: CausalRows, grid: Iterable[float], own: np.ndarray | None, k: int) -> list[Strength]:
    """The figures for every c of `grid`, and for `own`, [S], where the run's c differs by scenario.

    k: places of a page.
    """
    settings: list[tuple[str, float | np.ndarray]] = [(f"{c:g}", c) for c in grid]
    settings += [] if own is None else [("own", own)]
    at_zero = first_places(rows.page_N, rows.scores(0.0), k)
    return [_strength(rows, name, rows.scores(c), at_zero, k) for name, c in settings]


def first_places(page_N: np.ndarray, score_N: np.ndarray, k: int) -> np.ndarray:
    """bool [N]: the k rows of each page with the highest scores; of equal ones the earlier row."""
    order = np.lexsort((-score_N, page_N))
    page = page_N[order]
    place = np.arange(len(page)) - np.searchsorted(page, page)
    shown_N = np.zeros(len(page), bool)
    shown_N[order] = place < k
    return shown_N


def by_scenario(rows: CausalRows) -> list[ScenarioFigures]:
    """The figures of each scenario that has rows, busiest first."""
    sizes = np.bincount(rows.scenario_N, minlength=len(rows.scenarios))
    return [_of_scenario(rows.take(rows.scenario_N == s), rows.scenarios[s]) for s in np.argsort(-sizes) if sizes[s]]


def _strength(rows: CausalRows, name: str, score_N: np.ndarray, at_zero_N: np.ndarray, k: int) -> Strength:
    shown_N = first_places(rows.page_N, score_N, k)
    places_S = np.bincount(rows.scenario_N[shown_N], minlength=len(rows.scenarios))
    label_N, liked_N = rows.label_N, rows.liked_N
    return Strength(
        name,
        None if label_N is None else _known(lambda: auc_mean(label_N, score_N, rows.user_N)),
        None if label_N is None else _grouped(gauc_by_group(Blocks.of(label_N, score_N, rows.user_N, None))),
        None if label_N is None else _grouped(ndcg_by_group(Blocks.of(label_N, score_N, rows.user_N, None), NDCG_K)),
        None if liked_N is None else _known(lambda: auc_mean(liked_N, score_N, rows.user_N)),
        None if label_N is None else _page_rate(label_N[shown_N], rows.user_N[shown_N]),
        tuple((places_S / places_S.sum()).tolist()),
        float((at_zero_N & ~shown_N).sum() / at_zero_N.sum()),
    )


def _of_scenario(rows: CausalRows, name: str) -> ScenarioFigures:
    label_N, probability = rows.label_N, sigmoid(rows.scores(0.0)).mean()
    rate = None if label_N is None else float(label_N.mean())
    return ScenarioFigures(
        name,
        len(rows),
        rate,
        float(probability / rate) if rate else None,
        None if label_N is None else _known(lambda: auc_mean(label_N, rows.scores(0.0), rows.user_N)),
        float(sigmoid(rows.split.scenario).mean()),
        float(rows.split.interest.mean()),
        float(np.ptp(rows.split.scenario)),
    )


def _page_rate(label_N: np.ndarray, user_N: np.ndarray) -> Interval | None:
    """Clicks a place, as off-policy estimates have it where every propensity is the same."""
    same_N = np.ones(len(label_N))
    return _known(lambda: LoggedActions.of(label_N, same_N, same_N, user_N).judged().estimates["snips"])


def _grouped(groups: ByGroup) -> Interval | None:
    """The average over users with its interval."""
    value_G, weight_G = groups.value_G, groups.weight_G
    if len(value_G) < 2:
        return None
    mean, spread = mean_and_spread(weight_G * value_G, weight_G)
    reach = spread.quantile() * spread.error
    return Interval(mean, spread.error, max(0.0, mean - reach), min(1.0, mean + reach))


def _known(figure: Callable[[], Interval]) -> Interval | None:
    try:
        return figure()
    except MetricError:  # one class, or fewer than two users of either
        return None
