"""How much data until a difference is seen, and what difference is seen with the data there is.

A difference x of standard error e is seen (significant, two-sided, at `level`) with probability `power` when
x = (z_level + z_power) e (Lehr's and the usual formula, e.g. van Belle 2008, ch. 2; the wrong direction's chance is
left out). e² falls as 1 / clusters as long as new users are like those that were seen; what training seeds add to it
does not fall: it takes more seeds. Days count as users do: twice the days are taken to bring twice the users. Where
users come back the need is somewhat larger, since their rows repeat what theirs have said.

The error comes from a finished comparison (`Difference.error`), from one model's AUC alone
(`planned_difference_error`), or from no model at all (`planned_auc_error`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy.special import ndtri

from swrec_prod.errors import MetricError


class Variances(NamedTuple):
    """Of a difference. rows: the part that falls with more users or days; fixed: what does not, of training seeds."""

    rows: float
    fixed: float = 0.0


def smallest_difference(variances: Variances, level: float = 0.95, power: float = 0.8) -> float:
    """The difference that is seen with the data there is.

    >>> round(smallest_difference(Variances(0.001**2)), 5)
    0.0028
    """
    return _reach(level, power) * math.sqrt(variances.rows + variances.fixed)


def times_the_data(difference: float, variances: Variances, level: float = 0.95, power: float = 0.8) -> float | None:
    """How many times the users or days it takes to see a difference; below 1 where fewer would do, None where no number
    of them is enough, because of the seeds.

    Raises MetricError for a difference of 0 or none.
    >>> round(times_the_data(0.001, Variances(0.001**2)), 2)
    7.85
    """
    if not abs(difference) > 0 or not math.isfinite(difference):
        raise MetricError(f"the difference to be seen is {difference}; expected a number other than 0, as 0.001")
    wanted = (difference / _reach(level, power)) ** 2 - variances.fixed
    return variances.rows / wanted if wanted > 0 else None


def clusters_needed(
    difference: float, variances: Variances, clusters: int, level: float = 0.95, power: float = 0.8
) -> int | None:
    """Users (or other clusters, or days) to see a difference, when `variances` are those of `clusters` of them; at
    least 2.

    None where no number is enough.
    >>> clusters_needed(0.001, Variances(0.001**2), 5000)
    39245
    """
    times = times_the_data(difference, variances, level, power)
    return None if times is None else max(2, math.ceil(times * clusters - 1e-9))


def planned_difference_error(auc_error: float, correlation: float) -> float:
    """Standard error of the difference of two AUCs of like error on the same rows, before the second model exists.

    correlation: of the two AUCs over samples of users; two seeds of one model have 0.9 to 0.99, two unlike models less.
    It is 1 - e² / (2 auc_error²) for an error e of a difference seen before. Raises MetricError outside [-1, 1).
    """
    if not -1 <= correlation < 1:
        raise MetricError(f"the correlation of two AUCs is {correlation}, expected from -1 to below 1, as 0.9")
    return auc_error * math.sqrt(2 * (1 - correlation))


def planned_auc_error(auc: float, positives: float, negatives: float, design_effect: float = 1.0) -> float:
    """Standard error of an AUC before there are rows (Hanley & McNeil, Radiology 1982, eq. 1-2).

    design_effect: by how much clusters raise the variance, 1 for independent rows; the square of the ratio of the
    clustered to the plain error of a similar log. Raises MetricError for an AUC outside (0, 1), or fewer than two rows
    of a class.
    """
    if not 0 < auc < 1 or min(positives, negatives) < 2:
        raise MetricError(f"AUC {auc} with {positives:g} positive and {negatives:g} negative rows has no planned error")
    of_positives, of_negatives = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (of_positives - auc**2) + (negatives - 1) * (of_negatives - auc**2)
    return math.sqrt(design_effect * variance / (positives * negatives))


def _reach(level: float, power: float) -> float:
    """Standard errors between no difference and one that is seen."""
    if not 0 < level < 1 or not 0 < power < 1:
        raise MetricError(f"level {level} and power {power} are probabilities, between 0 and 1")
    return float(ndtri(0.5 + level / 2) + ndtri(power))
