"""By how much an AUC is better than another, in the two forms that papers call RelaImpr."""

from __future__ import annotations

from swrec_prod.errors import MetricError


def rela_impr(auc: float, base: float) -> float:
    """The usual form: (AUC - 0.5) / (base - 0.5) - 1, by how much more than guessing (Yan et al., ICML 2014, eq. 8).

    Raises MetricError for a base that is no better than guessing, since the sign would then mean the opposite.
    >>> round(rela_impr(0.62, 0.6), 3)
    0.2
    """
    if not base > 0.5:
        raise MetricError(f"RelaImpr over an AUC of {base:g} has no value, expected one above 0.5")
    return (auc - 0.5) / (base - 0.5) - 1


def auc_ratio_impr(auc: float, base: float) -> float:
    """The form behind the tables of M-scan, which calls it RelaImpr too: AUC / base - 1; a fraction of the other.

    Raises MetricError for a base of 0.
    >>> round(auc_ratio_impr(0.62, 0.6), 3)
    0.033
    """
    if not base > 0:
        raise MetricError(f"an AUC as a multiple of {base:g} has no value, expected one above 0")
    return auc / base - 1


def improvements(auc: float | None, base: float | None) -> dict[str, float | None]:
    """Both forms by their names; None where one has no value, as where one of the AUCs has none."""
    if auc is None or base is None:
        return {"rela_impr": None, "auc_ratio_impr": None}
    return {
        "rela_impr": rela_impr(auc, base) if base > 0.5 else None,
        "auc_ratio_impr": auc_ratio_impr(auc, base) if base > 0 else None,
    }
