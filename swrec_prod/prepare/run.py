"""From a raw log to prepared days: the folder that train, evaluate and export read (its files: data/manifest.py).

The relational part is one set of expressions (etl.py) that an engine evaluates; ids, numbers and lists are made of its
Arrow tables (prepared_rows.py). Days are written one after the other in a folder beside OUT that becomes OUT at the end
(staging.py): a killed run leaves no half dataset, and the next one goes on where it stopped.
"""

from __future__ import annotations

import errno
import time
from bisect import bisect
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.behaviours.seed import files_of_seeds
from swrec_prod.computed.lookup_files import LookupFiles, find_lookups, lookup_records, stored_lookups
from swrec_prod.data.day_writer import Written
from swrec_prod.data.manifest import Day, DayFileRecord, FileRecord, Fit, Manifest, Source
from swrec_prod.data.unknown_lines import unknown_lines
from swrec_prod.data.value_counts import ValueCounts
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.engine import check_name
from swrec_prod.engine import engine as running_engine
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.files import replaced
from swrec_prod.logs.row_numbers import NumberedBy
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.events import Events
from swrec_prod.prepare.fit import extend
from swrec_prod.prepare.plan import days_to_prepare
from swrec_prod.prepare.profile import Profile
from swrec_prod.prepare.requests import held_out_requests
from swrec_prod.prepare.training_rows import fit_on_training_rows
from swrec_prod.prepare.write_cluster import spread_days
from swrec_prod.prepare.write_local import stream_days
from swrec_prod.schema import FeatureSchema
from swrec_prod.staging import staging
from swrec_prod.staging.raw_log import RawLog, changed_days, difference
from swrec_prod.staging.staging import Staging

if TYPE_CHECKING:
    pass

SECONDS = 3.0  # between lines of progress
Progress = Callable[[str], None]


def prepare(
    data_file: DataFile,
    raw: Path | None,
    out: Path,
    *,
    cache: Path | None = None,
    overwrite: bool = False,
    engine: str = "local",
    progress: Progress = lambda line: None,
) -> Manifest:
    """Prepare a raw log into the folder `out` and return its manifest. Equal inputs give equal bytes, on any engine.

    raw: folder or file of the raw log; None fetches it into `cache` (default ~/.cache/swrec). Only what is missing is
    done: days that `out` does not have, or has from other files, or damaged; and after a new or changed day the days
    behind it, whose histories reach back to it. One that was prepared from another data file is a DataError; with
    `overwrite` all is prepared anew, always. A folder of other things is a DataError always. engine: see
    swrec_prod.engine. progress: takes a line now and then.
    """
    out = out.absolute()
    check_name(engine)
    with staging.only_writer(out):
        staging.settle(out)
        before = staging.prepared_before(out)
        log = _raw_log(data_file, raw, cache)
        lookups = find_lookups(data_file.features, data_file.folder, raw)
        tables = lookup_records(data_file.features, lookups)
        source = Source(data_file=data_file.identity(), raw=[*log.undated, *tables])
        existing = None if overwrite else _still_good(before, out, log, source)
        damaged = staging.damaged_days(out, existing, log, progress) if existing else []
        existing = None if damaged is None else existing
        work = None if overwrite else _resumed(out, log, source, progress)
        if existing and existing.source != source:
            progress(f"{_difference(existing.source, source)}: days that are prepared keep what was joined to them")
        if existing and work is None and not damaged and not changed_days(log, existing.raw_files):
            progress(f"{out}: up to date ({existing.rows:,} rows)")
            return existing
        if work is None and existing:
            work = staging.continued(out, existing, source, damaged or [])
        work = work or staging.begin(out, data_file.source, source)
        manifest = _run(engine, data_file, log, raw, lookups, work, progress)
        for line in unknown_lines(manifest, FeatureSchema.load(out / "schema.yaml")):
            progress(line)
        progress(f"{out}: {manifest.rows:,} rows in {len(manifest.days)} days")
        return manifest


def _raw_log(data_file: DataFile, raw: Path | None, cache: Path | None) -> RawLog:
    options = data_file.parsed_options()
    if raw is not None and not raw.exists():
        raise DataError(f"{raw}: no such file or folder")
    files = data_file.dataset.locate(raw, cache or Path.home() / ".cache" / "swrec", options)
    if data_file.split is not None:  # rows of all days are dealt
        files = tuple(replace(file, day=None) for file in files)
    own = data_file.source == "parquet"
    return RawLog.of((*files, *files_of_seeds(data_file.seed, raw, files, are_own=own)))


