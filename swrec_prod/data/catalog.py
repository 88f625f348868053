"""Catalog: what `swrec prepare` wrote. Which days there are, which files hold them, and that all of it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from swrec_prod.config import DataConfig, SplitName, day_range
from swrec_prod.data.manifest import FileRecord, Manifest, read_manifest
from swrec_prod.errors import ConfigError, DataError, nearest
from swrec_prod.schema import FeatureSchema


@dataclass(frozen=True)
class DayFile:
    """One Parquet file of one day. size: bytes. rows and row_groups: how many. fitted_until: the last day that its
    encoders had seen.
    """

    path: Path
    size: int
    day: date
    rows: int
    row_groups: int
    fitted_until: date | None = None


@dataclass(frozen=True)
class Catalog:
    """A prepared folder. files: of the days, in order of day and path. records: of all files, the
    days' first.

    fingerprint: of schema and vocabularies. manifest: what it was opened by.
    """

    root: Path
    schema: FeatureSchema
    files: tuple[DayFile, ...]
    records: tuple[FileRecord, ...]
    fingerprint: str
    has_split: bool
    manifest: Manifest | None = None

    @classmethod
    def open(cls, path: str | Path) -> Catalog:
        """Read the manifest and compare every file's size with it; `verify` compares contents too.

        Raises DataError when there is no manifest, when it cannot be read, or when a file is missing or of another
        size.
        """
        root = Path(path)
        manifest = read_manifest(root)
        in_order = sorted(manifest.files, key=lambda file: (file.day, file.path))
        records = (*in_order, *manifest.others)
        for record in records:
            record.check(root, content=False)
        files = [
            DayFile(root / file.path, file.bytes, file.day, file.rows, file.row_groups, file.fitted_until)
            for file in in_order
        ]
        schema = FeatureSchema.load(root / "schema.yaml")
        return cls(root, schema, tuple(files), records, manifest.fingerprint, manifest.splits is not None, manifest)

    def verify(self, *, days: bool) -> None:
        """Compare the contents of schema and vocabularies with the manifest, and with `days` those of all days too.

        Raises DataError naming the first file that is not what was prepared.
        """
        of_days = {file.path for file in self.files}
        for record in self.records:
            if days or self.root / record.path not in of_days:
                record.check(self.root, content=True)

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


def _span(days: Sequence[date]) -> str:
    if not days:
        return "none"
    return f"{days[0]}..{days[-1]} ({len(days)} days)" if len(days) > 1 else str(days[0])
