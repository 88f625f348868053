"""A folder that exists complete or not at all: written beside its place, committed by a rename."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def committed(out: Path) -> Iterator[Path]:
    """A new, empty folder beside `out`; when the block ends well it becomes `out` (an older one goes), else it is removed.

    What killed runs left behind is removed first.
    """
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    folder = out.parent / f".{out.name}.tmp-{os.getpid()}"
    folder.mkdir()
    try:
        yield folder
        old = out.parent / f".{out.name}.old-{os.getpid()}"
        if out.exists():
            os.rename(out, old)
        os.rename(folder, out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """Checksum of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_record(root: Path, path: Path) -> dict[str, Any]:
    """What a manifest says of one file: path below `root`, bytes and sha256."""
    return {"path": path.relative_to(root).as_posix(), "bytes": path.stat().st_size, "sha256": file_sha256(path)}


def remove_leftovers(out: Path) -> None:
    """Remove the temporary folders of runs of `out` that are no longer alive."""
    for mark in ("tmp", "old"):
        for path in out.parent.glob(f".{out.name}.{mark}-*"):
            pid = path.name.rpartition("-")[2]
            if pid.isdigit() and (int(pid) == os.getpid() or not _alive(int(pid))):
                shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
