"""Which rows of a prepared folder a day is."""

from __future__ import annotations

from datetime import date

from swrec_prod.config import DataConfig, DayRanges


def of_day(data: DataConfig, day: date) -> DataConfig:
    """The same data, on one day alone, whatever it is read for."""
    ranges = DayRanges.model_construct(train=str(day), valid=str(day), test=str(day))
    return data.model_copy(update={"split": "days", "days": ranges})
