"""An archive at a stable address: downloaded, resumed where it broke off,
checked, unpacked into a cache, all or nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from swrec_prod.errors import DataError

BLOCK = 1 << 20
TIMEOUT = 60  # seconds without a byte
Progress = Callable[[str], None]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


@dataclass(frozen=True)
class Archive:
    """A .tar.gz. md5: as its publisher states it. members: paths inside it; only these are unpacked."""

    url: str
    md5: str
    members: tuple[str, ...]

    def fetch(self, folder: Path, instead: str, progress: Progress = _to_stderr) -> tuple[Path, ...]:
        """The members as files in `folder`, which is made by one rename, so that it is complete where it exists.

        What arrived of a download that breaks off stays beside `folder`, and the next call goes on from there. instead:
        what to do when fetching fails, for the message. Raises DataError when the download fails, its MD5 differs or a
        member is missing.
        """
        files = tuple(folder / Path(member).name for member in self.members)
        if all(file.is_file() for file in files):
            return files
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.parent / f".{folder.name}.part"
        self._download(part, instead, progress)
        self._check(part, instead)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            unpacked = Path(scratch) / "unpacked"
            self._unpack(part, unpacked)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(unpacked, folder)
        part.unlink()
        return files

    def _download(self, part: Path, instead: str, progress: Progress) -> None:
        """Bring `part` to the archive's full length."""
        have = part.stat().st_size if part.is_file() else 0
        request = urllib.request.Request(self.url, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                self._receive(response, part, have if response.status == 206 else 0, progress)
        except urllib.error.HTTPError as failure:
            if failure.code != 416:  # nothing is left to send: `part` is whole, or its MD5 will differ
                raise DataError(f"{self.url}: {failure.code} {failure.reason}; {instead}") from None
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as failure:
            raise DataError(
                f"{self.url}: the download broke off ({failure}); run it again to go on, or {instead}"
            ) from None

    def _receive(self, response: HTTPResponse, part: Path, have: int, progress: Progress) -> None:
        """Append the body to the first `have` bytes of `part`."""
        whole = have + int(response.headers.get("Content-Length") or 0)
        name = self.url.rsplit("/", 1)[-1]
        done, reported = have, -1
        with part.open("ab") as stream:
            stream.truncate(have)
            while block := response.read(BLOCK):
                stream.write(block)
                done += len(block)
                if whole and (tenth := done * 10 // whole) > reported:
                    progress(f"{name}: {done / 1e6:,.0f} of {whole / 1e6:,.0f} MB")
                    reported = tenth
        if done < whole:
            raise ConnectionError(f"{done:,} of {whole:,} bytes came")

    def _check(self, part: Path, instead: str) -> None:
        """Raises DataError, and removes `part`, when it is another file than was published."""
        with part.open("rb") as stream:
            md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if md5 != self.md5:
            part.unlink()
            raise DataError(f"{self.url}: MD5 is {md5}, expected {self.md5}; run it again, or {instead}")

    def _unpack(self, part: Path, folder: Path) -> None:
        """The members, flat, in a new folder; nothing else of the archive is written anywhere."""
        folder.mkdir()
        wanted = set(self.members)
        with tarfile.open(part, "r:gz") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.name.removeprefix("./") in wanted else None
                if content is not None:
                    wanted.discard(member.name.removeprefix("./"))
                    with (folder / Path(member.name).name).open("wb") as stream:
                        shutil.copyfileobj(content, stream, BLOCK)
        if wanted:
            raise DataError(f"{self.url}: {sorted(wanted)[0]} is not in the archive")
