"""The standard table of a raw folder, evaluated: what a converter's tests look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from swrec_prod.datasets import DATASETS
from swrec_prod.engine import engine
from swrec_prod.engine.contract import Engine


def standard_table(name: str, raw: Path | None, on: Engine | None = None, **options: Any) -> pa.Table:
    """The rows of dataset `name`, sorted by all columns that can be; on the engine `on`, or a local one."""
    dataset = DATASETS[name]
    parsed = dataset.options.model_validate(options)
    files = dataset.locate(raw, Path("/nowhere"), parsed)
    if on is None:
        assert raw is not None
        with engine("local", raw) as local:
            return _sorted(local.arrow(dataset.read(local, files, parsed)))
    return _sorted(on.arrow(dataset.read(on, files, parsed)))


def _sorted(table: pa.Table) -> pa.Table:
    """Columns by name, and rows by those columns that are no lists."""
    table = table.select(sorted(table.column_names))
    return table.sort_by([(f.name, "ascending") for f in table.schema if not pa.types.is_list(f.type)])
