"""Small simulated logs, read back with their hidden truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from swrec_prod.simulation.simulate import simulate
from swrec_prod.simulation.world import Simulation

Columns = dict[str, np.ndarray]


def options(**changed: Any) -> Simulation:
    given = {"days": 4, "rows_per_day": 20_000, "scenarios": 6, "seed": 3}
    return Simulation(**(given | changed))


def joined(folder: Path) -> Columns:
    log, truth = (pq.read_table(folder / name).drop_columns("day").sort_by("row") for name in ("log", "truth"))
    assert log["row"].to_pylist() == truth["row"].to_pylist()
    columns = {name: table[name].to_numpy() for table in (truth, log) for name in table.column_names}
    category = pq.read_table(folder / "items.parquet", columns=["category"])["category"].to_numpy()
    return columns | {"category": np.unique(category, return_inverse=True)[1][columns["item_id"]]}


def simulated(folder: Path, **changed: Any) -> Columns:
    simulate(options(**changed), folder)
    return joined(folder)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
