"""Up to which day of a log vocabularies and scalers are fitted; later days are left to judge models on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from itertools import accumulate


def last_fitted(said: date | float | None, rows: Mapping[date, int]) -> tuple[date, str]:
    """The last day that encoders are fitted on, and the rule in words.

    said: that day; or a share: the last day up to which there are at most so many of all rows; None: all but the last
    fifth of days. Where it is not said, a day is fitted at least, and one is held out where there are several.
    rows: of each day, in order.
    """
    if isinstance(said, date):
        return said, f"days: ..{said}"
    days = list(rows)
    if said is None:
        within, why = len(days) - max(round(len(days) / 5), 1), "all but the last 20 % of days"
    else:
        most = said * sum(rows.values())
        within, why = sum(total <= most for total in accumulate(rows.values())), f"at most {said:.3g} of rows"
    until = days[min(max(within, 1), max(len(days) - 1, 1)) - 1]
    return until, f"days: ..{until} ({why})"
