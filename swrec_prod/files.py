"""Files and folders that exist whole or not at all: written beside their place, committed by a rename. And locks.

replaced     one file
committed    a folder that is made in one go
commit       a folder that somebody else has filled
locked       only one process at a time
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from swrec_prod.errors import DataError, SwrecError

LOCK_WAIT = 0.2  # seconds; enough for the file of a lock that was just given up to be gone


@contextlib.contextmanager
def replaced(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A file beside `path` to write; when the block ends well it becomes `path`, which is never seen half written.

    Its name is the same each time, so that one which a killed run left is written over. Folders above it are made.
    durable: on the disk before it becomes `path`, so that a crash of the machine leaves the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.aside")
    try:
        yield aside
        if durable:
            to_disk(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write `text` (UTF-8) as the file `path`, whole or not at all."""
    with replaced(path, durable=durable) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, durable: bool = False) -> None:
    """Write `value` as JSON to the file `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n", durable=durable)


def read_json(path: Path, error: type[SwrecError] = DataError, remedy: str = "") -> Any:
    """The JSON in `path`. Raises `error`, with the remedy, when it is damaged; FileNotFoundError if it is missing."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as failure:  # not JSON, or not UTF-8
        raise error(f"{path}: damaged: {failure}{f'; {remedy}' if remedy else ''}") from None


@contextlib.contextmanager
def committed(out: Path) -> Iterator[Path]:
    """A new, empty folder beside `out`; when the block ends well it becomes `out` (an older one goes), else it goes.

    What killed runs left behind is removed first.
    """
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    folder = temporary(out, "tmp")
    folder.mkdir()
    try:
        yield folder
        commit(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def commit(folder: Path, out: Path) -> None:
    """Make the complete `folder` become `out`; what was there goes."""
    old = temporary(out, "old")
    if out.exists():
        os.rename(out, old)
    os.rename(folder, out)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, taken: str, wait: float = LOCK_WAIT) -> Iterator[None]:
    """Hold the lock file `path`, which no other process can at the same time; a lock outlives no process.

    Raises DataError(taken) when another one holds it, after `wait` seconds. The file is gone afterwards.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, timeout=wait)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise DataError(taken) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: whoever waits for a removed file takes a new one
        lock.release()


def file_sha256(path: Path) -> str:
    """Checksum of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_disk(path: Path) -> None:
    """Return once a file's content, or the names in a folder, would survive a crash of the machine."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def temporary(out: Path, mark: str) -> Path:
    """A folder beside `out` of this process alone, on a disk that several machines may share."""
    return out.parent / f"{_of_this_machine(out, mark)}{os.getpid()}"


def remove_leftovers(out: Path) -> None:
    """Remove what runs of `out` that are no longer alive left on this machine; of other machines' nobody knows here."""
    for mark in ("tmp", "old"):
        prefix = _of_this_machine(out, mark)
        for path in out.parent.glob(f"{glob.escape(prefix)}*"):
            pid = path.name.removeprefix(prefix)
            if pid.isdigit() and (int(pid) == os.getpid() or not _alive(int(pid))):
                shutil.rmtree(path, ignore_errors=True)


def _of_this_machine(out: Path, mark: str) -> str:
    return f".{out.name}.{mark}-{platform.node()}-"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
