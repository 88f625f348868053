"""From a raw log to prepared days: the folder that train, evaluate and export read.

    OUT/day=YYYY-MM-DD/part-NNNNN.parquet   encoded rows, by (time, row) (day_writer.py)
    OUT/schema.yaml, OUT/vocab/             the encoders (encoding.encoders)
    OUT/requests.parquet                    held-out rows, raw (requests.py)
    OUT/manifest.json                       what there is, from what, with checksums

The relational part is one set of expressions (etl.py) that an engine evaluates; ids, numbers and lists are made of its
Arrow tables (prepared_rows.py). Days are written one after the other in a folder beside OUT that becomes OUT at the end
(staging.py): a killed run leaves no half dataset, and the next one goes on where it stopped.
"""

from __future__ import annotations

import errno
import time
from bisect import bisect
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.data.catalog import FORMAT
from swrec_prod.datasets.source import RawFile, RawFiles
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.engine import check_name
from swrec_prod.engine import engine as running_engine
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.files import file_record, replaced
from swrec_prod.prepare import etl
from swrec_prod.prepare.check import check_columns
from swrec_prod.prepare.data_file import DataFile, RandomSplit
from swrec_prod.prepare.fit import extend, fit
from swrec_prod.prepare.profile import Profile, check_numbers, day_of, number_of
from swrec_prod.prepare.raw_log import RawLog, difference, news
from swrec_prod.prepare.requests import last_days, limits, request_table
from swrec_prod.prepare.staging import (
    Manifest,
    Work,
    bad_days,
    begin,
    check_there,
    continued,
    locked,
    read_manifest,
    resume,
    settle,
)
from swrec_prod.prepare.write_cluster import spread_days
from swrec_prod.prepare.write_local import stream_days
from swrec_prod.schema import FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir

SPLITS = ("train", "valid", "test")
DAY_US = 24 * etl.HOUR_US
DAY = timedelta(days=1)
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
    """Prepare a raw log into the folder `out` and return its manifest.

    The same inputs give the same bytes, on any engine.

    raw: folder or file of the raw log; None fetches it into `cache` (default ~/.cache/swrec). Only what is missing is
    done: days that `out` does not have, or has from other files, or damaged; and after a new or changed day the days
    behind it, whose histories reach back to it. One that was prepared from another data file is a DataError unless
    `overwrite`, and a folder of other things always. engine: see swrec_prod.engine. progress: takes a line now and
    then.
    """
    options, out = data_file.parsed_options(), out.absolute()
    check_name(engine)
    with locked(out):
        settle(out)
        existing = read_manifest(out)
        if raw is not None and not raw.exists():
            raise DataError(f"{raw}: no such file or folder")
        files = data_file.dataset.locate(raw, cache or Path.home() / ".cache" / "swrec", options)
        if data_file.split is not None:  # rows of all days are dealt
            files = tuple(RawFile(file.path, table=file.table) for file in files)
        log = RawLog.of(files)
        source = {"data_file": data_file.identity(), "raw": log.undated}
        if existing is not None and not log.continues(existing["source"], source) and not overwrite:
            what = _difference(existing["source"], source)
            raise DataError(f"{out}: was prepared from other inputs; choose another folder, or overwrite it ({what})")
        if existing is not None and (not log.continues(existing["source"], source) or existing.get("format") != FORMAT):
            existing = None
        bad = bad_days(out, existing, log, progress) if existing else []
        existing = None if bad is None else existing
        work = resume(out, lambda before: _goes_on(before, source, out, progress))
        if work is not None:
            lost = work.manifest.get("damaged", {}).keys() - work.days.keys()
            check_there(sorted(lost), log, f"{work.folder}: a day is damaged")
            progress(f"{out}: going on with a prepare that was cut off; {len(work.days):,} days are there")
        if existing is not None and existing["source"] != source:
            progress(f"{_difference(existing['source'], source)}: days that are prepared keep what was joined to them")
        if existing is not None and work is None and not bad and not news(log, _raw_of(existing)):
            progress(f"{out}: up to date ({existing['rows']:,} rows)")
            return existing
        work = work or (
            continued(out, existing | {"source": source}, bad or [])
            if existing
            else begin(out, data_file.source, source)
        )
        try:
            with running_engine(engine, work.scratch) as running:
                manifest = _Preparing(running, data_file, log, work, progress).run()
        except OSError as failure:
            if failure.errno != errno.ENOSPC:
                raise
            raise DataError(
                f"{out.parent}: the disk is full; make room and run swrec prepare again, it goes on where it stopped"
            ) from None
        finally:
            work.leave()
        progress(f"{out}: {manifest['rows']:,} rows in {len(manifest['days'])} days")
        return manifest


