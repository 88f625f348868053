"""Dataset: what is known about one raw source, and how it becomes the standard table.

The standard table has one row an impression. Its columns are called as in the raw log; the schema says which is what:

    <feature>    as its kind needs      what a feature reads (its `column`)
    <label>      whole number           what a label reads
    <scenario>   string                 the schema's `scenario.column`
    <user>       string or integer      the schema's `user`
    <time>       int64 or timestamp     the schema's `time`: microseconds since 1970, or timestamps, UTC where they have
                                        no zone
    <request>    string or integer      the schema's `request`, where it names one
    <weight>     number                 the schema's `weight`, where it names one
    row          int64                  the row's position in the raw log, where the source has one: it stays with the
                                        row for ever; without it rows are numbered day by day
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pydantic

from swrec_prod.engine.contract import Engine
from swrec_prod.strict import Strict
from swrec_prod.zones import Clock, clock_of

if TYPE_CHECKING:
    import ibis.expr.types as ir

# Columns of events, beside those of the raw log: day and hour since 1970, and a row's number for ever. (A column `row`
# of the raw log may be that number, or any other thing.)
DAY, HOUR, ROW = "_day", "_hour", "_row"


@dataclass(frozen=True)
class RawFile:
    """One file of the raw log, or of what is joined to it.

    day: the day of all rows of the file, where the source knows it (a log in day folders). Such a day is prepared by
        itself, and again when its files change. None: the file has rows of several days, or no dates; when it changes,
        everything is prepared again.
    table: the table of attributes that the file belongs to, by its name in the options; None for a file of the log.
    columns: name and value of the columns that the names of its folders give to all its rows; None: missing.
    below: its path below the raw folder, with slashes; "" where nothing asks for it.
    """

    path: Path
    day: date | None = None
    table: str | None = None
    columns: tuple[tuple[str, str | None], ...] = ()
    below: str = ""


RawFiles = tuple[RawFile, ...]


class PlacedOptions(Strict):
    """Options of a source whose dates are days of the place that the data file names (`utc_offset`)."""

    _clock: Clock = pydantic.PrivateAttr(default_factory=lambda: clock_of("+00:00"))

    @property
    def clock(self) -> Clock:
        """The clock of the place."""
        return self._clock

    def at(self, clock: Clock) -> Self:
        """The same options for another place."""
        options = self.model_copy()
        options._clock = clock
        return options


@dataclass(frozen=True)
class Dataset:
    """One source.

    data_file: the name of its default file in configs/data. options: what that file's `options` may hold.
    rows: about how many impressions. size: of the download, for people ("6 MB").
    locate(raw, cache, options): the raw files in the folder or file `raw`; without `raw` they are fetched into the
        folder `cache`, or a DataError says how to get them.
    read(engine, files, options): the standard table of (some of) those files, not evaluated yet.
    numbers_rows: whether a column `row` numbers the rows by all means; else it may be any column.
    outcomes: columns that are known only after the impression; labels may read them, features may not.
    span(path, options), for sources with files of one day: the first and last moment of such a file, in microseconds
        since 1970, or None when it has no rows.

    All raise DataError saying what is missing or wrong.
    """

    name: str
    summary: str
    rows: int
    size: str
    scenarios: str
    licence: str
    how_to_get: str
    data_file: str
    options: type[Strict]
    locate: Callable[[Path | None, Path, Any], RawFiles]
    read: Callable[[Engine, RawFiles, Any], ir.Table]
    numbers_rows: bool = True
    outcomes: tuple[str, ...] = ()
    span: Callable[[Path, Any], tuple[int, int] | None] | None = None
