"""`swrec datasets`: what is known of every source, for people and for programs."""

from __future__ import annotations

from typing import Any

from swrec_prod import shipped
from swrec_prod.datasets import DATASETS


def known_sources() -> list[dict[str, Any]]:
    """One record a source: name, summary, rows (None: yours), size, scenarios, licence, get, data_file, options."""
    return [
        {
            "name": source.name,
            "summary": source.summary,
            "rows": source.rows or None,
            "size": source.size,
            "scenarios": source.scenarios,
            "licence": source.licence,
            "get": source.how_to_get,
            "data_file": shipped.shown(shipped.CONFIGS / "data" / source.data_file),
            "options": list(source.options.model_fields),
        }
        for source in DATASETS.values()
    ]


def as_text(sources: list[dict[str, Any]]) -> str:
    """A few lines a source."""
    names = {"scenarios": "scenarios", "licence": "licence", "get it": "get", "data file": "data_file"}
    lines = []
    for source in sources:
        size = f"{source['rows']:,} rows; download: {source['size']}" if source["rows"] else "rows and size: yours"
        lines += [f"{source['name']}: {source['summary']}", f"    {size}"]
        lines += [f"    {name}: {source[key]}" for name, key in names.items()]
    return "\n".join(lines)
