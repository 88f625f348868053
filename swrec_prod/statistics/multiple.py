"""Many differences looked at, few of them real: what is significant when all of a family count.

- `benjamini-hochberg`: of the marks, a share of `level` may be false (Benjamini & Hochberg, JRSS B 1995); for looking
  through scenarios or models.
- `holm`: no mark is false, but for a chance of `level` (Holm, Scand. J. Statistics 1979); for a decision that one false
  mark spoils.

Both give adjusted p: significant is what is at most `level`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import false_discovery_control

from swrec_prod.errors import MetricError, nearest


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusted p by Holm's step-down: the i-th smallest of M times M - i + 1, and never below those before it.

    p: [M], in any order. The answer keeps the order.
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p_M = _checked(p)
    order = np.argsort(p_M)
    adjusted = np.empty_like(p_M)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_M[order] * np.arange(len(p_M), 0, -1)), 1)
    return adjusted


def benjamini_hochberg(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusted p by the step-up of Benjamini & Hochberg, scipy's. p: [M], in any order, which the answer keeps."""
    p_M = _checked(p)
    return np.asarray(false_discovery_control(p_M)) if len(p_M) else p_M


CONTROLS: Mapping[str, Callable[[Sequence[float] | np.ndarray], np.ndarray]] = {
    "benjamini-hochberg": benjamini_hochberg,
    "holm": holm,
}


def significant(
    p: Sequence[float] | np.ndarray, level: float = 0.05, control: str = "benjamini-hochberg"
) -> list[bool]:
    """Which of a family stay significant when all of it counts. control: of CONTROLS.

    Raises MetricError for another control, or a p outside [0, 1].
    >>> significant([0.01, 0.04, 0.03]), significant([0.01, 0.04, 0.03], control="holm")
    ([True, True, True], [True, False, False])
    """
    if control not in CONTROLS:
        raise MetricError(f"{control}: no control of several comparisons; {nearest(control, CONTROLS)}")
    return [bool(adjusted <= level) for adjusted in CONTROLS[control](p)]


def _checked(p: Sequence[float] | np.ndarray) -> np.ndarray:
    p_M = np.asarray(p, np.float64)
    wrong = p_M[~((p_M >= 0) & (p_M <= 1))]
    if p_M.ndim != 1 or len(wrong):
        raise MetricError(f"p must be a list of numbers from 0 to 1, not {wrong[0] if len(wrong) else p_M.shape}")
    return p_M
