"""Catalog: what `swrec prepare` wrote. Which days there are, which files hold them, and that all of it is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from swrec_prod.config import DataConfig, SplitName, day_range
from swrec_prod.errors import ConfigError, DataError, nearest
from swrec_prod.files import file_sha256
from swrec_prod.schema import FeatureSchema

MANIFEST = "manifest.json"
FORMAT = 3


@dataclass(frozen=True)
class StoredFile:
    """One file as the manifest knows it. size: bytes."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class DayFile(StoredFile):
    """One Parquet file of one day.

    rows and row_groups: how many. fitted_until: the last day that its encoders had seen.
    """

    day: date
    rows: int
    row_groups: int
    fitted_until: date | None = None


@dataclass(frozen=True)
class Catalog:
    """A prepared folder.

    files: of the days, in order of day and path. others: schema, vocabularies and held-out requests.

    fingerprint: of schema and vocabularies.
    """

    root: Path
    schema: FeatureSchema
    files: tuple[DayFile, ...]
    others: tuple[StoredFile, ...]
    fingerprint: str
    has_split: bool

    @classmethod
    def open(cls, path: str | Path) -> Catalog:
        """Read the manifest and compare every file's size with it; `verify` compares the contents too.

        Raises DataError when there is no manifest, when it cannot be read, or when a file is missing or of another
        size.
        """
        root = Path(path)
        manifest = _manifest(root)
        try:
            files = tuple(sorted((_file(root, f) for f in manifest["files"]), key=lambda f: (f.day, f.path)))
            others = tuple(StoredFile(*_stored(root, f)) for f in manifest["others"])
            fingerprint, has_split = str(manifest["fingerprint"]), bool(manifest.get("splits"))
        except (KeyError, TypeError, ValueError) as failure:
            raise DataError(
                f"{root / MANIFEST}: damaged ({type(failure).__name__}: {failure}); run swrec prepare again"
            ) from None
        for file in (*others, *files):
            _check_size(file)
        return cls(root, FeatureSchema.load(root / "schema.yaml"), files, others, fingerprint, has_split)

    @property
    def days(self) -> list[date]:
        """The days that have rows, in order."""
        return sorted({f.day for f in self.files})

    def files_of(self, data: DataConfig, part: SplitName) -> tuple[DayFile, ...]:
        """The files that hold rows of `part`. With `split: random` that is every file: the split column selects rows.

        Rows that judge a model (valid and test) are rows that the encoders have not seen; train may name any days.
        Raises DataError when they have seen them, when the folder has no split column, or no day in the range.
        """
        if data.split == "random":
            if not self.has_split:
                raise DataError(
                    f"{self.root}: data.split is random, but the folder has no split column; "
                    "use days, or prepare with a split"
                )
            return self.files
        assert data.days is not None, "DataConfig refuses split: days without days"
        text = getattr(data.days, part)
        first, last = day_range(text)
        files = tuple(f for f in self.files if first <= f.day <= last)
        if not files:
            raise DataError(f"{self.root}: no day in data.days.{part} {text}; available: {_span(self.days)}")
        if part != "train":
            self._check_unseen(f"data.days.{part} {text}", files)
        return files

    def scenarios_of(self, data: DataConfig) -> tuple[int, ...] | None:
        """The indices of `data.scenarios`; None where it leaves them open. Raises ConfigError naming an unknown one."""
        names = self.schema.scenario.names
        for name in data.scenarios or ():
            if name not in names:
                raise ConfigError(f"data.scenarios: {name!r} is no scenario of {self.root}; {nearest(name, names)}")
        return None if data.scenarios is None else tuple(names.index(name) for name in data.scenarios)

    def verify(self) -> None:
        """Compare every file's SHA-256 with the manifest. Raises DataError naming the first file that differs."""
        for file in (*self.others, *self.files):
            _check_content(file)

    def _check_unseen(self, days: str, files: tuple[DayFile, ...]) -> None:
        """Raises DataError when the vocabularies and scalers of a file were fitted on its day or a later one."""
        if self.has_split:
            raise DataError(
                f"{self.root}: {days}: rows of all days were fitted (random split); "
                "use data.split random, or prepare by days"
            )
        for file in files:
            if file.fitted_until is not None and file.day <= file.fitted_until:
                fitted = f"vocabularies and scalers were fitted on days up to {file.fitted_until}"
                raise DataError(f"{self.root}: {days}: {fitted}; begin later, or prepare with an earlier fit_until")


def damaged(root: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """The days of a prepared folder with a file that is missing or not what the manifest says, and what is wrong.

    Raises DataError for a file that belongs to all days.
    """
    for entry in manifest["others"]:
        _check_content(StoredFile(*_stored(root, entry)))
    found: dict[str, str] = {}
    for entry in manifest["files"]:
        try:
            _check_content(StoredFile(*_stored(root, entry)))
        except DataError as failure:
            found.setdefault(str(entry["day"]), str(failure))
    return found


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
    until = entry.get("fitted_until")
    fitted = date.fromisoformat(until) if until else None
    return DayFile(
        *_stored(root, entry), date.fromisoformat(entry["day"]), int(entry["rows"]), int(entry["row_groups"]), fitted
    )


def _stored(root: Path, entry: dict[str, Any]) -> tuple[Path, int, str]:
    return root / entry["path"], int(entry["bytes"]), str(entry["sha256"])


def _check_size(file: StoredFile) -> None:
    try:
        found = file.path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{file.path}: missing, but listed in {MANIFEST}; run swrec prepare again") from None
    if found != file.size:
        raise DataError(
            f"{file.path}: {found} bytes, expected {file.size} ({MANIFEST}); "
            "cut short or overwritten? run swrec prepare again"
        )


def _check_content(file: StoredFile) -> None:
    _check_size(file)
    found = file_sha256(file.path)
    if found != file.sha256:
        raise DataError(
            f"{file.path}: SHA-256 {found[:12]}..., expected {file.sha256[:12]}...; run swrec prepare again"
        )


def _span(days: Sequence[date]) -> str:
    if not days:
        return "none"
    return f"{days[0]}..{days[-1]} ({len(days)} days)" if len(days) > 1 else str(days[0])
