"""A folder that exists complete or not at all: written beside its place, committed by a rename."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def committed(out: Path) -> Iterator[Path]:
    """A new, empty folder beside `out`; when the block ends well it becomes `out` (an older one goes),
    else it is removed.

    What killed runs left behind is removed first.
    """
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    folder = temporary(out, "tmp")
    folder.mkdir()
    try:
        yield folder
        old = temporary(out, "old")
        if out.exists():
            os.rename(out, old)
        os.rename(folder, out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file beside `path` to write; when the block ends well it becomes `path`, which is never seen half written.

    Its name is the same each time, so that one which a killed run left is written over.
    """
    aside = path.with_name(f".{path.name}.aside")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Checksum of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_record(root: Path, path: Path) -> dict[str, Any]:
    """What a manifest says of one file: path below `root`, bytes and sha256."""
    return {"path": path.relative_to(root).as_posix(), "bytes": path.stat().st_size, "sha256": file_sha256(path)}


def temporary(out: Path, mark: str) -> Path:
    """A folder beside `out` of this process alone, on a disk that several machines may share."""
    return out.parent / f"{_of_this_machine(out, mark)}{os.getpid()}"


def remove_leftovers(out: Path) -> None:
    """Remove the temporary folders of runs of `out` on this machine that are no longer alive;
    of others nobody knows here.
    """
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
