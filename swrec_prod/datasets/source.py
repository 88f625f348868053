"""Dataset: what is known about one raw source, and how it becomes the standard table.

The standard table has one row an impression: the raw feature columns (Feature.source), the scenario column, the label
columns, time (timestamp[us, UTC]), user, and `row`, int64, the position in the raw log, which stays with a row for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from swrec_prod.strict import Strict


@dataclass(frozen=True)
class Dataset:
    """One source. data_file: the name of its default file in configs/data. options: what that file's `options` may hold.

    locate(raw, cache): the raw files in the folder or file `raw`; without `raw` they are fetched into the folder
    `cache`. read(files, options): the standard table. Both raise DataError saying what is missing or wrong.
    """

    name: str
    summary: str
    rows: int
    scenarios: str
    licence: str
    how_to_get: str
    data_file: str
    options: type[Strict]
    locate: Callable[[Path | None, Path], tuple[Path, ...]]
    read: Callable[[tuple[Path, ...], Any], pa.Table]
