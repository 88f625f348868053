"""Which days of a raw log a prepare has to do: new, changed and damaged ones, and those that look back to them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from swrec_prod.errors import DataError
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.staging.raw_log import RawLog, changed_days
from swrec_prod.staging.staging import Staging


def days_to_prepare(data_file: DataFile, log: RawLog, work: Staging, progress: Callable[[str], None]) -> list[date]:
    """The days of a dated log that are to be prepared; of another one all that may be.

    Raises DataError when a day that has to be prepared again, or to be looked back to, is no longer in the raw log.
    """
    damaged = work.journal.damaged
    changed = changed_days(log, damaged | work.journal.raw_files)
    for day, what in changed.items():
        if work.days:
            progress(f"{day}: {what}")
    todo = changed.keys() | (damaged.keys() - work.days.keys())
    earliest = min(changed, default=date.max)
    if todo and data_file.negatives:
        _check_pool(log, work)
    if why := _looks_back(data_file):
        behind = [day for day in log.by_day if day > earliest and day in work.days]
        if behind:
            progress(f"{behind[0]}..{behind[-1]}: prepared again, as {why} to {earliest}")
        todo |= set(behind)
        _check_reach(log, work, earliest)
    if todo and data_file.deduplicate.within == "log":
        _tell_gone(log, work, progress)
    return sorted(todo)


def _looks_back(data_file: DataFile) -> str | None:
    """Why days depend on those before them; None where they do not."""
    if data_file.features.of_kind("sequence"):
        return "their histories reach back"
    if data_file.negatives:
        return "their negatives reach back"
    dropped = data_file.deduplicate.within == "log"
    return "rows that it has are dropped there: deduplicate looks back" if dropped else None


def _tell_gone(log: RawLog, work: Staging, progress: Callable[[str], None]) -> None:
    """Days that the raw log no longer has drop no rows: it must be said, as they did when they were there."""
    gone = [day for day in work.days if day not in log.by_day]
    if gone:
        days = f"{len(gone):,} prepared days are no longer in the raw log (the last is {max(gone)})"
        progress(f"deduplicate: {days}: rows that repeat theirs stay")


def _check_reach(log: RawLog, work: Staging, earliest: date) -> None:
    """Raises DataError when days behind a new or changed one would keep histories without it."""
    lost = [day for day in work.days if day > earliest and day not in log.by_day]
    if lost:
        where = f"{work.out}: day {earliest} is new or changed, and {lost[0]} behind it must be prepared again"
        raise DataError(f"{where}, but the raw log no longer has it; bring it back, or prepare into another folder")


def _check_pool(log: RawLog, work: Staging) -> None:
    """Raises DataError when days that items are drawn from are no longer in the raw log."""
    gone = [day for day in work.days if day not in log.by_day]
    if gone:
        where = f"{work.out}: negatives are drawn from the raw log of all days, which no longer has {gone[0]}"
        raise DataError(f"{where}; bring it back, or prepare into another folder")
