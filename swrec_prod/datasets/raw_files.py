"""Raw files that a person has downloaded:
all there, and laid out as the reader expects, before an engine reads them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from swrec_prod.engine.lines import first_line
from swrec_prod.errors import DataError, nearest
from swrec_prod.raw.source import RawFile, RawFiles


def files_of_layout(raw: Path | None, layouts: Sequence[Sequence[str]], dataset: str, how_to_get: str) -> RawFiles:
    """The files of the first of `layouts` (paths below `raw`) that has any file there.

    Raises DataError saying how to get the data set, or what is missing of it.
    """
    known = "; or ".join(", ".join(names) for names in layouts)
    if raw is None:
        raise DataError(f"{dataset}: cannot be fetched; {how_to_get}")
    if not raw.is_dir():
        raise DataError(f"{raw}: no such folder; {dataset} is {known}")
    for names in layouts:
        missing = [name for name in names if not (raw / name).is_file()]
        if len(missing) < len(names):
            if missing:
                raise DataError(f"{raw}: {missing[0]} is missing (the layout is {', '.join(names)})")
            return tuple(RawFile(raw / name) for name in names)
    raise DataError(f"{raw}: no {dataset} here; expected {known}")


def require_keys(path: Path, wanted: Sequence[str]) -> None:
    """Raises DataError when the first line of the file is no JSON object with these keys."""
    text = _first_row(path)
    try:
        keys = tuple(json.loads(text))
    except (ValueError, TypeError):
        raise DataError(f"{path}:1: {text[:60]!r} is not one JSON object a line") from None
    for name in wanted:
        if name not in keys:
            raise DataError(f"{path}: key {name!r} is missing; {nearest(name, keys)}")


def require_fields(path: Path, delimiter: str, names: Sequence[str]) -> None:
    """Raises DataError when the first line of a file without a header has another number of fields than `names`."""
    fields = _first_row(path).count(delimiter) + 1
    if fields != len(names):
        raise DataError(f"{path}:1: {fields} fields, expected {len(names)} ({', '.join(names)})")


def _first_row(path: Path) -> str:
    """The first line of a file without a header. Raises DataError when there is none."""
    line = first_line(path)
    if not line:
        raise DataError(f"{path}: the first line is empty")
    return line
