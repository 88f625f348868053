"""What several scenarios' figures are on average: each counting alike, or by its rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

TOTALS = ("rows", "positives", "grouped_rows", "request_rows")


def macro(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The plain mean of each metric over the records that have it; rows, positives and the like are totals."""
    return _mean(records, [1.0] * len(records))


def traffic(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each metric over the records that have it, weighted by their rows; otherwise as `macro`."""
    return _mean(records, [float(record["rows"]) for record in records])


def _mean(records: Sequence[dict[str, Any]], weights: Sequence[float]) -> dict[str, Any]:
    """Sums are exact before they are rounded, so that the order of scenarios does not matter."""
    names = dict.fromkeys(name for record in records for name in record if name != "reasons")
    mean: dict[str, Any] = {name: sum(record.get(name, 0) for record in records) for name in names if name in TOTALS}
    reasons: dict[str, str] = {}
    for name in (name for name in names if name not in TOTALS):
        known = [(record[name], w) for record, w in zip(records, weights, strict=True) if record.get(name) is not None]
        total = math.fsum(weight for _, weight in known)
        mean[name] = math.fsum(value * weight for value, weight in known) / total if total else None
        if not total:
            reasons[name] = f"none of {len(records)} scenarios has a value"
    return {**mean, "reasons": reasons} if reasons else mean
