"""Whether variants got the traffic that was planned for them (Fabijan et al., KDD 2019).

Where they did not, some units are missing for a reason that may have to do with the variant, and no figure below can be
trusted: neither a lift nor its absence.
"""

from __future__ import annotations

from scipy import stats

from swrec_prod.abtest.record import SampleRatio

MISMATCH = 0.001  # a false alarm in one of a thousand experiments


def sample_ratio(units: dict[str, int], shares: dict[str, float]) -> SampleRatio:
    """The chi-squared test of units by variant against the planned shares, in any scale.

    >>> sample_ratio({"old": 5_000, "new": 4_600}, {"old": 0.5, "new": 0.5}).ok
    False
    """
    planned = {variant: share / sum(shares.values()) for variant, share in shares.items()}
    counts = {variant: units.get(variant, 0) for variant in planned}
    total = sum(counts.values())
    p = float(stats.chisquare(list(counts.values()), [share * total for share in planned.values()]).pvalue)
    return SampleRatio(counts, planned, p, p >= MISMATCH)


def mismatch_line(name: str, ratio: SampleRatio) -> str:
    """What stops the analysis, on one line."""
    seen, planned = _shares(ratio.units), ", ".join(f"{v} {share:.2%}" for v, share in ratio.planned.items())
    return f"sample ratio mismatch of {name} units: {seen}, planned {planned} (p {ratio.p:.1g} < {MISMATCH:g})"


def _shares(units: dict[str, int]) -> str:
    total = sum(units.values())
    return ", ".join(f"{variant} {count:,} ({count / total:.2%})" for variant, count in units.items())
