"""The manifest: what a prepared folder holds, from what it was made, and how. This file is that format's definition.

    OUT/day=YYYY-MM-DD/part-NNNNN.parquet   encoded rows, by (time, row)
    OUT/schema.yaml, OUT/vocab/             the encoders
    OUT/requests.parquet                    held-out rows, raw
    OUT/manifest.json                       the Manifest below, written last

`swrec prepare` fills a Manifest day by day and keeps it as its journal until all is there (staging/staging.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pydantic

from swrec_prod.errors import DataError
from swrec_prod.files import file_sha256

MANIFEST = "manifest.json"
FORMAT = 3
COMPUTED = ("rows", "scenarios", "nulls")  # keys of the file that follow from the others
PREPARE_AGAIN = "run swrec prepare again"
ALL = "all"  # the only part of days whose rows are not dealt
SHOWN = 3  # problems of a damaged manifest that are told; it may have one a day


class Record(pydantic.BaseModel):
    """A part of the manifest. It may change while days are prepared; unknown keys are errors."""

    model_config = pydantic.ConfigDict(extra="forbid")


class FileRecord(Record):
    """One file. path: below the prepared folder, with slashes. bytes: its size. sha256: of its content."""

    path: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, root: Path, path: Path) -> FileRecord:
        """The record of a file below `root`; reads all of it."""
        return cls(path=path.relative_to(root).as_posix(), bytes=path.stat().st_size, sha256=file_sha256(path))

    def check(self, root: Path, *, content: bool) -> None:
        """Raises DataError when the file is missing or of another size; with `content`, also of another checksum."""
        path = root / self.path
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise DataError(f"{path}: missing, but listed in {MANIFEST}; {PREPARE_AGAIN}") from None
        if size != self.bytes:
            expected = f"{size} bytes, expected {self.bytes} ({MANIFEST})"
            raise DataError(f"{path}: {expected}; cut short or overwritten? {PREPARE_AGAIN}")
        if content and (digest := file_sha256(path)) != self.sha256:
            raise DataError(f"{path}: SHA-256 {digest[:12]}..., expected {self.sha256[:12]}...; {PREPARE_AGAIN}")


class DayFileRecord(FileRecord):
    """One Parquet file of one day. fitted_until: the last day that its encoders had seen; None where that is no day."""

    day: date
    rows: int
    row_groups: int
    fitted_until: date | None = None


class RawFileRecord(Record):
    """What identifies the content of one file of the raw log. name: its path below the folder of the log."""

    name: str
    bytes: int
    sha256: str


class Source(Record):
    """From what a folder was prepared. data_file: DataFile.identity. raw: the raw files that belong to all days."""

    data_file: str
    raw: list[RawFileRecord]


class Traffic(Record):
    """Rows of one scenario on one day, and how many of them are positive, by task."""

    rows: int
    positives: dict[str, int]


class Values(Record):
    """Values of one id or bag feature. unknown: those of them that no id is known for, so that row 0 stands for them.

    missing: rows without a value (a bag: without a list); row 0 stands for a missing id, too, but it is none of
    `values`. A null within the list of a bag is an unknown value.
    """

    values: int
    unknown: int
    missing: int


class PartValues(Record):
    """rows: by scenario. features: by name and scenario; an id feature that has all values, and known ones, is left
    out.
    """

    rows: dict[str, int]
    features: dict[str, dict[str, Values]]


class Day(Record):
    """One prepared day. nulls: missing values by feature. scenarios: traffic by value, "(unseen)" of all others.

    raw: the day's own raw files, empty where the log does not lie in files of one day each. attributes: the files that
    were joined to this day; None where there are no such days. values: of id and bag features, of all rows, or of
    train, valid and test where rows are dealt; None of days that were prepared before it was counted.
    """

    rows: int
    nulls: dict[str, int]
    scenarios: dict[str, Traffic]
    raw: list[RawFileRecord]
    attributes: list[RawFileRecord] | None = None
    values: dict[str, PartValues] | None = None


class Fit(Record):
    """What the encoders were fitted on. rule: in words. until: the last fitted day; None with a random split."""

    rule: str
    rows: int
    until: date | None


class Manifest(Record):
    """manifest.json. dataset: the data file's source. files: of the days. others: those that belong to all days.

    row: the column of the raw log that numbers its rows, where it has one of this name; None: numbered day by day.
    fingerprint: of schema and vocabularies (Encoders.fingerprint). splits: rows of train, valid and test where they are
    dealt at random, else None. fit, fingerprint: None and "" until the encoders are fitted.
    In the file stand also, computed from `days`: rows (of all days), scenarios (day -> scenario -> traffic) and nulls
    (feature -> missing values).
    """

    format: Literal[3] = 3
    dataset: str
    source: Source
    files: list[DayFileRecord]
    others: list[FileRecord]
    days: dict[date, Day]
    fit: Fit | None
    fingerprint: str
    splits: dict[str, int] | None
    row: str | None = "row"

    @property
    def rows(self) -> int:
        """Rows of all days."""
        return sum(day.rows for day in self.days.values())

    @property
    def raw_files(self) -> dict[date, list[RawFileRecord]]:
        """What every day was made of."""
        return {day: record.raw for day, record in self.days.items()}

    @property
    def nulls(self) -> dict[str, int]:
        """Missing values of all days, by feature."""
        names = next(iter(self.days.values())).nulls if self.days else {}
        return {name: sum(day.nulls[name] for day in self.days.values()) for name in names}

    def plain(self) -> dict[str, Any]:
        """Plain values, without what is computed from them."""
        plain = self.model_dump(mode="json", exclude={"row"} if self.row == "row" else None)
        for day in plain["days"].values():
            for name in [name for name in ("attributes", "values") if day[name] is None]:
                del day[name]
        return plain

    def to_json(self) -> dict[str, Any]:
        """The content of manifest.json, in the order of its keys."""
        plain = self.plain()
        splits = plain.pop("splits")
        scenarios = {day: record["scenarios"] for day, record in plain["days"].items()}
        return plain | {"rows": self.rows, "splits": splits, "scenarios": scenarios, "nulls": self.nulls}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Manifest:
        """The manifest of what `plain` or `to_json` gave. Raises ValueError (pydantic's) for anything else."""
        return cls.model_validate(
            {key: value for key, value in plain.items() if key not in ("rows", "scenarios", "nulls")}
        )

    def keep_days(self, days: Iterable[date]) -> None:
        """Leave out the files and records of all other days."""
        wanted = set(days)
        self.days = {day: record for day, record in self.days.items() if day in wanted}
        self.files = [file for file in self.files if file.day in wanted]

    def damaged_days(self, root: Path) -> dict[date, str]:
        """The days with a file that is missing or not what its record says, and what is wrong with it.

        Raises DataError for a file that belongs to all days.
        """
        for file in self.others:
            file.check(root, content=True)
        problems: dict[date, str] = {}
        for file in self.files:
            try:
                file.check(root, content=True)
            except DataError as failure:
                problems.setdefault(file.day, str(failure))
        return problems


def read_manifest(root: Path) -> Manifest:
    """The manifest of a prepared folder. Raises DataError when there is none, it is damaged or of another format."""
    path = root / MANIFEST
    try:
        plain = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{root}: not a prepared folder: no {MANIFEST}; run swrec prepare") from None
    except ValueError as failure:
        raise DataError(f"{path}: damaged ({failure}); {PREPARE_AGAIN}") from None
    number = plain.get("format") if isinstance(plain, dict) else None
    if number != FORMAT:
        raise DataError(f"{path}: format {number!r}, expected {FORMAT}; {PREPARE_AGAIN} with this version")
    try:
        return Manifest.from_json(plain)
    except pydantic.ValidationError as failure:
        errors = [f"{'.'.join(map(str, error['loc']))}: {error['msg'].lower()}" for error in failure.errors()]
        more = f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        raise DataError(f"{path}: damaged ({'; '.join(errors[:SHOWN])}{more}); {PREPARE_AGAIN}") from None