class _Preparing:
    """One prepare at work. engine evaluates, `work` is where it is written."""

    def __init__(self, engine: Engine, data_file: DataFile, log: RawLog, work: Work, progress: Progress) -> None:
        self.engine, self.data_file, self.log, self.work, self.progress = engine, data_file, log, work, progress
        self.schema = data_file.features
        self._numbered = False  # by the source; numbers made by etl.standard are unique

    def run(self) -> Manifest:
        """Do all that is missing and commit it."""
        todo = self._todo()
        if todo or not self.log.has_days:
            self._prepare(todo)
        self._complete(Encoders.load(self.work.folder))
        self.log.check_unchanged()
        self.work.commit()
        return self.work.manifest

    def _prepare(self, todo: list[date]) -> None:
        events = self._events(todo)
        if self.log.has_days:
            self._check_days(todo)
        profile = Profile(self.engine.arrow(etl.profile(events, self.schema)), self.schema)
        for note in dict.fromkeys(self.engine.notes):
            self.progress(note)
        if profile.rows or not self.work.days:
            profile.check(self._name(todo), self.log.place)
            if self._numbered:
                check_numbers(self.engine.arrow(etl.repeated(events)), self.log.place)
        if not self.log.has_days:
            todo = [day for day in profile.days if str(day) not in self.work.days]
        self.work.drop([str(day) for day in todo])
        self._write(self._encoders(profile, todo), profile, todo)

    def _todo(self) -> list[date]:
        """The days of a dated log that are to be prepared; of another one all that may be."""
        damaged = self.work.manifest.get("damaged", {})
        changed = news(self.log, damaged | _raw_of(self.work.manifest))
        for day, what in changed.items():
            if self.work.days:
                self.progress(f"{day}: {what}")
        todo = set(changed) | {date.fromisoformat(day) for day in damaged.keys() - self.work.days.keys()}
        earliest = min((d for d in changed), default=date.max)
        if self.schema.of_kind("sequence"):
            behind = [d for d in self.log.by_day if d > earliest and str(d) in self.work.days]
            if behind and self.work.days:
                self.progress(f"{behind[0]}..{behind[-1]}: prepared again, as their histories reach back to {earliest}")
            todo |= set(behind)
            self._check_reach(earliest)
        return sorted(todo)

    def _check_reach(self, earliest: date) -> None:
        """Raises DataError when days behind a new or changed one would keep histories without it."""
        lost = [
            day
            for day in self.work.days
            if date.fromisoformat(day) > earliest and date.fromisoformat(day) not in self.log.by_day
        ]
        if lost:
            where = f"{self.work.out}: day {earliest} is new or changed, and {lost[0]} behind it must be prepared again"
            raise DataError(f"{where}, but the raw log no longer has it; bring it back, or prepare into another folder")

    def _events(self, days: list[date]) -> ir.Table:
        """etl.standard of these days, of all of them where the log has no days."""
        if not self.log.has_days:
            return self._all_events
        return self._standard(days)

    def _standard(self, days: list[date]) -> ir.Table:
        files = self.log.of_days(days) if self.log.has_days else self.log.files
        table = self._read(files)
        found, without = dict(table.schema().items()), self.log.untyped(files)
        needed = etl.needed(self.schema, list(self._types), self.data_file.deduplicate)
        # what only other days have is missing on these
        kinds = {name: self._types[name] for name in needed if name in self._types}
        absent = {
            name: kind for name, kind in kinds.items() if name not in found or (name in without and found[name] != kind)
        }
        table = table.mutate(**{name: ibis.null(kind) for name, kind in absent.items()})
        check_columns(self.schema, dict(table.schema().items()), self._name(days), self.data_file.deduplicate)
        self._numbered = etl.ROW in table.columns
        return etl.standard(self.engine, table, self.data_file)

    def _read(self, files: RawFiles) -> ir.Table:
        return self.data_file.dataset.read(self.engine, files, self.data_file.parsed_options())

    @cached_property
    def _types(self) -> dict[str, ibis.DataType]:
        """The columns of the whole log; they are found in the files' footers."""
        found = dict(self._read(self.log.files).schema().items())
        return found | etl.serving_types(self.schema, found, self.log.untyped(self.log.files))

    def _name(self, days: list[date]) -> str:
        """What is read of these days, for messages."""
        return self.log.place(days[0]) if len(days) == 1 else self.data_file.source

    @cached_property
    def _all_events(self) -> ir.Table:
        """Of a log without days, evaluated once; with `_split` where rows are dealt."""
        self.progress(f"reading {self.data_file.source} from {self.log.files[0].path.parent}")
        events = self._standard([])
        # in order, a piece of the log is found without reading all of it
        events = self.engine.kept(events.order_by(etl.HOUR))
        if self.data_file.split is None:
            return events
        row = self.engine.arrow(events.select(etl.ROW))[etl.ROW].drop_null().to_numpy()
        if len(np.unique(row)) < len(row):
            raise DataError(
                f"{self.data_file.source}: column 'row' has a number twice; every row of the log needs its own"
            )
        dealt = _deal(row, self.data_file.split.random)
        self.work.manifest["splits"] = {name: int((dealt == i).sum()) for i, name in enumerate(SPLITS)}
        names = pa.array(SPLITS).take(pa.array(dealt))
        split = self.engine.memory(pa.table({etl.ROW: row, etl.SPLIT: names}))
        return self.engine.kept(etl.dealt(events, split).order_by(etl.HOUR))

    def _check_days(self, todo: list[date]) -> None:
        """Raises DataError naming a file that holds rows of another day than its own:
        they would be missing on theirs.
        """
        span, options, offset = self.data_file.dataset.span, self.data_file.parsed_options(), self.data_file.offset_us
        assert span is not None, "a source with files of one day can say their first and last moments"
        for file in self.log.of_days(todo):
            for moment in (span(file.path, options) or ()) if file.day else ():
                day = day_of((moment + offset) // DAY_US)
                if day != file.day:
                    column, zone = f"column {self.schema.time!r}", f"utc_offset {self.data_file.utc_offset}"
                    where = f"{file.path}: {column} has rows of {day}, but the file is of {file.day} ({zone})"
                    raise DataError(f"{where}; put them into a file of their day; or is the unit or the offset wrong?")

    def _encoders(self, profile: Profile, todo: list[date]) -> Encoders:
        """Those of the folder, extended where that is wanted; fitted where there are none."""
        manifest, folder = self.work.manifest, self.work.folder
        if "fit" not in manifest:
            encoders = self._fit(profile)
        else:
            encoders = Encoders.load(folder)
            profile.check_scenarios(encoders.schema.scenario, self.log.place)
            until = date.fromisoformat(manifest["fit"]["until"]) if manifest["fit"]["until"] else None
            grown = (
                [d for d in self.log.by_day if until and until < d < todo[0] and str(d) in self.work.days]
                if todo
                else []
            )
            if self.data_file.vocabularies == "extend" and grown and not manifest.get("encoders"):
                self.progress(f"extending vocabularies by {grown[0]}..{grown[-1]}")
                encoders = extend(self.engine, self._events(grown), encoders)
                manifest["fit"]["until"] = str(grown[-1])
        manifest["others"] = [file_record(folder, path) for path in encoders.save(folder)]
        manifest["fingerprint"] = encoders.fingerprint()
        manifest["encoders"] = True  # complete: if this work is cut off, the next one goes on with them
        self.work.save()
        return encoders

    def _fit(self, profile: Profile) -> Encoders:
        schema = self.schema if self.schema.scenario.values else self.schema.with_scenarios(tuple(profile.scenarios()))
        profile.check_scenarios(schema.scenario, self.log.place)
        events, days = self._events(profile.days), profile.days
        if self.data_file.split is not None:
            until, rule = None, "split: train"
            rows, events = self.work.manifest["splits"]["train"], events.filter(events[etl.SPLIT] == "train")
        else:
            until = self.data_file.fit_until or _four_fifths(days)
            rule = f"days: ..{until}" + ("" if self.data_file.fit_until else " (all but the last 20 % of days)")
            rows = sum(profile.rows_of(day) for day in days if day <= until)
            events = events.filter(events[etl.DAY] <= number_of(until))
        if not rows:
            raise DataError(
                f"{self.data_file.source}: no row to fit vocabularies on ({rule}; days are {days[0]}..{days[-1]})"
            )
        self.progress(f"fitting encoders on {rows:,} of {profile.rows:,} rows")
        if rows == profile.rows:
            self.progress(f"{rule}: no rows are left to judge a model on, until later days are added")
        last = None if until is None else str(max(day for day in days if day <= until))
        self.work.manifest["fit"] = {"rule": rule, "rows": rows, "until": last}
        return fit(self.engine, events, schema)

    def _write(self, encoders: Encoders, profile: Profile, todo: list[date]) -> None:
        """Prepare the days and enter them into the manifest as they are finished."""
        known, raw, manifest = encoders.schema.scenario.values, self.log.by_day, self.work.manifest
        until = manifest["fit"]["until"]
        total, done, say = sum(profile.rows_of(day) for day in todo), 0, _now_and_then(self.progress)

        def finished(day: date, files: list[dict[str, Any]]) -> None:
            nonlocal done
            rows = sum(file["rows"] for file in files)
            if rows != profile.rows_of(day):
                raise DataError(
                    f"{self.log.place(day)}: {rows:,} rows of {day} came, "
                    f"expected {profile.rows_of(day):,}; was it changed?"
                )
            done += rows
            self.log.check_unchanged()
            manifest["files"] += [file | {"fitted_until": until} for file in files]
            entry = {
                "rows": rows,
                "nulls": profile.missing(day),
                "scenarios": profile.traffic(day, known),
                "raw": raw.get(day, []),
            }
            self.work.days[str(day)] = entry | ({"attributes": self.log.undated} if self.log.has_days else {})
            say(f"{day}: {done:,} of {total:,} rows ({done / max(total, 1):.0%})", last=done == total)

        write = spread_days if self.engine.name == "cluster" else partial(stream_days, kept=not self.log.has_days)
        if write is spread_days and total:
            self.progress(f"{todo[0]}..{todo[-1]}: {total:,} rows are prepared on the cluster")
        for run in _runs([day for day in todo if profile.rows_of(day)], list(self.work.days)):
            write(self.engine, self._events, encoders, profile, run, self.work, finished)
        for day in todo:
            if not profile.rows_of(day):
                finished(day, [])

    def _complete(self, encoders: Encoders) -> None:
        """The held-out requests, and what the manifest says of the whole."""
        manifest, days = self.work.manifest, dict(sorted(self.work.days.items()))
        files = [*encoders.save(self.work.folder), self._requests(encoders, list(days))]
        manifest["others"] = [file_record(self.work.folder, path) for path in files]
        for key in ("encoders", "damaged"):  # of the work, not of what it made
            manifest.pop(key, None)
        manifest["files"].sort(key=lambda file: (file["day"], file["path"]))
        manifest["days"] = days
        manifest["rows"] = sum(entry["rows"] for entry in days.values())
        manifest.setdefault("splits", None)
        manifest["scenarios"] = {day: entry["scenarios"] for day, entry in days.items()}
        names = [f.name for f in self.schema.features if f.kind != "sequence"]
        manifest["nulls"] = {name: sum(entry["nulls"][name] for entry in days.values()) for name in names}

    def _unseen(self, days: list[str], schema: FeatureSchema) -> tuple[ir.Table, dict[str, int]]:
        """The events that requests are chosen from, and of how many of each scenario;
        of a dated log the last held-out days only.
        """
        found = {day: {name: entry["rows"] for name, entry in self.work.days[day]["scenarios"].items()} for day in days}
        until = self.work.manifest["fit"]["until"]
        rows = dict(sum(map(Counter, found.values()), Counter()))
        limit = limits(rows, self.data_file.requests.per_scenario, 10 if until else 1)
        if until is None:
            events = self._events([])
            return events.filter(events[etl.SPLIT] == "test"), limit
        held_out = {day: rows for day, rows in found.items() if day > until}
        last = last_days(held_out, limit, schema.request is not None) or days[-1:]
        events = self._events([date.fromisoformat(day) for day in last])
        return events.filter(
            events[etl.DAY] >= number_of(max(date.fromisoformat(last[0]), date.fromisoformat(until) + DAY))
        ), limit

    def _requests(self, encoders: Encoders, days: list[str]) -> Path:
        """Write requests.parquet; where the raw log no longer has all prepared days, the one that there is stays."""
        path = self.work.folder / "requests.parquet"
        if self.log.has_days and not set(map(date.fromisoformat, days)) <= self.log.by_day.keys() and path.exists():
            self.progress("requests.parquet stays as it is: the raw log no longer has all days")
        else:
            events = self._events([date.fromisoformat(day) for day in days])
            unseen, limit = self._unseen(days, encoders.schema)
            table = request_table(self.engine, events, self.data_file, encoders.schema, unseen, limit)
            with replaced(path) as aside:
                # engines name the elements of lists in their own ways
                pq.write_table(table, aside, compression="zstd", store_schema=False)
        return path


def _deal(row: np.ndarray, split: RandomSplit) -> np.ndarray:
    """0 (train), 1 (valid) or 2 (test) for each row: the same for a row however the rows are ordered."""
    ends = np.round(np.cumsum(split.parts) * len(row)).astype(np.int64)
    dealt = np.searchsorted(ends[:2], np.arange(len(row)), side="right").astype(np.int8)
    by_row = np.empty(len(row), np.int8)
    by_row[np.argsort(row)] = dealt[np.random.default_rng(split.seed).permutation(len(row))]
    return by_row


def _now_and_then(progress: Progress) -> Callable[..., None]:
    """Hands on a line every few seconds, and the last one."""
    told = time.monotonic()

    def say(line: str, *, last: bool) -> None:
        nonlocal told
        if last or time.monotonic() - told > SECONDS:
            told = time.monotonic()
            progress(line)

    return say


def _four_fifths(days: list[date]) -> date:
    """The day with a fifth of `days`, and at least one, behind it; a single day is used."""
    held_out = max(round(len(days) / 5), 1)
    return days[max(len(days) - held_out, 1) - 1]


def _raw_of(manifest: Manifest) -> dict[str, Any]:
    return {day: entry["raw"] for day, entry in manifest["days"].items()}


def _goes_on(before: Manifest, source: Manifest, out: Path, progress: Progress) -> bool:
    """Whether work that was cut off is of the same inputs; days of one prepare never have attributes of several."""
    if before != source:
        progress(f"{out}: a prepare that was cut off begins again: {_difference(before, source)}")
    return before == source


def _difference(before: Manifest, now: Manifest) -> str:
    """How two sources differ, for people."""
    return "the data file changed" if before["data_file"] != now["data_file"] else difference(before["raw"], now["raw"])


def _runs(days: list[date], prepared: list[str]) -> list[list[date]]:
    """`days` in pieces that have no prepared day in between:
    a piece begins with the histories of all days before it.
    """
    known = sorted(map(date.fromisoformat, prepared))
    return [list(run) for _, run in groupby(days, key=lambda day: bisect(known, day))]
