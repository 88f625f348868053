"""Which run scores which rows: a RUN_DIR of the strategies single and finetune holds a model for every scenario."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from swrec_prod.config import DataConfig, SplitName
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.counts import scenario_counts
from swrec_prod.errors import DataError, nearest
from swrec_prod.run_dir import MIX, RunDir


def models_of(run_dir: Path, catalog: Catalog, data: DataConfig, part: SplitName) -> dict[Path, DataConfig]:
    """Which run scores which rows of a part: the folder of each model -> the data of the scenarios that it is for.

    run_dir: of a run with several models. Raises CheckpointError when it is unfinished, DataError for rows of a
    scenario that has no model.
    """
    run = RunDir(run_dir)
    strategy = run.config().strategy.name
    models = {name: of["folder"] for name, of in run.metrics()["runs"].items()}
    counts = scenario_counts(catalog, data, part)
    with_rows = {name: rows for name, (rows, _) in counts.items() if rows}
    for name, rows in with_rows.items() if strategy == "single" else ():
        if name not in models:
            raise DataError(f"{run_dir}: no model for {rows} rows of scenario {name!r}; {nearest(name, models)}")
    folders = grouped({name: models.get(name, MIX) for name in with_rows})
    return {run_dir / folder: data.model_copy(update={"scenarios": names}) for folder, names in folders.items()}


def grouped(folders: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The keys that have each value.

    >>> grouped({"home": "mix", "cart": "scenarios/cart", "search": "mix"})
    {'mix': ('home', 'search'), 'scenarios/cart': ('cart',)}
    """
    return {
        folder: tuple(key for key, value in folders.items() if value == folder)
        for folder in dict.fromkeys(folders.values())
    }
