"""What the path of a log's file says of its rows: their day, and columns that lie in names of folders.

day=2024-05-01/, 2024-05-01.parquet, year=2024/month=05/day=01/     the day
scenario=04/, city=S%C3%A3o%20Paulo/                                a column of strings for all rows of the file
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from urllib.parse import unquote

from swrec_prod.errors import DataError
from swrec_prod.raw.source import RawFile, RawFiles

DAY_FOLDER = re.compile(r"^(?:day|date|dt|ds)=(\d{4})-?(\d{2})-?(\d{2})$")
DAY_IN_PARTS = ("year", "month", "day")
DATE_IN_NAME = re.compile(r"(?<![0-9A-Za-z])(\d{4})([-_]?)(\d{2})\2(\d{2})(?![0-9A-Za-z])")
MISSING = "__HIVE_DEFAULT_PARTITION__"  # what Hive and Spark call a folder of missing values


def is_leftover(path: Path, root: Path, pattern: str) -> bool:
    """Whether a file is none of data: hidden, a checksum, or what Spark leaves beside data or has not finished.

    Such names begin with `_` or a dot, as those of `_SUCCESS`, `_temporary/` and `.part-0.parquet.crc`; a name that
    `pattern` spells out is meant, and so is a folder `_hour=04`, which names a column.
    """
    meant = {part for part in Path(pattern).parts if not set(part) & set("*?[")}
    parts = path.relative_to(root).parts
    return path.suffix == ".crc" or any(_is_hidden(part) for part in parts if part not in meant)


def _is_hidden(part: str) -> bool:
    return part.startswith(".") or (part.startswith("_") and "=" not in part)


def described(paths: Sequence[Path], root: Path) -> RawFiles:
    """The files of a log with what their paths below `root` say of them.

    Raises DataError naming a file without a day where others have one, or whose folders name other columns.
    """
    folders = [path.relative_to(root).parts[:-1] for path in paths]
    days = [day_of(path.relative_to(root)) for path in paths]
    columns = [columns_of(names) for names in folders]
    _check_days(paths, days)
    _check_columns(paths, columns)
    return tuple(
        RawFile(path, day, columns=tuple(sorted(of.items())), below=path.relative_to(root).as_posix())
        for path, day, of in zip(paths, days, columns, strict=True)
    )


def _check_days(paths: Sequence[Path], days: Sequence[date | None]) -> None:
    if None in days and any(days):
        without, dated = paths[days.index(None)], next(p for p, day in zip(paths, days, strict=True) if day)
        remedy = "put all files of the log into day= folders"
        raise DataError(f"{without}: its path says no day, but that of {dated.name} does; {remedy}")


def _check_columns(paths: Sequence[Path], columns: Sequence[dict[str, str | None]]) -> None:
    for path, of in zip(paths, columns, strict=True):
        if of.keys() != columns[0].keys():
            difference = f"its folders name {_words(of)}, those of {paths[0]} {_words(columns[0])}"
            raise DataError(
                f"{path}: {difference}; give all files of the log folders of the same key=value, "
                "or leave some of them out by options.log"
            )


def _words(columns: dict[str, str | None]) -> str:
    return f"the columns {', '.join(sorted(columns))}" if columns else "no column"


def columns_of(folders: Sequence[str]) -> dict[str, str | None]:
    """The columns in names of folders, but for those that say the day: percent escapes decoded, Hive's null missing.

    Raises DataError for a key that is there twice.
    """
    columns: dict[str, str | None] = {}
    pairs = _pairs(folder for folder in folders if not DAY_FOLDER.match(folder))
    in_parts = _in_parts(folders)
    for key, value in pairs:
        if key in columns:
            raise DataError(f"{'/'.join(folders)}: column {key!r} is in the path twice; rename one of these folders")
        if not (in_parts and key in DAY_IN_PARTS):
            columns[key] = None if value == MISSING else value
    return columns


def all_columns_of(path: Path) -> tuple[tuple[str, str | None], ...]:
    """The columns in names of a file's folders, those of days too."""
    pairs = _pairs(path.parts[:-1])
    return tuple((key, None if value == MISSING else value) for key, value in sorted(dict(pairs).items()))


def _pairs(folders: Iterable[str]) -> list[tuple[str, str]]:
    """Key and value of the folders `key=value`."""
    parts = (folder.partition("=") for folder in folders)
    return [(unquote(key), unquote(value)) for key, is_pair, value in parts if key and is_pair]


def day_of(path: Path) -> date | None:
    """The day in a path, from its folders or the file's name; None where there is no day, or several.

    Raises DataError for folders that name no date, such as day=2024-13-01.
    """
    for part in path.parts:
        if folder := DAY_FOLDER.match(part):
            return _date(folder.groups(), part, path)
    if numbers := _in_parts(path.parts):
        return _date(numbers, "/".join(f"{key}={n}" for key, n in zip(DAY_IN_PARTS, numbers, strict=True)), path)
    dates = {_date_or_none(year, month, day) for year, _, month, day in DATE_IN_NAME.findall(path.name)} - {None}
    return dates.pop() if len(dates) == 1 else None


def _in_parts(folders: Sequence[str]) -> tuple[str, ...] | None:
    """The numbers of `year=2024/month=05/day=01`, in whatever order the folders are."""
    values = dict(_pairs(folders))
    numbers = tuple(values.get(key, "") for key in DAY_IN_PARTS)
    return numbers if all(re.fullmatch(r"\d{1,4}", number) for number in numbers) else None


def _date(numbers: Sequence[str], said: str, path: Path) -> date:
    try:
        year, month, day = map(int, numbers)
        return date(year, month, day)
    except ValueError:
        raise DataError(f"{path}: {said} is no date") from None


def _date_or_none(year: str, month: str, day: str) -> date | None:
    """A number of eight digits need not be a date."""
    try:
        return date(int(year), int(month), int(day)) if 1970 <= int(year) < 2100 else None
    except ValueError:
        return None
