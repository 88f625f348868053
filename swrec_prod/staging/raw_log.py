"""What a raw log is made of, day by day, and how it differs from what was prepared: the plan of a `swrec prepare`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.data.manifest import RawFileRecord, Source
from swrec_prod.errors import DataError
from swrec_prod.files import file_sha256
from swrec_prod.raw.source import RawFile, RawFiles

THREADS = 2


@dataclass(frozen=True)
class RawLog:
    """The files of a source, and name, bytes and sha256 of each. Files without a day belong to all days."""

    files: RawFiles
    identities: dict[Path, RawFileRecord]
    stats: dict[Path, tuple[int, int]]

    @classmethod
    def of(cls, files: RawFiles) -> RawLog:
        """Reads every file once, for its checksum."""
        paths = [file.path for file in files]
        stats = {path: _stat(path) for path in paths}
        with ThreadPoolExecutor(THREADS) as pool:
            sums = dict(zip(paths, pool.map(file_sha256, paths), strict=True))
        names = _names(files)
        records = {p: RawFileRecord(name=names[p], bytes=stats[p][0], sha256=sums[p]) for p in paths}
        return cls(files, records, stats)

    @property
    def has_days(self) -> bool:
        """Whether the log lies in files of one day each."""
        return any(file.day is not None for file in self.files)

    @property
    def undated(self) -> list[RawFileRecord]:
        """Identities of the files that belong to all days."""
        return [self.identities[file.path] for file in self.files if file.day is None]

    def of_days(self, days: Sequence[date]) -> RawFiles:
        """The files of these days, and those that belong to all."""
        wanted = set(days)
        return tuple(file for file in self.files if file.day is None or file.day in wanted)

    @cached_property
    def by_day(self) -> dict[date, list[RawFileRecord]]:
        """Identities of the files of each day."""
        of_day: dict[date, list[RawFileRecord]] = {}
        for file in self.files:
            if file.day is not None:
                of_day.setdefault(file.day, []).append(self.identities[file.path])
        return dict(sorted(of_day.items()))

    def place(self, day: date) -> str:
        """The files that rows of `day` come from, for messages; those of the log when it is none of its days."""
        of_day = [file.path for file in self.files if file.day == day]
        paths = of_day or [file.path for file in self.files if (file.day is not None) == self.has_days]
        return f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}"

    def untyped(self, files: RawFiles) -> set[str]:
        """Columns without a type in any of these files: what pandas writes where a column has only missing values."""
        footers = [self._footers[file.path] for file in files if file.path in self._footers]
        return set().union(*(without for _, without in footers)) - set().union(*(typed for typed, _ in footers))

    @cached_property
    def _footers(self) -> dict[Path, tuple[set[str], set[str]]]:
        """Of each Parquet file the columns with a type and those without; a damaged one is told of where it is read."""
        footers = {}
        for path in (file.path for file in self.files if file.path.suffix == ".parquet"):
            with contextlib.suppress(pa.ArrowException, OSError):
                schema = pq.read_schema(path)
                without = {field.name for field in schema if pa.types.is_null(field.type)}
                footers[path] = (set(schema.names) - without, without)
        return footers

    def continues(self, before: Source | None, now: Source) -> bool:
        """Whether what was prepared from the source `before` is still good for the source `now`.

        Files without a day are the whole log where it has no days. Beside a log with days they are attributes, and days
        that are prepared keep the ones that they had then: those of later days are no better for them. (Of a prepare
        that was cut off, no day is prepared yet in this sense: with other attributes it begins again.)
        """
        return before is not None and (before == now or (self.has_days and before.data_file == now.data_file))

    def check_unchanged(self) -> None:
        """Raises DataError naming a file that vanished or changed since its checksum was taken."""
        for path, stat in self.stats.items():
            if _stat(path) != stat:
                remedy = "run swrec prepare again when it is complete"
                raise DataError(f"{path}: changed while it was being prepared; {remedy}")


def changed_days(log: RawLog, prepared: Mapping[date, list[RawFileRecord]]) -> dict[date, str]:
    """The days of a dated log that are not prepared, or not from these raw files, and what is new, for people."""
    changed = {}
    for day, files in log.by_day.items():
        before = prepared.get(day)
        if before != files:
            changed[day] = "new" if before is None else difference(before, files)
    return changed


def difference(before: list[RawFileRecord], now: list[RawFileRecord]) -> str:
    """Which files changed, came or are gone, for people."""
    old, new = ({file.name: file.sha256 for file in files} for files in (before, now))
    changed = [name for name in new if name in old and old[name] != new[name]]
    added, gone = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    causes = ((changed, "changed since it was prepared"), (added, "came late"), (gone, "is gone"))
    more = {what: f" and {len(names) - 1} more" if len(names) > 1 else "" for names, what in causes}
    return ", ".join(f"{names[0]}{more[what]} {what}" for names, what in causes if names)


def _names(files: RawFiles) -> dict[Path, str]:
    """The path of each file below the folder that all files of its day are in: the same when a log moves or grows.

    A folder that gives the rows a column is always part of the name: renamed, it gives them another value.
    """
    together: dict[date | None, list[RawFile]] = {}
    for file in files:
        together.setdefault(file.day, []).append(file)
    names: dict[Path, str] = {}
    for of_day in together.values():
        root = Path(os.path.commonpath([file.path.absolute().parent for file in of_day]))
        while unquote(root.name.partition("=")[0]) in dict(of_day[0].columns):
            root = root.parent
        for file in of_day:
            name = file.path.absolute().relative_to(root).as_posix()
            above = [f"{key}={value}" for key, value in file.columns if f"{key}=" not in name]
            names[file.path] = "/".join([*above, name])
    return names


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path}: vanished while it was being prepared") from None
    return stat.st_size, stat.st_mtime_ns
