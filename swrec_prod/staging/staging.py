"""The folder that a prepare works in: beside OUT, left there when it is killed, renamed to OUT when it is complete.

It holds `journal.json`, the manifest as far as it has come, written after each piece of work. A later prepare of the
same inputs goes on from there; days that need no work are hard links to the files in OUT.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from swrec_prod.data.manifest import FORMAT, MANIFEST, Day, Manifest, RawFileRecord, Source, read_manifest
from swrec_prod.errors import DataError, SwrecError
from swrec_prod.files import commit, link, locked, remove_leftovers, write_json
from swrec_prod.staging.raw_log import RawLog

JOURNAL, SCRATCH = "journal.json", "scratch"
OLDER = {"dataset", "fingerprint", "source"}  # what manifests of all formats have


class Journal(Manifest):
    """The manifest while days are prepared. encoders: complete, and stay when this work is cut off.

    damaged: days that are to be prepared again, with the raw files that they were made of.
    """

    encoders: bool = False
    damaged: dict[date, list[RawFileRecord]] = pydantic.Field(default_factory=dict)

    def complete(self) -> Manifest:
        """The manifest, days and files in order."""
        content = {name: getattr(self, name) for name in Manifest.model_fields}
        content["files"] = sorted(self.files, key=lambda file: (file.day, file.path))
        return Manifest(**content | {"days": dict(sorted(self.days.items()))})


class Staging:
    """folder: where days, encoders and requests are written. journal: what is in it."""

    def __init__(self, out: Path, folder: Path, journal: Journal) -> None:
        self.out, self.folder, self.journal = out, folder, journal

    @property
    def scratch(self) -> Path:
        """A folder for what an engine has no room for in memory; gone when the work is complete."""
        path = self.folder / SCRATCH
        path.mkdir(exist_ok=True)
        return path

    @property
    def days(self) -> dict[date, Day]:
        """The prepared days."""
        return self.journal.days

    def files_before(self, day: date) -> list[Path]:
        """The prepared files of all days before `day`."""
        return [self.folder / file.path for file in self.journal.files if file.day < day]

    def save(self) -> None:
        """Write the journal."""
        write_json(self.folder / JOURNAL, self.journal.plain(), durable=True)

    def drop(self, days: Iterable[date]) -> None:
        """Remove prepared days; and files of days that are not in the journal, left by a prepare that was killed."""
        self.journal.keep_days(self.days.keys() - set(days))
        self.save()  # before the files are gone
        names = {f"day={day}" for day in self.days}
        for path in self.folder.glob("day=*"):
            if path.name not in names:
                shutil.rmtree(path)

    def drop_damaged(self, days: Iterable[date]) -> None:
        """Remove damaged days, which are to be prepared again."""
        self.journal.damaged |= {day: self.days[day].raw for day in days}
        self.drop(days)

    def leave(self) -> None:
        """Called when work stops, however: what a later prepare could not go on from is removed."""
        if not any((self.folder / name).exists() for name in (JOURNAL, MANIFEST)):
            shutil.rmtree(self.folder, ignore_errors=True)

    def commit(self) -> Manifest:
        """Make this folder OUT; gives its manifest, the last file written. Files of OUT that are not linked here go."""
        manifest = self.journal.complete()
        write_json(self.folder / MANIFEST, manifest.to_json(), durable=True)
        (self.folder / JOURNAL).unlink(missing_ok=True)  # from here on it is complete
        _place(self.folder, self.out)
        return manifest


@contextlib.contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Only one prepare writes to `out` at a time. Raises DataError when another one does."""
    with locked(out.parent / f".{out.name}.lock", f"{out}: another swrec prepare is writing it"):
        remove_leftovers(out)
        yield


class Before(NamedTuple):
    """What lies in OUT. source: from what; None where that cannot be read. manifest: None of an earlier format."""

    source: Source | None
    manifest: Manifest | None


