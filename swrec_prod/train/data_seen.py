"""What the data of a run were, by day, so that a resumed run is not trained on others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from swrec_prod.config import DataConfig, SplitName
from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import DataError

PARTS: tuple[SplitName, ...] = ("train", "valid")  # test rows change no weights and choose none

DataSeen = dict[str, dict[str, dict[str, Any]]]  # part -> day -> files, rows, digest of their contents


def data_seen(catalog: Catalog, data: DataConfig) -> DataSeen:
    """The days of training and validation, from the manifest alone."""
    digests = {record.path: record.sha256 for record in catalog.records}
    seen: DataSeen = {}
    for part in PARTS:
        days: dict[str, list[tuple[str, int]]] = {}
        for file in catalog.files_of(data, part):
            path = file.path.relative_to(catalog.root).as_posix()
            days.setdefault(str(file.day), []).append((f"{path} {digests[path]}", file.rows))
        seen[part] = {day: _of_day(files) for day, files in days.items()}
    return seen


def check_unchanged(before: Mapping[str, Any], now: DataSeen, where: str) -> None:
    """Raises DataError naming the first day that is not what it was when a run was saved. where: the prepared folder.

    before: as `data_seen`; parts that it lacks are passed over, since earlier versions saved none.
    """
    for part, days in now.items():
        old = before.get(part, days)
        for day in sorted({*old, *days}):
            if old.get(day) != days.get(day):
                were, are = (_described(of.get(day)) for of in (old, days))
                what = f"{day} ({part}) had {were} when the run was saved, and has {are} now"
                other = " with other contents" if were == are else ""
                remedy = "prepare it as it was, or train anew with another --out or --overwrite"
                raise DataError(f"{where}: {what}{other}; {remedy}")


def _of_day(files: list[tuple[str, int]]) -> dict[str, Any]:
    lines = "\n".join(line for line, _ in sorted(files))
    rows = sum(rows for _, rows in files)
    return {"files": len(files), "rows": rows, "digest": hashlib.sha256(lines.encode()).hexdigest()[:16]}


def _described(day: Mapping[str, Any] | None) -> str:
    return f"{day['rows']:,} rows in {day['files']} file(s)" if day else "no rows"