def _still_good(before: staging.Before | None, out: Path, log: RawLog, source: Source) -> Manifest | None:
    """The manifest of what is prepared and stays. Raises DataError where it is of other inputs."""
    if before is None or log.continues(before.source, source):
        return before.manifest if before else None
    what = _difference(before.source, source)
    raise DataError(f"{out}: was prepared from other inputs; choose another folder, or overwrite it ({what})")


def _resumed(out: Path, log: RawLog, source: Source, progress: Progress) -> Staging | None:
    """The work of a prepare of the same inputs that was cut off."""
    work = staging.resume(out, lambda before: _goes_on(before, source, out, progress))
    if work is not None:
        lost = work.journal.damaged.keys() - work.days.keys()
        staging.check_available(sorted(lost), log, f"{work.folder}: a day is damaged")
        progress(f"{out}: going on with a prepare that was cut off; {len(work.days):,} days are there")
    return work


def _run(
    name: str,
    data_file: DataFile,
    log: RawLog,
    raw: Path | None,
    lookups: LookupFiles,
    work: Staging,
    progress: Progress,
) -> Manifest:
    """Do the work on the engine `name`; where it stops, what can be gone on from is left."""
    try:
        with running_engine(name, work.scratch) as engine:
            return _Preparing(engine, data_file, log, raw, lookups, work, progress).run()
    except OSError as failure:
        if failure.errno != errno.ENOSPC:
            raise
        advice = "make room and run swrec prepare again, it goes on where it stopped"
        raise DataError(f"{work.out.parent}: the disk is full; {advice}") from None
    finally:
        work.leave()


