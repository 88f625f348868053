"""Intervals that hold however often one looks: asymptotic confidence sequences.

A normal mixture over the estimate's information I = 1 / error^2 (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52, 2024): with
x = rho^2 I the estimate stays for all looks at once, with probability 1 - level, within

    error * sqrt(2 (1 + 1/x) log(sqrt(1 + x) / level))

of the truth. Solved for the level at which 0 is at the edge, it gives the p-value of the mixture sequential probability
ratio test (Johari, Koomen, Pekelis and Walsh, Operations Research 70, 2022). It is written here because scipy and
tea-tasting have no sequential test, and confseq, which has, is a compiled extension for what are three lines.

Information counts instead of units, as units that come back add to what is known. Since their days go together, looks
are closer to each other than the theory assumes, which makes the intervals wider than they need to be, never narrower.
"""

from __future__ import annotations

import numpy as np

FLOOR = 1e-300  # of a p-value


def best_x(level: float) -> float:
    """x at which intervals of `level` are narrowest, as compared with those of one look (the paper's rho)."""
    log_two_sided = -2 * np.log(level)
    return float(log_two_sided + np.log(log_two_sided + 1))


def width(x: float, level: float) -> float:
    """Half the width of the interval in standard errors. x: rho^2 times the information, > 0."""
    return float(np.sqrt(2 * (1 + 1 / x) * (0.5 * np.log1p(x) - np.log(level))))


def p_value(z: float, x: float) -> float:
    """The level at which the interval around an estimate of `z` standard errors ends at 0; at most 1."""
    return float(np.clip(np.exp(0.5 * np.log1p(x) - 0.5 * z * z * x / (1 + x)), FLOOR, 1.0))


def x_of_looks(errors: list[float], level: float, horizon: int) -> list[float]:
    """x at each look: narrowest when `horizon` times the information of the first look is there.

    errors: standard errors, > 0. The first look fixes rho, so that later ones cannot change what earlier ones said.
    """
    information = 1 / np.square(errors)
    return list(map(float, best_x(level) * information / information[0] / horizon))
