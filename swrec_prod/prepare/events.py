"""The events of a raw log, as expressions that are evaluated later: etl.standard of some days, or of all of a log.

A log in files of one day each gives the events of any days, and reads no other day's files. A log without days is
evaluated once, and with a random split its rows are dealt then.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import ibis
import numpy as np
import pyarrow as pa

from swrec_prod.behaviours.brought import check_lists
from swrec_prod.behaviours.seed import SEED, Seeds
from swrec_prod.computed.columns import derived_types, with_derived
from swrec_prod.computed.lookup_files import LookupFiles, read_lookups
from swrec_prod.encoding.derived import DerivedColumns
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError, nearest
from swrec_prod.logs.random_split import SPLITS, RandomSplit
from swrec_prod.logs.row_numbers import NumberedBy, RowNumbers, repeated
from swrec_prod.negatives.rows import happened, negatives
from swrec_prod.prepare import etl
from swrec_prod.prepare.check import check_columns
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.profile import Profile, check_numbers, day_of, number_of
from swrec_prod.raw.source import RawFiles
from swrec_prod.staging.raw_log import RawLog

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import date
    from pathlib import Path

    import ibis.expr.types as ir

SEARCHED_ROWS = 20_000_000  # in a log of more rows nobody asked to wait for a line


class Events:
    """What happened, by the log and its data file. progress: takes a line before all of a log is read.

    lookups: the files of the tables that derived columns look up. raw: the folder of the log. seeds: what happened
    before it. numbered: how the rows of days that are prepared already are numbered; None where there are none.
    """

    def __init__(
        self,
        engine: Engine,
        data_file: DataFile,
        log: RawLog,
        raw: Path | None,
        progress: Callable[[str], None],
        lookups: LookupFiles | None = None,
        numbered: NumberedBy | None = None,
    ) -> None:
        self.engine, self.data_file, self.log, self.progress = engine, data_file, log, progress
        self.lookups = lookups or {}
        self.schema = data_file.features
        self.numbers = RowNumbers(data_file.row, certain=data_file.dataset.numbers_rows, before=numbered)
        self.splits: dict[str, int] | None = None  # rows of train, valid and test, once they are dealt
        self.seeds = Seeds(engine, self.schema, data_file.seed, raw, self._first_rows)
        self._views: dict[tuple[date, ...], ir.Table] = {}
        self._negatives: dict[date, ir.Table] = {}  # of a log with days, evaluated

    def of(self, days: list[date]) -> ir.Table:
        """The events of these days, of all days where the log has none, and the negatives that are drawn for them."""
        if not self.log.has_days:
            return self._all
        if (asked := tuple(days)) not in self._views:
            standard = self._numbered(lambda: self.engine.view(self._standard(days)))
            self._views[asked] = self._with_negatives(standard, days)
        return self._views[asked]

    def happened(self, days: list[date]) -> ir.Table:
        """The events without negatives: what behaviours and vocabularies are made of."""
        if self.log.has_days and self.data_file.negatives:
            return self.engine.view(self._standard(days))
        return happened(self.of(days)) if self.data_file.negatives else self.of(days)

    def profile(self, days: list[date], *, expected: bool) -> Profile:
        """What there is on these days, checked. expected: no rows at all are an error.

        Raises DataError for files of another day, columns and values that cannot be used, and row numbers that are not
        of one row.
        """
        events = self.of(days)
        if self.log.has_days:
            self._check_days(days)
        profile = Profile(self.engine.arrow(etl.profile(events, self.schema)), self.schema)
        for note in dict.fromkeys(self.engine.notes):
            self.progress(note)
        if profile.rows or expected:
            profile.check(self.name(days), self.log.place)
            if not self.data_file.negatives:  # before they are drawn it was checked
                self._check_numbers(events)
            check_lists(self.engine, events, self.schema, lambda number: self.log.place(day_of(number)))
            self._tell_repeats(self.happened(days), profile)
        return profile

    def _check_numbers(self, events: ir.Table) -> None:
        """Raises DataError for numbers that are not of one row of the log; those of etl.standard are unique."""
        if (row := self.numbers.column) and not self.numbers.are_checked:
            check_numbers(self.engine.arrow(repeated(events)), row, self.log.place)

    def name(self, days: list[date]) -> str:
        """What is read of these days, for messages."""
        return self.log.place(days[0]) if len(days) == 1 else self.data_file.source

    def _numbered(self, standard: Callable[[], ir.Table]) -> ir.Table:
        """`standard()`; once more where it shows that the log's column `row` is no number of rows."""
        self.numbers.settle(self._types, self.data_file.source)
        events = standard()
        if why := self.numbers.try_on(self.engine, events):
            self.progress(why)
            events = standard()
        return events

    def _tell_repeats(self, events: ir.Table, profile: Profile) -> None:
        """Say how many rows other days repeat, where `deduplicate` looks at one day; huge logs are not searched."""
        same = self.data_file.deduplicate
        if same.columns and same.within == "day" and len(profile.days) > 1 and profile.rows <= SEARCHED_ROWS:
            rows = self.engine.arrow(same.repeats(events))["rows"][0].as_py()
            if rows:
                said = f"deduplicate: {rows:,} of {profile.rows:,} rows are equal to one of an earlier day, and stay"
                self.progress(f"{said}; {{columns: [{', '.join(same.columns)}], within: log}} drops them")

    def _standard(self, days: list[date]) -> ir.Table:
        files = _read_files(self.log.of_days(days) if self.log.has_days else self.log.files)
        table = self._read(files)
        types, untyped = dict(table.schema().items()), self.log.untyped(files)
        more, row = (self.data_file.deduplicate.columns, self.data_file.keep), self.numbers.column
        needed = [*etl.needed(self.schema, (*more[0], *more[1])), *([row] if row else [])]
        # what only other days have is missing on these
        wanted = {name: self._types[name] for name in needed if name in self._types}
        untyped_here = {name for name, kind in wanted.items() if name in untyped and types[name] != kind}
        absent = [name for name in wanted if name not in types or name in untyped_here]
        # numbers are as wide on every day, whichever days are read together
        narrow = [name for name, kind in wanted.items() if name not in absent and types[name] != kind]
        widened = {name: table[name].cast(wanted[name]) for name in narrow}
        table = table.mutate(**{name: ibis.null(wanted[name]) for name in absent}, **widened)
        columns, name = dict(table.schema().items()), self.name(days)
        columns |= derived_types(self.derived, columns, name)
        check_columns(self.schema, columns, name, *more)
        self._check_outcomes()
        earlier = self._first_days if self.log.has_days and self.data_file.deduplicate.within == "log" else None
        return etl.standard(self.engine, table, self.data_file, self.derived, row, earlier)

    def _check_outcomes(self) -> None:
        """Raises DataError for an outcome that the log lacks: misspelt, it would keep no feature from its column."""
        for name in self.data_file.outcomes:
            if name not in self._types:
                raise DataError(
                    f"{self.data_file.source}: column {name!r} (outcomes) is missing; {nearest(name, self._types)}"
                )

    @cached_property
    def _first_days(self) -> ir.Table:
        """Of rows that several days of the log have, the first day, as far as the raw log goes back."""
        self.progress(f"deduplicate: looking for rows that several days have, in {len(self.log.by_day):,} days")
        log = self._read(_read_files(self.log.files))
        return self.engine.materialise(etl.first_days(self.engine, log, self.data_file))

    def _with_negatives(self, events: ir.Table, days: list[date]) -> ir.Table:
        """`events`, those of `days`, and the negatives of these days, which are drawn once."""
        if not self.data_file.negatives or not days:
            return events
        if new := [day for day in days if day not in self._negatives]:
            until = self._standard([day for day in self.log.by_day if day <= max(new)])
            self._negatives |= dict.fromkeys(new, self._draw(until, [number_of(day) for day in new], self.name(new)))
        tables = list(dict.fromkeys(self._negatives[day] for day in days))
        drawn = ibis.union(*tables) if len(tables) > 1 else tables[0]
        return events.union(drawn.filter(drawn[etl.DAY].isin([number_of(day) for day in days])))

    def _draw(self, events: ir.Table, days: list[int] | None, place: str) -> ir.Table:
        """The negatives of `days`, of all days without them, evaluated. events: those up to and with these days."""
        assert self.data_file.negatives is not None
        self._check_numbers(events)
        raw = events.drop(*(column.name for column in self.schema.derived))
        outcomes = (*self.data_file.dataset.outcomes, *self.data_file.outcomes)
        made = negatives(self.engine, raw, etl.DAY, days, self.schema, self.data_file.negatives, outcomes)
        if made.wanted and not made.made:
            item = self.data_file.negatives.item_column(self.schema)
            what = f"{place}: column {item!r} (negatives): nothing to draw for {made.wanted:,} positive rows"
            advice = "begin with more days, or say `from: all`"
            raise DataError(f"{what}; their users had met all items that there were; {advice}")
        self.progress(f"negatives: {made.summary}")
        return with_derived(self.engine, made.rows, self.derived).select(*events.columns)

    def _read(self, files: RawFiles) -> ir.Table:
        table = self.data_file.dataset.read(self.engine, files, self.data_file.parsed_options())
        return table if self.schema.has_time else table.mutate(**{self.schema.time: ibis.literal(0, "int64")})

    @cached_property
    def derived(self) -> DerivedColumns:
        """The derived columns, with their tables."""
        return DerivedColumns(self.schema, read_lookups(self.schema, self.lookups, self._types))

    @cached_property
    def _types(self) -> dict[str, ibis.DataType]:
        """The columns of the whole log; they are read from the files' footers."""
        files = _read_files(self.log.files)
        types = dict(self._read(files).schema().items())
        return types | etl.serving_types(self.schema, types, self.log.untyped(files))

    @cached_property
    def _all(self) -> ir.Table:
        """Of a log without days, evaluated once; with `_split` where rows are dealt."""
        self.progress(f"reading {self.data_file.source} from {self.log.files[0].path.parent}")
        # in order, a piece of the log is found without reading all of it
        events = self._numbered(lambda: self.engine.materialise(self._standard([]).order_by(etl.HOUR)))
        if self.data_file.split is not None:
            events = self._dealt(events, self.data_file.split.random)
        if self.data_file.negatives:
            drawn = self._draw(events, None, self.data_file.source)
            events = self.engine.materialise(events.union(drawn).order_by(etl.HOUR))
        if self.data_file.split is not None:
            counted = self.engine.arrow(events.group_by(etl.SPLIT).agg(rows=ibis._.count())).to_pylist()
            self.splits = {name: sum(of["rows"] for of in counted if of[etl.SPLIT] == name) for name in SPLITS}
        return events

    def _dealt(self, events: ir.Table, split: RandomSplit) -> ir.Table:
        """The events with the part that each is dealt to. Raises DataError for a row number that is there twice."""
        row = self.engine.arrow(events.select(etl.ROW))[etl.ROW].drop_null().to_numpy()
        if len(np.unique(row)) < len(row):
            where = f"{self.data_file.source}: column 'row'"
            raise DataError(f"{where} has a number twice; every row of the log needs its own")
        names = pa.array(SPLITS).take(pa.array(split.deal(row)))
        table = self.engine.from_arrow(pa.table({etl.ROW: row, etl.SPLIT: names}))
        return self.engine.materialise(etl.dealt(events, table).order_by(etl.HOUR))

    def check_seeds(self, days: Collection[date]) -> None:
        """Raises DataError for a seed that reaches into the log, which has these days."""
        clock = self.data_file.clock
        self.seeds.check_before(lambda moment: str(day_of(clock.day(moment))), str(min(days)))

    def _first_rows(self, until: int) -> pa.Table:
        """user, time of the first row of every user who has one up to the moment `until`."""
        last = day_of(self.data_file.clock.day(until))
        days = [day for day in self.log.by_day if day <= last]
        if self.log.has_days and not days:
            return pa.table({self.schema.user: pa.array([], pa.string()), self.schema.time: pa.array([], pa.int64())})
        events = self.happened(days)
        early = events.filter(events[self.schema.time] <= until)
        return self.engine.arrow(
            early.group_by(self.schema.user).agg(**{self.schema.time: early[self.schema.time].min()})
        )

    def _check_days(self, days: list[date]) -> None:
        """Raises DataError naming a file with rows of another day than its own: they would be missing on theirs."""
        span, options, clock = self.data_file.dataset.span, self.data_file.parsed_options(), self.data_file.clock
        assert span is not None, "a source with files of one day can say their first and last moments"
        for file in self.log.of_days(days):
            for moment in (span(file.path, options) or ()) if file.day else ():
                day = day_of(clock.day(moment))
                if day != file.day:
                    column, zone = f"column {self.schema.time!r}", f"utc_offset {self.data_file.utc_offset}"
                    where = f"{file.path}: {column} has rows of {day}, but the file is of {file.day} ({zone})"
                    raise DataError(f"{where}; put them into a file of their day; or is the unit or the offset wrong?")


def _read_files(files: RawFiles) -> RawFiles:
    """The files that the source reads: those of seeds are read apart."""
    return tuple(file for file in files if file.table != SEED)
