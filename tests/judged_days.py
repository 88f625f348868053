"""A small prepared folder of eight days, run files over it, and finished runs, for the tests of backfills.

No engine prepares it: rows are drawn, two labels depend on person and movie, every row has a weight unless asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from prepared_folder import FIRST_DAY, SCHEMA, rows_table, write_prepared
from runs import RATES

from swrec_prod.config import RunConfig
from swrec_prod.schema import FeatureSchema

DAYS = [FIRST_DAY + timedelta(days=n) for n in range(8)]
UNWEIGHTED = SCHEMA.model_copy(update={"weight": None})
RUN_DAYS = {"train": f"..{DAYS[2]}", "valid": str(DAYS[3]), "test": f"{DAYS[4]}.."}
ROWS = 240  # a day


def day_table(number: int, rows: int = ROWS, weighted: bool = True) -> pa.Table:
    """The rows of a day."""
    table = rows_table(rows, number * 1000).drop_columns(["split"] if weighted else ["split", "weight"])
    person, movie = (table[name].to_numpy() for name in ("person", "movie"))
    draw = np.random.default_rng(number)
    click = draw.random(rows) < 0.15 + 0.4 * (person % 3 == 0) + 0.3 * (movie % 4 == 0)
    for name, label in (("label_click", click), ("label_buy", click & (draw.random(rows) < 0.5))):
        table = table.set_column(table.column_names.index(name), name, pa.array(label.astype(np.int8)))
    return table.append_column("user", pa.array([f"u{p}" for p in person]))


def prepared(
    out: Path,
    *,
    weighted: bool = True,
    without_clicks: int | None = None,
    leave_out: Sequence[int] = (),
    labels: int = 2,
) -> Path:
    """The folder. without_clicks: the day whose rows are all negative; leave_out: days without rows in the manifest;
    labels: how many, of click and buy.
    """
    tables = [day_table(n, weighted=weighted) for n in range(len(DAYS))]
    if without_clicks is not None:
        table = tables[without_clicks]
        for name in ("label_click", "label_buy"):
            none = pa.array(np.zeros(len(table), np.int8))
            table = table.set_column(table.column_names.index(name), name, none)
        tables[without_clicks] = table
    schema: FeatureSchema = SCHEMA if weighted else UNWEIGHTED
    schema = schema.model_copy(update={"labels": schema.labels[:labels]})
    folder = write_prepared(out, tables, schema=schema)
    for number in leave_out:
        _forget(folder, DAYS[number])
    return folder


def config_of(data: Path, model: str = "shared_bottom", **train: Any) -> RunConfig:
    """A run over the first days of the folder."""
    return RunConfig.model_validate(plain(data, model, **train))


def plain(data: Path, model: str = "shared_bottom", **train: Any) -> dict[str, Any]:
    """The content of its run file."""
    keys = {"epochs": 1, "batch_size": 64, **RATES, **train}
    return {"data": {"path": str(data), "split": "days", "days": RUN_DAYS}, "model": {"name": model}, "train": keys}


def run_file(path: Path, data: Path, model: str = "shared_bottom", **train: Any) -> Path:
    """Of a model that a backfill trains."""
    path.write_text(yaml.safe_dump(plain(data, model, **train)))
    return path


def results(out: Path) -> dict[str, bytes]:
    """What a backfill found: the bytes of all files but those of trained models."""
    files = (path for path in out.rglob("*") if path.is_file() and "trained" not in path.relative_to(out).parts)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def of_day(table: pa.Table, day: date) -> pa.Table:
    """The rows of a day of a predictions table."""
    return table.filter(pc.equal(table["day"], str(day)))


def _forget(folder: Path, day: date) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = [file for file in manifest["files"] if file["day"] != str(day)]
    del manifest["days"][str(day)]
    (folder / "manifest.json").write_text(json.dumps(manifest))
