"""Catalog: what `swrec prepare` wrote. Which days there are, which files hold them, and that all of it is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from swrec_prod.config import DataConfig, SplitName, day_range
from swrec_prod.errors import DataError
from swrec_prod.schema import FeatureSchema

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class DayFile:
    """One Parquet file of one day. rows and row_groups: how many. size: bytes."""

    path: Path
    day: date
    rows: int
    row_groups: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Catalog:
    """A prepared folder. files: in order of day and path. fingerprint: of schema and vocabularies."""

    root: Path
    schema: FeatureSchema
    files: tuple[DayFile, ...]
    fingerprint: str
    has_split: bool

    @classmethod
    def open(cls, path: str | Path) -> Catalog:
        """Read the manifest and compare every file's size with it; `verify` compares the contents too.

        Raises DataError when there is no manifest, when it cannot be read, or when a file is missing or of another size.
        """
        root = Path(path)
        manifest = _manifest(root)
        try:
            files = tuple(sorted((_file(root, f) for f in manifest["files"]), key=lambda f: (f.day, f.path)))
            fingerprint, has_split = str(manifest["fingerprint"]), bool(manifest.get("splits"))
        except (KeyError, TypeError, ValueError) as failure:
            raise DataError(f"{root / MANIFEST}: damaged ({type(failure).__name__}: {failure}); run swrec prepare again") from None
        for file in files:
            _check_size(file)
        return cls(root, FeatureSchema.load(root / "schema.yaml"), files, fingerprint, has_split)

    @property
    def days(self) -> list[date]:
        """The days that have rows, in order."""
        return sorted({f.day for f in self.files})

    def files_of(self, data: DataConfig, part: SplitName) -> tuple[DayFile, ...]:
        """The files that hold rows of `part`. With `split: random` that is every file: the split column selects rows.

        Raises DataError when the folder has no split column, or no day in the range.
        """
        if data.split == "random":
            if not self.has_split:
                raise DataError(f"{self.root}: data.split is random, but the folder has no split column; use days, or prepare with a split")
            return self.files
        assert data.days is not None, "DataConfig refuses split: days without days"
        text = getattr(data.days, part)
        first, last = day_range(text)
        files = tuple(f for f in self.files if first <= f.day <= last)
        if not files:
            raise DataError(f"{self.root}: no day in data.days.{part} {text}; available: {_span(self.days)}")
        return files

    def verify(self) -> None:
        """Compare every file's SHA-256 with the manifest. Raises DataError naming the first file that differs."""
        for file in self.files:
            with open(file.path, "rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != file.sha256:
                raise DataError(f"{file.path}: SHA-256 {found[:12]}..., expected {file.sha256[:12]}...; run swrec prepare again")


def _manifest(root: Path) -> dict[str, Any]:
    path = root / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{root}: not a prepared folder: no {MANIFEST}; run swrec prepare") from None
    except ValueError as failure:
        raise DataError(f"{path}: damaged ({failure}); run swrec prepare again") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise DataError(f"{path}: format {found!r}, expected {FORMAT}; run swrec prepare again with this version")
    return manifest


def _file(root: Path, entry: dict[str, Any]) -> DayFile:
    return DayFile(
        path=root / entry["path"],
        day=date.fromisoformat(entry["day"]),
        rows=int(entry["rows"]),
        row_groups=int(entry["row_groups"]),
        size=int(entry["bytes"]),
        sha256=str(entry["sha256"]),
    )


def _check_size(file: DayFile) -> None:
    try:
        found = file.path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{file.path}: missing, but listed in {MANIFEST}; run swrec prepare again") from None
    if found != file.size:
        raise DataError(f"{file.path}: {found} bytes, expected {file.size} ({MANIFEST}); cut short or overwritten? run swrec prepare again")


def _span(days: Sequence[date]) -> str:
    if not days:
        return "none"
    return f"{days[0]}..{days[-1]} ({len(days)} days)" if len(days) > 1 else str(days[0])
