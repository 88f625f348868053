"""A reader of a folder of prepared_folder.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prepared_folder import SCHEMA

from swrec_prod.config import DataConfig, DayRanges
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.reader import Reader
from swrec_prod.schema.layout import Layout

ALL_DAYS = DayRanges(train="2024-01-01..2024-02-29", valid="2024-03-01", test="2024-03-02")
LAYOUT = Layout.of(SCHEMA, history=True)


def reader(
    data: Path | Catalog,
    batch_size: int = 16,
    *,
    split: str = "days",
    window: int = 10**6,
    layout: Layout = LAYOUT,
    scenarios: tuple[str, ...] | None = None,
    **options: Any,
) -> Reader:
    """A reader of the training rows of a folder or its catalog, shuffled and without threads unless told otherwise."""
    catalog = data if isinstance(data, Catalog) else Catalog.open(data)
    days = {"days": ALL_DAYS} if split == "days" else {}
    config = DataConfig(path=str(catalog.root), split=split, shuffle_rows=window, scenarios=scenarios, **days)  # type: ignore[arg-type]
    return Reader(catalog, layout, "train", config, batch_size, **({"shuffle": True, "prefetch": 0} | options))
