"""What a backfill and a comparison say, as sections of a run's page, with links to their own pages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from swrec_prod.drawing.page import Links, Section, Table
from swrec_prod.errors import DataError
from swrec_prod.evaluate.text import Grid, change, number
from swrec_prod.files import read_json
from swrec_prod.judge.record import BackfillRecord
from swrec_prod.pages import backfill_page, compare_page
from swrec_prod.pages import backfill_pictures as pictures

COMPARE_JSON = "compare.json"


def sections_beside(backfill: Path | None, comparison: Path | None, out: Path) -> list[Section]:
    """What the page `out` says of the folders of a backfill and a comparison, where they are given, with links.

    Raises DataError for a folder without its JSON.
    """
    sections: list[Section] = []
    pages: list[tuple[str, Path]] = []
    if backfill:
        sections += backfill_sections(BackfillRecord.read(backfill))
        pages.append(("All about the backfill", backfill / backfill_page.PAGE))
    if comparison:
        sections.append(comparison_section(comparison))
        pages.append(("All about the comparison", comparison / compare_page.PAGE))
    links = [(name, Path(os.path.relpath(page, out.parent)).as_posix()) for name, page in pages]
    return [*sections, Links("Pages beside this one", links)] if links else []


def backfill_sections(record: BackfillRecord) -> list[Section]:
    """The gate's verdict, AUC day by day, and what scenarios gain and lose."""
    task = record.tasks[0]
    verdict = [backfill_page.decision(record.verdict)] if record.verdict else []
    return [*verdict, pictures.quality_by_day(record, task), *pictures.seesaws(record, task)]


def comparison_section(folder: Path) -> Section:
    """The variants' AUC and differences. Raises DataError without compare.json."""
    try:
        content = read_json(folder / COMPARE_JSON, DataError)
    except FileNotFoundError:
        raise DataError(f"{folder}: no {COMPARE_JSON}; `swrec compare RUN_DIR... --out {folder}` writes it") from None
    rows = [_variant_row(variant) for variant in content["variants"]]
    grid = Grid(("variant", "AUC", "log loss", f"AUC less {content['baseline']}", "p"), rows)
    return Table("Comparison on the test rows", grid)


def _variant_row(variant: dict[str, Any]) -> list[str]:
    difference = variant["difference"]
    less = [change(difference["value"]), f"{difference['p']:.2g}"] if difference else ["baseline", ""]
    return [variant["name"], number(variant["auc"]["value"]), number(variant["logloss"]), *less]
