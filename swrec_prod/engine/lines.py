"""Checks of text files before an engine reads them: of what engines accept silently, or each read in their own way."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

from swrec_prod.errors import DataError

GZIP = b"\x1f\x8b"


def check_files(files: Sequence[Path]) -> None:
    """Raises DataError for a file that is not there, or ends in .gz and is not compressed."""
    for path in files:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        if path.suffix == ".gz":
            with path.open("rb") as file:
                if file.read(2) != GZIP:
                    raise DataError(f"{path}: damaged, no gzip file")


def check_headers(files: Sequence[Path], columns: Sequence[str], delimiter: str, quote: str) -> None:
    """Raises DataError for the first file whose first line does not name `columns` in their order."""
    for path in files:
        names = _split(first_line(path), delimiter, quote)
        if names == list(columns):
            continue
        if len(names) != len(columns):
            raise DataError(
                f"{path}:1: the header has {len(names)} columns, expected {len(columns)}: {delimiter.join(columns)}"
            )
        name, wanted = next((name, column) for name, column in zip(names, columns, strict=True) if name != column)
        raise DataError(f"{path}:1: the header has {name!r} where {wanted!r} is expected. Did the producer change?")


def first_line(path: Path) -> str:
    """The first line of a text file in UTF-8, .gz too; "" where the file or the line is empty.

    Raises DataError for a file that cannot be read.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return file.readline().decode("utf-8-sig").rstrip("\r\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as failure:
        raise DataError(f"{path}: cannot be read: {getattr(failure, 'strerror', None) or failure}") from None


def _split(line: str, delimiter: str, quote: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, quotechar=quote), []) if quote else line.split(delimiter)