class _Preparing:
    """One prepare at work. engine evaluates, `work` is where it is written."""

    def __init__(
        self,
        engine: Engine,
        data_file: DataFile,
        log: RawLog,
        raw: Path | None,
        lookups: LookupFiles,
        work: Staging,
        progress: Progress,
    ) -> None:
        self.engine, self.data_file, self.log, self.work, self.progress = engine, data_file, log, work, progress
        self.schema = data_file.features
        self.journal = work.journal
        fitted = self.journal.fit is not None
        lookups = stored_lookups(self.schema, work.folder) if fitted else lookups
        numbered = NumberedBy(self.journal.row) if work.days else None
        self.events = Events(engine, data_file, log, raw, progress, lookups, numbered)

    def run(self) -> Manifest:
        """Do all that is missing and commit it."""
        todo = days_to_prepare(self.data_file, self.log, self.work, self.progress)
        if todo or not self.log.has_days:
            self._prepare(todo)
        encoders = Encoders.load(self.work.folder)
        self._record_others([*encoders.save(self.work.folder), self._requests(encoders)])
        self.log.check_unchanged()
        return self.work.commit()

    def _prepare(self, todo: list[date]) -> None:
        profile = self.events.profile(todo, expected=not self.work.days)
        self.journal.row = self.events.numbers.column
        if not self.log.has_days:
            self.journal.splits = self.events.splits
            todo = [day for day in profile.days if day not in self.work.days]
        self.work.drop(todo)
        self.events.check_seeds([*profile.days, *self.work.days, *self.log.by_day])
        self._write(self._encoders(profile, todo), profile, todo)

    def _encoders(self, profile: Profile, todo: list[date]) -> Encoders:
        """Those of the folder, extended where that is wanted; fitted where there are none."""
        encoders = (
            self._fitted(profile) if self.journal.fit is None else self._extended(self.journal.fit, profile, todo)
        )
        self._record_others(encoders.save(self.work.folder))
        self.journal.fingerprint = encoders.fingerprint()
        self.journal.encoders = True
        self.work.save()
        return encoders

    def _fitted(self, profile: Profile) -> Encoders:
        encoders, self.journal.fit = fit_on_training_rows(self.events, profile, self.journal.splits)
        return encoders

    def _extended(self, fitted: Fit, profile: Profile, todo: list[date]) -> Encoders:
        encoders = Encoders.load(self.work.folder)
        profile.check_scenarios(encoders.schema.scenario, self.log.place)
        until = fitted.until
        if self.data_file.vocabularies == "extend" and until and todo and not self.journal.encoders:
            days = [day for day in self.log.by_day if until < day < todo[0] and day in self.work.days]
            if days:
                self.progress(f"extending vocabularies by {days[0]}..{days[-1]}")
                encoders = extend(self.engine, self.events.happened(days), encoders)
                fitted.until = days[-1]
        return encoders

    def _write(self, encoders: Encoders, profile: Profile, todo: list[date]) -> None:
        """Prepare the days and enter them into the journal as they are finished."""
        total, done, say = sum(profile.rows_of(day) for day in todo), 0, _now_and_then(self.progress)
        if self.engine.name == "cluster" and total:
            self.progress(f"{todo[0]}..{todo[-1]}: {total:,} rows are prepared on the cluster")
        with closing(self._written(encoders, profile, todo)) as written:
            for day, files, counts in written:
                self._enter(day, files, counts, profile, encoders)
                done += profile.rows_of(day)
                say(f"{day}: {done:,} of {total:,} rows ({done / max(total, 1):.0%})", last=done == total)

    def _written(self, encoders: Encoders, profile: Profile, todo: list[date]) -> Written:
        """Each day of `todo` once it is written, with its files; days without rows, which have none, last."""
        for run in _runs([day for day in todo if profile.rows_of(day)], self.work.days):
            if self.engine.name == "cluster":
                yield from spread_days(self.engine, self.events, encoders, profile, run, self.work)
            else:
                yield from stream_days(self.engine, self.events, encoders, profile, run, self.work)
        nothing = ValueCounts(encoders.schema, pa.schema([]))
        yield from ((day, [], nothing) for day in todo if not profile.rows_of(day))

    def _enter(
        self, day: date, files: list[DayFileRecord], counts: ValueCounts, profile: Profile, encoders: Encoders
    ) -> None:
        """Record a day that is written. Raises DataError when its rows are not those that were counted before."""
        rows, expected = sum(file.rows for file in files), profile.rows_of(day)
        if rows != expected:
            where = f"{self.log.place(day)}: {rows:,} rows of {day} came, expected {expected:,}"
            raise DataError(f"{where}; was it changed?")
        self.log.check_unchanged()
        assert self.journal.fit is not None, "encoders are fitted before days are written"
        for file in files:
            file.fitted_until = self.journal.fit.until
        self.journal.files += files
        self.work.days[day] = Day(
            rows=rows,
            nulls=profile.missing(day),
            scenarios=profile.traffic(day, encoders.schema.scenario.values),
            raw=self.log.by_day.get(day, []),
            attributes=self.log.undated if self.log.has_days else None,
            values=counts.record(encoders.schema, profile.missing_in(day, counts.parts, counts.scenarios)),
        )

    def _requests(self, encoders: Encoders) -> Path:
        """Write requests.parquet; where the raw log no longer has all prepared days, the one that there is stays."""
        path, days = self.work.folder / "requests.parquet", dict(sorted(self.work.days.items()))
        if self.log.has_days and not days.keys() <= self.log.by_day.keys() and path.exists():
            self.progress("requests.parquet stays as it is: the raw log no longer has all days")
            return path
        assert self.journal.fit is not None, "days are prepared with fitted encoders"
        table = held_out_requests(self.engine, self.events, encoders.schema, days, self.journal.fit.until)
        with replaced(path) as aside:
            # engines name the elements of lists in their own ways
            pq.write_table(table, aside, compression="zstd", store_schema=False)
        return path

    def _record_others(self, files: Iterable[Path]) -> None:
        """Files that belong to all days."""
        self.journal.others = [FileRecord.of(self.work.folder, path) for path in files]


def _now_and_then(progress: Progress) -> Callable[..., None]:
    """Hands on a line every few seconds, and the last one."""
    last_line = time.monotonic()

    def say(line: str, *, last: bool) -> None:
        nonlocal last_line
        if last or time.monotonic() - last_line > SECONDS:
            last_line = time.monotonic()
            progress(line)

    return say


def _goes_on(before: Source, source: Source, out: Path, progress: Progress) -> bool:
    """Whether work that was cut off is of the same inputs; days of one prepare never have attributes of several."""
    if before != source:
        progress(f"{out}: a prepare that was cut off begins again: {_difference(before, source)}")
    return before == source


def _difference(before: Source | None, now: Source) -> str:
    """How two sources differ, for people."""
    if before is None:
        return "by an earlier version"
    return "the data file changed" if before.data_file != now.data_file else difference(before.raw, now.raw)


def _runs(days: list[date], prepared: Iterable[date]) -> list[list[date]]:
    """`days` in pieces without a prepared day in between: a piece begins with the histories of all days before it."""
    known = sorted(prepared)
    return [list(run) for _, run in groupby(days, key=lambda day: bisect(known, day))]
