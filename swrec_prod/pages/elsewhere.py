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


def backfill_sections(folder: Path, out: Path) -> list[Section]:
    """The gate's verdict, AUC day by day, and what scenarios gain and lose. out: the page that links to it.

    Raises DataError when the folder has no backfill.json.
    """
    record = BackfillRecord.read(folder)
    task = record.tasks[0]
    return [
        *([backfill_page.decision(record.verdict)] if record.verdict else []),
        pictures.quality_by_day(record, task),
        *pictures.seesaws(record, task),
        _link("All about the backfill", folder / backfill_page.PAGE, out),
    ]


def comparison_sections(folder: Path, out: Path) -> list[Section]:
    """The variants' AUC and differences. out: the page that links to it. Raises DataError without compare.json."""
    try:
        content = read_json(folder / COMPARE_JSON, DataError)
    except FileNotFoundError:
        raise DataError(f"{folder}: no {COMPARE_JSON}; `swrec compare RUN_DIR... --out {folder}` writes it") from None
    rows = [_variant_row(variant) for variant in content["variants"]]
    grid = Grid(("variant", "AUC", "log loss", f"AUC less {content['baseline']}", "p"), rows)
    return [
        Table("Comparison on the test rows", grid),
        _link("All about the comparison", folder / compare_page.PAGE, out),
    ]


def _variant_row(variant: dict[str, Any]) -> list[str]:
    difference = variant["difference"]
    less = [change(difference["value"]), f"{difference['p']:.2g}"] if difference else ["baseline", ""]
    return [variant["name"], number(variant["auc"]["value"]), number(variant["logloss"]), *less]


def _link(title: str, page: Path, out: Path) -> Links:
    return Links(title, [(page.name, Path(os.path.relpath(page, out.parent)).as_posix())])