def prepared_before(out: Path) -> Before | None:
    """The prepared dataset in `out`; None where there is none.

    Raises DataError when `out` is a file, holds other things, or its manifest is damaged.
    """
    path = out / MANIFEST
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file, expected a folder to write to")
    plain = _read(path)
    if plain is None and path.exists():
        raise DataError(f"{path}: damaged; remove {out} and prepare it again")
    if not (plain and plain.keys() >= OLDER):
        if out.exists() and any(out.iterdir()):
            raise DataError(f"{out}: exists and is no prepared dataset; choose another folder")
        return None
    if plain.get("format") == FORMAT:
        manifest = read_manifest(out)
        return Before(manifest.source, manifest)
    try:
        return Before(Source.model_validate(plain["source"]), None)
    except pydantic.ValidationError:
        return Before(None, None)


def settle(out: Path) -> None:
    """Make OUT of work that was complete when it was killed, in the last steps of `Staging.commit`."""
    folder = _folder(out)
    complete = _read(folder / MANIFEST) is not None and not (folder / JOURNAL).exists()
    if complete and (not out.exists() or _read(out / MANIFEST) is not None):
        _place(folder, out)


def resume(out: Path, same: Callable[[Source], bool]) -> Staging | None:
    """The work on `out` that an earlier prepare left unfinished, if its source is the `same`; else it is removed.

    Its damaged days are dropped, and all of it where what belongs to all days is damaged or half written.
    """
    folder = _folder(out)
    journal = _journal(folder)
    if journal is not None and same(journal.source):
        with contextlib.suppress(DataError):
            staging, damaged = Staging(out, folder, journal), journal.damaged_days(folder)
            if damaged:
                staging.drop_damaged(damaged)
            return staging
    shutil.rmtree(folder, ignore_errors=True)
    return None


def begin(out: Path, dataset: str, source: Source) -> Staging:
    """Work on a dataset that is prepared from the beginning; what an earlier prepare left unfinished goes."""
    folder = _folder(out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    empty = Journal(dataset=dataset, source=source, files=[], others=[], days={}, fit=None, fingerprint="", splits=None)
    return Staging(out, folder, empty)


def continued(out: Path, manifest: Manifest, source: Source, damaged: Iterable[date]) -> Staging:
    """Work that adds days of `source` to what is in `out`, and does its `damaged` days again.

    Days are linked, so that they cost neither time nor space; the other files are copied, as they may be written again.
    """
    folder = _folder(out)
    folder.mkdir()
    journal = Journal(**dict(manifest))
    journal.source = source
    journal.damaged = {day: journal.days[day].raw for day in damaged}
    journal.keep_days(journal.days.keys() - journal.damaged.keys())
    for file in (*journal.files, *journal.others):
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        copy = link if file.path.startswith("day=") else shutil.copyfile
        copy(out / file.path, folder / file.path)
    staging = Staging(out, folder, journal)
    staging.save()
    return staging


def damaged_days(out: Path, manifest: Manifest, log: RawLog, progress: Callable[[str], None]) -> list[date] | None:
    """The days of a prepared folder with a bad file; None when that belongs to all days, and all must be done again.

    Raises DataError when the raw log no longer has a day that must be done again.
    """
    try:
        problems = manifest.damaged_days(out)
    except SwrecError as failure:
        check_available(manifest.days, log, str(failure))
        progress(f"repairing {out}: {failure}")
        return None
    for day, problem in problems.items():
        check_available([day], log, f"{day}: {problem}")
        progress(f"repairing {day}: {problem}")
    return list(problems)


def check_available(days: Iterable[date], log: RawLog, problem: str) -> None:
    """Raises DataError when the raw log has no longer one of these days, which `problem` makes necessary again."""
    gone = [day for day in days if log.has_days and day not in log.by_day]
    if gone:
        where = f"{problem}, but the raw log no longer has {gone[0]}"
        raise DataError(f"{where}; bring it back, or prepare into another folder")


def _place(folder: Path, out: Path) -> None:
    """Complete work becomes `out`; what was there goes."""
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    commit(folder, out)


def _folder(out: Path) -> Path:
    return out.parent / f".{out.name}.partial"


def _journal(folder: Path) -> Journal | None:
    """What a killed prepare left, if it can be read."""
    plain = _read(folder / JOURNAL)
    try:
        return Journal.from_json(plain) if plain is not None else None  # type: ignore[return-value]
    except pydantic.ValidationError:
        return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None
