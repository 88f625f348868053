"""The folder that a prepare works in: beside OUT, kept when it is killed, renamed to OUT when it is complete.

It holds `journal.json`, the manifest as far as it has come, written after each piece of work. A later prepare of the
same inputs goes on from there; days that need no work are hard links to the files in OUT.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, TextIO

from swrec_prod.data.catalog import FORMAT, MANIFEST, damaged
from swrec_prod.errors import DataError, SwrecError
from swrec_prod.files import remove_leftovers, temporary
from swrec_prod.prepare.raw_log import RawLog

JOURNAL, SCRATCH = "journal.json", "scratch"
Manifest = dict[str, Any]


class Work:
    """folder: where days, encoders and requests are written. manifest: what is in it."""

    def __init__(self, out: Path, folder: Path, manifest: Manifest) -> None:
        self.out, self.folder, self.manifest = out, folder, manifest

    @property
    def scratch(self) -> Path:
        """A folder for what an engine has no room for in memory; gone when the work is complete."""
        path = self.folder / SCRATCH
        path.mkdir(exist_ok=True)
        return path

    @property
    def days(self) -> dict[str, Manifest]:
        """What the manifest says of each prepared day, by its name."""
        return self.manifest["days"]

    def save(self) -> None:
        """Write the journal."""
        _write(self.folder / JOURNAL, self.manifest)

    def drop(self, days: list[str]) -> None:
        """Forget prepared days; and files of days that the manifest does not know,
        left by a prepare that was killed.
        """
        for day in days:
            self.days.pop(day, None)
        self.manifest["files"] = [file for file in self.manifest["files"] if file["day"] in self.days]
        self.save()  # before the files are gone
        for path in self.folder.glob("day=*"):
            if path.name.removeprefix("day=") not in self.days:
                shutil.rmtree(path)

    def forget(self, days: list[str]) -> None:
        """Damaged days are to be prepared again."""
        self.manifest["damaged"] = self.manifest.get("damaged", {}) | {day: self.days[day]["raw"] for day in days}
        self.drop(days)

    def leave(self) -> None:
        """Called when work stops, however: what a later prepare could not go on from is removed."""
        if not any((self.folder / name).exists() for name in (JOURNAL, MANIFEST)):
            shutil.rmtree(self.folder, ignore_errors=True)

    def commit(self) -> None:
        """Make this folder OUT; the manifest is the last file written.

        Files of OUT that are not linked here are gone then.
        """
        _write(self.folder / MANIFEST, self.manifest)
        (self.folder / JOURNAL).unlink(missing_ok=True)  # from here on it is complete
        _place(self.folder, self.out)


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Only one prepare writes to `out` at a time. Raises DataError when another one does."""
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.parent / f".{out.name}.lock"
    with _held(path, out):
        try:
            remove_leftovers(out)
            yield
        finally:
            path.unlink(missing_ok=True)


def _held(path: Path, out: Path) -> TextIO:
    """The open lock file.

    One that its holder removed before it was locked here locks nothing, and a new one is taken.
    """
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
        except BlockingIOError:
            file.close()
            raise DataError(f"{out}: another swrec prepare is writing it") from None
        file.close()


def read_manifest(out: Path) -> Manifest | None:
    """The manifest of the prepared dataset in `out`, of this or an earlier format; None when there is none.

    Raises DataError when `out` is a file, holds other things, or its manifest is damaged.
    """
    path = out / MANIFEST
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file, expected a folder to write to")
    manifest = _read(path)
    if manifest is None and path.exists():
        raise DataError(f"{path}: damaged; remove {out} and prepare it again")
    if not (manifest and {"dataset", "fingerprint", "source"} <= manifest.keys()):
        if out.exists() and any(out.iterdir()):
            raise DataError(f"{out}: exists and is no prepared dataset; choose another folder")
        return None
    return manifest


def settle(out: Path) -> None:
    """Make OUT of work that was complete when it was killed, in the last steps of `Work.commit`."""
    folder = _folder(out)
    complete = _read(folder / MANIFEST) is not None and not (folder / JOURNAL).exists()
    if complete and (not out.exists() or _read(out / MANIFEST) is not None):
        _place(folder, out)


def resume(out: Path, same: Callable[[Manifest], bool]) -> Work | None:
    """The work on `out` that an earlier prepare left unfinished, if its source is the `same`; else it is removed.

    Its damaged days are forgotten, and all of it where what belongs to all days is damaged or half written.
    """
    folder = _folder(out)
    manifest = _read(folder / JOURNAL)
    if manifest is not None and manifest.get("format") == FORMAT and same(manifest["source"]):
        with contextlib.suppress(DataError):
            work, bad = Work(out, folder, manifest), damaged(folder, manifest)
            if bad:
                work.forget(list(bad))
            return work
    shutil.rmtree(folder, ignore_errors=True)
    return None


def begin(out: Path, dataset: str, source: Manifest) -> Work:
    """Work on a dataset that is prepared from the beginning."""
    folder = _folder(out)
    folder.mkdir()
    return Work(
        out, folder, {"format": FORMAT, "dataset": dataset, "source": source, "files": [], "others": [], "days": {}}
    )


def continued(out: Path, manifest: Manifest, damaged: list[str]) -> Work:
    """Work that adds to what is in `out`, and does its `damaged` days again.

    Days are linked, so that they cost neither time nor space; the other files are copied, as they may be written again.
    """
    folder = _folder(out)
    folder.mkdir()
    work = Work(out, folder, manifest)
    manifest["damaged"] = {day: manifest["days"].pop(day)["raw"] for day in damaged}
    manifest["files"] = [file for file in manifest["files"] if file["day"] in work.days]
    for name in [file["path"] for file in (*manifest["files"], *manifest["others"])]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        link(out / name, folder / name) if name.startswith("day=") else shutil.copyfile(out / name, folder / name)
    work.save()
    return work


def bad_days(out: Path, manifest: Manifest, log: RawLog, progress: Callable[[str], None]) -> list[str] | None:
    """The days of a prepared folder with a missing or damaged file;
    None when that is another file, and all must be done again.

    Raises DataError when the raw log no longer has a day that must be done again.
    """
    try:
        found = damaged(out, manifest)
    except SwrecError as failure:
        check_there(manifest["days"], log, str(failure))
        progress(f"repairing {out}: {failure}")
        return None
    for day, problem in found.items():
        check_there([day], log, f"{day}: {problem}")
        progress(f"repairing {day}: {problem}")
    return list(found)


def check_there(days: Iterable[str], log: RawLog, problem: str) -> None:
    """Raises DataError when the raw log no longer has one of these days,
    which must be prepared again because of `problem`.
    """
    gone = [day for day in days if log.has_days and date.fromisoformat(day) not in log.by_day]
    if gone:
        raise DataError(
            f"{problem}, but the raw log no longer has {gone[0]}; bring it back, or prepare into another folder"
        )


def link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _place(folder: Path, out: Path) -> None:
    """Complete work becomes `out`; what was there goes."""
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    old = temporary(out, "old")
    if out.exists():
        os.rename(out, old)
    os.rename(folder, out)
    shutil.rmtree(old, ignore_errors=True)


def _folder(out: Path) -> Path:
    return out.parent / f".{out.name}.partial"


def _read(path: Path) -> Manifest | None:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, content: Manifest) -> None:
    beside = path.with_suffix(".tmp")
    with beside.open("w") as file:
        file.write(json.dumps(content, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
