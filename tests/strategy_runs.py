"""A toy whose scenarios like different movies, and a run of each strategy on it, trained once for all tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from prepared_folder import SCHEMA, rows_table, write_prepared
from runs import config_of

from swrec_prod.config import RunConfig

HOME, CART, SEARCH = SCHEMA.scenario.values
DNN = {"model": {"name": "dnn", "scenario_as_feature": True, "hidden": [16, 8]}}


def toy_rows(rows: int = 900) -> pa.Table:
    """Rows whose label depends on the movie, and on another half of the movies in every scenario."""
    table = rows_table(rows)
    person, movie, scenario = (table[name].to_numpy() for name in ("person", "movie", "scenario"))
    labels = ((movie + 7 * scenario) % 20 < 10) ^ (np.random.default_rng(1).random(rows) < 0.2)
    table = with_values(table, "label_click", pa.array(labels, pa.int8()))
    return table.append_column("user", pa.array([f"u{p}" for p in person]))


def with_values(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def toy_config(data: Path, strategy: dict[str, Any] | str = "mix", **train_keys: Any) -> RunConfig:
    section = {"name": strategy} if isinstance(strategy, str) else strategy
    return config_of(
        data, more={**DNN, "strategy": section}, **{"batch_size": 50, "epochs": 3, "lr_dense": 0.01, **train_keys}
    )


def of_scenarios(config: RunConfig, *names: str) -> RunConfig:
    return config.model_copy(update={"data": config.data.model_copy(update={"scenarios": names})})


@pytest.fixture(scope="session")
def strategy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("toy") / "data", [toy_rows()])


@pytest.fixture(scope="session")
def single_run(strategy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from swrec_prod.train.run import train

    out = tmp_path_factory.mktemp("runs") / "single"
    train(toy_config(strategy_data, "single"), out)
    return out


@pytest.fixture(scope="session")
def finetune_run(strategy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from swrec_prod.train.run import train

    out = tmp_path_factory.mktemp("runs") / "finetune"
    train(toy_config(strategy_data, {"name": "finetune", "lr_factor": 0.3}), out)
    return out
