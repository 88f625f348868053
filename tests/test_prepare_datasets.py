"""Every data file in configs/data, from raw files in the official layout to batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from exposed import answer, logged
from test_aliccp import COMMON, SAMPLES
from test_amazon import write as amazon
from test_cloud_theme import clicks
from test_cloud_theme import write as cloud_theme
from test_douban import write as douban
from test_kuairand import official as kuairand
from test_kuairand import pieces as kuairand_pieces
from test_mind import write as mind
from test_open_bandit import write as open_bandit

from swrec_prod.config import DataConfig, DayRanges
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.reader import Reader
from swrec_prod.datasets import DATASETS
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
from swrec_prod.schema.layout import Layout

pytestmark = pytest.mark.engine

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "data"
NAMES = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
HOURS = 3_600_000_000


def ali_ccp(folder: Path) -> Path:
    for split in ("train", "test"):
        (folder / f"common_features_{split}.csv").write_text("\n".join(COMMON[split]) + "\n")
        visits = [line for line in SAMPLES[split] if "none" not in line]  # without a visit there is no user
        (folder / f"sample_skeleton_{split}.csv").write_text("\n".join(visits) + "\n")
    return folder


def own_log(name: str, log: str, days: int, folder: Path) -> Path:
    """Logs of so many days with all columns that a data file of the source `parquet` reads,
    those of its attributes too.
    """
    data, draw = DataFile.load(name), np.random.default_rng(4)
    for number in range(days):
        day = date(2024, 5, 1) + timedelta(days=number)
        moments = (np.datetime64(day, "us").astype(int) + draw.integers(0, 24, 40) * HOURS) // {
            "s": 10**6,
            "ms": 10**3,
            "us": 1,
        }[data.options["time"].get("unit", "us")]
        table = _columns(data, draw) | {data.features.time: moments}
        path = folder / log.format(day=day)
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(table), path)
    return folder


def _columns(data: DataFile, draw: np.random.Generator) -> dict[str, Any]:
    schema = data.features
    scenarios = schema.scenario.values or ("home", "cart")
    columns: dict[str, Any] = {schema.scenario.column: [scenarios[i % len(scenarios)] for i in range(40)]}
    columns |= {name: np.zeros(40) for name in data.outcomes}
    columns |= {label.column: draw.integers(0, 2, 40) for label in schema.labels}
    for feature in schema.of_kind("id", "bag", "dense"):
        values = draw.integers(1, 5, (40, 2))
        columns[feature.source] = values.tolist() if feature.kind == "bag" else values[:, 0]
    return columns | ({schema.request: np.arange(40) // 4} if schema.request else {})


def my_logs(folder: Path) -> Path:
    """A log in day folders, and attributes of users and items beside it."""
    own_log("parquet_logs", "log/day={day}/part-0.parquet", 5, folder)
    pq.write_table(
        pa.table({"user_id": range(1, 5), "city": ["Oslo", "Bergen", None, "Oslo"]}), folder / "users.parquet"
    )
    pq.write_table(
        pa.table({"item_id": range(1, 5), "category": list("abca"), "price": [1.5, 2, 3, 4]}), folder / "items.parquet"
    )
    for file in folder.glob("log/*/*.parquet"):
        pq.write_table(pq.ParquetFile(file).read().drop(["city", "category", "price"]), file)
    return folder


def kuairand_with_seed(folder: Path) -> Path:
    """Parquet pieces of two days, and what users watched before."""
    folder = kuairand_pieces(folder / "pieces")
    rows = pq.read_table(folder / "kuairand_pure_standard_0422_0508.parquet").to_pylist()
    later = [row | {"time_ms": row["time_ms"] + 24 * 3_600_000} for row in rows]
    pq.write_table(pa.Table.from_pylist(later), folder / "kuairand_pure_standard_0509_0510.parquet")
    return folder


def exposures(folder: Path) -> Path:
    """What a server logged of answers on five days, and which of their candidates were clicked."""
    day = 86_400_000_000
    logged(folder, *(answer(i, ts=(20_000 + i % 5) * day + i) for i in range(40)))
    clicks = {"request_id": [f"r-{i}" for i in range(0, 40, 3)], "item_id": [4] * 14, "click": [1] * 14}
    (folder / "outcomes").mkdir()
    pq.write_table(pa.table(clicks), folder / "outcomes" / "clicks.parquet")
    return folder


RAW: dict[str, Callable[[Path], Path]] = {
    "ali_ccp": ali_ccp,
    "amazon": amazon,
    "cloud_theme": lambda folder: cloud_theme(folder, clicks()),
    "douban": douban,
    "exposures": exposures,
    "industrial": lambda folder: own_log("industrial", "day={day}/a.parquet", 9, folder),
    "kuairand_1k": lambda folder: kuairand(folder, "1k"),
    "kuairand_pure": kuairand,
    "kuairand_pure_behaviours": kuairand_with_seed,
    "kuairand_pure_tabs": kuairand,
    "mind": mind,
    "open_bandit": open_bandit,
    "parquet_logs": my_logs,
}
# the tiny files end before the real day
FIT_UNTIL = dict.fromkeys(("kuairand_1k", "kuairand_pure", "kuairand_pure_tabs"), date(2022, 4, 21))
FIT_UNTIL["kuairand_pure_behaviours"] = date(2022, 4, 22)


@pytest.mark.parametrize("name", NAMES)
def test_a_data_file_becomes_batches(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    raw = request.getfixturevalue("raw_movielens") if name.startswith("movielens") else RAW[name](tmp_path)
    data, out = DataFile.load(name), tmp_path / "out"
    if name in FIT_UNTIL:
        data = data.model_copy(update={"fit_until": FIT_UNTIL[name]})
    manifest = prepare(data, raw, out).to_json()
    held_out = (manifest["splits"] or {"test": manifest["rows"] - manifest["fit"]["rows"]})["test"]
    asked = pq.read_table(out / "requests.parquet")
    assert 0 < len(asked) <= held_out and set(asked.column_names) >= {
        f.name for f in data.features.features if f.kind != "sequence"
    }
    catalog = Catalog.open(out)
    reader = Reader(
        catalog,
        Layout.of(catalog.schema, history=bool(data.features.of_kind("sequence"))),
        "train",
        _training(out),
        64,
        shuffle=True,
    )
    batches = list(reader.epoch(0))
    assert sum(len(batch.row_B) for batch in batches) == manifest["fit"]["rows"] > 0
    for batch in batches:
        assert (
            batch.labels_BT.shape == (len(batch.row_B), len(data.features.labels))
            and torch.isfinite(batch.dense_BF).all()
        )
        assert batch.ids.values().min() >= 0 and batch.scenario_B.max() < catalog.schema.scenario.size
    assert any(batch.ids.values().max() > 0 for batch in batches)


def _training(out: Path) -> DataConfig:
    """The rows that the encoders were fitted on."""
    until = json.loads((out / "manifest.json").read_text())["fit"]["until"]
    if until is None:
        return DataConfig(path=str(out), split="random")
    after = date.fromisoformat(until) + timedelta(days=1)
    return DataConfig(
        path=str(out), days=DayRanges(train=f"..{until}", valid=str(after), test=f"{after + timedelta(days=1)}..")
    )


def test_every_source_has_a_data_file() -> None:
    assert {DataFile.load(name).source for name in NAMES} == set(DATASETS)
