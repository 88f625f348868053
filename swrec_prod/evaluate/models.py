"""Which run scores which rows: a RUN_DIR of the strategies single and finetune holds a model for every scenario."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swrec_prod.checkpoint import config_of
from swrec_prod.config import DataConfig, SplitName
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.counts import scenario_counts
from swrec_prod.errors import CheckpointError, DataError, nearest

MIX = "mix"  # the folder, below RUN_DIR, of the run on the rows of all scenarios


def models_of(run_dir: Path, data: DataConfig, part: SplitName) -> dict[Path, DataConfig]:
    """The runs that score the rows of a part, by their folders, and the rows of each:
    those of the scenarios that it is for.

    Raises CheckpointError when `run_dir` is no run or unfinished, DataError for rows of a scenario that has no model.
    """
    config = config_of(run_dir)
    if config.strategy.name == "mix":
        return {run_dir: data}
    models = {name: run["folder"] for name, run in read_metrics(run_dir)["runs"].items()}
    counts = scenario_counts(Catalog.open(data.path), data, part)
    found = {name: rows for name, (rows, _) in counts.items() if rows}
    for name, rows in found.items() if config.strategy.name == "single" else ():
        if name not in models:
            raise DataError(f"{run_dir}: no model for {rows} rows of scenario {name!r}; {nearest(name, models)}")
    folders = grouped({name: models.get(name, MIX) for name in found})
    return {run_dir / folder: data.model_copy(update={"scenarios": names}) for folder, names in folders.items()}


def read_metrics(run_dir: Path) -> dict[str, Any]:
    """metrics.json. Raises CheckpointError when training has not finished, or the file is damaged."""
    try:
        return json.loads((run_dir / "metrics.json").read_text())
    except FileNotFoundError:
        unfinished = "training has not finished: no metrics.json; run swrec train again, it goes on where it stopped"
        raise CheckpointError(f"{run_dir}: {unfinished}") from None
    except json.JSONDecodeError as failure:
        raise CheckpointError(f"{run_dir / 'metrics.json'}: damaged: {failure}") from None


def grouped(folders: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The keys that have each value.

    >>> grouped({"home": "mix", "cart": "scenarios/cart", "search": "mix"})
    {'mix': ('home', 'search'), 'scenarios/cart': ('cart',)}
    """
    return {
        folder: tuple(key for key, value in folders.items() if value == folder)
        for folder in dict.fromkeys(folders.values())
    }
