"""What a server answers is what readers and model of a training say of the same rows, with every kind of input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.reader import Reader
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import pack_halves, take
from swrec_prod.export.loaded import Programs, encode_rows
from swrec_prod.export.program import ScoreProgram, compile_program
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
from swrec_prod.ranker import Ranker, build_ranker, resolve_run
from swrec_prod.schema import FeatureSchema
from swrec_prod.schema.layout import Layout
from swrec_prod.serving.callers.rows import requests_from_table
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.protocol.call import call_of
from swrec_prod.serving.scoring.features import RequestEncoder

ROWS, USERS, ITEMS = 240, 12, 30
SCENARIOS = ("home", "cart", "search")
START = datetime(2024, 5, 1, tzinfo=UTC)

BASIC: list[dict[str, Any]] = [
    {"name": "item", "kind": "id", "side": "item", "encoder": "vocab", "dim": 8},
    {"name": "person", "kind": "id", "side": "user", "encoder": {"kind": "hash", "buckets": 7}, "column": "user_id"},
    {"name": "category", "kind": "id", "side": "item", "encoder": "vocab", "dim": 4},
    {"name": "price", "kind": "dense", "side": "item", "encoder": {"kind": "log1p", "clip": True}},
    {"name": "tags", "kind": "bag", "side": "item", "encoder": "vocab", "dim": 4},
]
MORE: list[dict[str, Any]] = [
    {"name": "is_member", "kind": "id", "side": "user", "encoder": "vocab", "dim": 4},
    {"name": "bucket", "kind": "id", "side": "item", "encoder": {"kind": "quantile", "buckets": 4}, "column": "price"},
    {"name": "heavy", "kind": "bag", "side": "item", "encoder": "vocab", "column": "tags", "weights": "tag_weights"},
    {"name": "wished", "kind": "bag", "side": "user", "shared_with": "item", "dim": 8, "pooling": "max"},
    {"name": "content", "kind": "vector", "side": "item", "width": 3, "encoder": "standard"},
    {"name": "age", "kind": "dense", "side": "user", "encoder": "standard", "missing_indicator": True},
    {"name": "stars", "kind": "dense", "side": "item", "encoder": "minmax", "embed": True, "dim": 4},
    {"name": "hour", "kind": "id", "side": "context", "encoder": "vocab"},
    {"name": "weekday", "kind": "id", "side": "context", "encoder": {"kind": "hash", "buckets": 9}},
    {"name": "user_category", "kind": "id", "side": "item", "encoder": {"kind": "hash", "buckets": 50}},
    {"name": "per_star", "kind": "dense", "side": "item", "encoder": "standard"},
    {"name": "seen", "kind": "sequence", "side": "user", "item": "item", "max_length": 5, "age": True,
     "fields": ["category", "price"]},
    {"name": "clicks", "kind": "sequence", "side": "user", "item": "item", "where": "click", "max_length": 3,
     "age": [3600, 86400],
     "fields": ["tags", {"name": "dwell", "kind": "dense", "encoder": "log1p"},
                {"name": "paid", "kind": "id", "column": "price",
                 "encoder": {"kind": "bucketize", "boundaries": [5]}}]},
    {"name": "skips", "kind": "sequence", "side": "user", "item": "item", "where": {"click": 0, "scenario": ["home"]}},
    {"name": "brought", "kind": "sequence", "side": "user", "item": "item", "age": True, "fields": ["category"],
     "max_length": 2, "columns": {"item": "b_items", "scenario": "b_scenarios", "time": "b_times",
                                  "category": "b_categories"}},
]  # fmt: skip
DERIVED = [
    {"name": "hour", "function": "hour", "of": "time", "zone": "Asia/Shanghai"},
    {"name": "weekday", "function": "weekday", "of": "time"},
    {"name": "user_category", "function": "cross", "of": ["user_id", "category"]},
    {"name": "per_star", "function": "ratio", "of": ["price", "stars"]},
]


def some_missing(draw: np.random.Generator, values: list[Any], share: float = 0.1) -> list[Any]:
    return [None if draw.random() < share else value for value in values]


def make_log(seed: int) -> pa.Table:
    """Three days; anything that may be missing is, now and then."""
    draw = np.random.default_rng(seed)
    times = [START + timedelta(seconds=int(s)) for s in np.sort(draw.integers(0, 3 * 86_400, ROWS))]
    tags = [draw.integers(0, 6, n).astype(str).tolist() for n in draw.integers(0, 4, ROWS)]
    brought = draw.integers(0, 4, ROWS)
    return pa.table(
        {
            "time": pa.array(times, pa.timestamp("us", "UTC")),
            "user_id": draw.integers(0, USERS, ROWS),
            "scenario": draw.choice(SCENARIOS, ROWS),
            "click": draw.integers(0, 2, ROWS),
            "item": draw.integers(0, ITEMS, ROWS),
            "category": some_missing(draw, draw.integers(0, 5, ROWS).astype(str).tolist()),
            "price": some_missing(draw, np.round(draw.exponential(9, ROWS), 2).tolist()),
            "stars": some_missing(draw, draw.integers(0, 6, ROWS).astype(float).tolist()),
            "dwell": draw.exponential(20, ROWS),
            "tags": pa.array(some_missing(draw, tags), pa.list_(pa.string())),
            "tag_weights": pa.array([draw.random(len(t)).tolist() for t in tags], pa.list_(pa.float64())),
            "is_member": pa.array(some_missing(draw, draw.integers(0, 2, ROWS).astype(bool).tolist())),
            "age": some_missing(draw, draw.integers(18, 80, ROWS).tolist()),
            "content": pa.array(draw.normal(size=(ROWS, 3)).tolist(), pa.list_(pa.float32())),
            "wished": pa.array([draw.integers(0, ITEMS + 5, n).tolist() for n in draw.integers(0, 3, ROWS)]),
            "b_items": pa.array([draw.integers(0, ITEMS, n).tolist() for n in brought], pa.list_(pa.int64())),
            "b_scenarios": pa.array([draw.choice([*SCENARIOS, "elsewhere"], n).tolist() for n in brought]),
            "b_times": pa.array(
                [[t - timedelta(hours=int(h)) for h in range(n, 0, -1)] for t, n in zip(times, brought, strict=True)],
                pa.list_(pa.timestamp("us", "UTC")),
            ),
            "b_categories": pa.array([draw.integers(0, 9, n).astype(str).tolist() for n in brought]),
        }
    )


def make_folder(folder: Path, features: list[dict[str, Any]], seed: int) -> Path:
    log = make_log(seed)
    if any(feature["name"] == "heavy" for feature in features):  # weights lie beside values, which may not be missing
        whole = [values or [] for values in log["tags"].to_pylist()]
        weights = [row[: len(values)] for row, values in zip(log["tag_weights"].to_pylist(), whole, strict=True)]
        log = log.set_column(log.column_names.index("tags"), "tags", pa.array(whole, pa.list_(pa.string())))
        kind = pa.list_(pa.float64())
        log = log.set_column(log.column_names.index("tag_weights"), "tag_weights", pa.array(weights, kind))
    (folder / "raw").mkdir()
    pq.write_table(log, folder / "raw" / "log.parquet")
    read = {feature.get("column", feature["name"]) for feature in features}
    data_file = {
        "source": "parquet", "fit_until": "2024-05-02", "requests": {"per_scenario": 20},
        "schema": {
            "name": "every", "time": "time", "user": "user_id", "labels": [{"name": "click", "column": "click"}],
            "features": features, "derived": [derived for derived in DERIVED if derived["name"] in read],
        },
    }  # fmt: skip
    prepare(DataFile.model_validate(data_file), folder / "raw", folder / "prepared")
    return folder / "prepared"


def make_ranker(prepared: Path, model: str) -> tuple[Ranker, RunConfig]:
    days = {"train": "..2024-05-01", "valid": "2024-05-02", "test": "2024-05-03"}
    config = RunConfig.model_validate(
        {"data": {"path": str(prepared), "days": days}, "model": {"name": model}, "debias": None}
    )
    ranker = build_ranker(resolve_run(FeatureSchema.load(prepared / "schema.yaml"), config)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return ranker, config


def offline(prepared: Path, ranker: Ranker, config: RunConfig) -> dict[int, float]:
    """Logits by row of the test days, as training's readers give them to the model."""
    reader = Reader(Catalog.open(prepared), ranker.sparse.layout, "test", config.data, batch_size=64, shuffle=False)
    logits: dict[int, float] = {}
    with torch.no_grad():
        for batch in reader.epoch(0):
            scored = ranker(batch)[1].logit_BT[:, 0]
            logits |= dict(zip(batch.row_B.tolist(), scored.tolist(), strict=True))
    return logits


def served(prepared: Path, ranker: Ranker) -> dict[int, float]:
    """Logits by row of the held-out requests, as the bytes of a request give them to a package."""
    encoders = Encoders.load(prepared)
    table, schema = pq.read_table(prepared / "requests.parquet"), encoders.schema
    layout = ranker.sparse.layout
    encoder = RequestEncoder(layout, encoders)
    programs = Programs(compile_program(ScoreProgram(ranker, "none")), layout)
    numbers, logits = table["row"].to_pylist(), {}
    for rows, request in requests_from_table(table, schema):
        scenario = schema.scenario.index(request.scenario)
        assert scenario is not None
        packed = encoder.encode(call_of(wire.ScoreRequest.FromString(request.SerializeToString())), scenario)
        scored = programs.request(packed, scenario).logit_BT[:, 0].tolist()
        logits |= dict(zip([numbers[i] for i in rows], scored, strict=True))
    return logits


def both_ways(folder: Path, features: list[dict[str, Any]], model: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the held-out rows as they are served, and as they are offline."""
    prepared = make_folder(folder, features, seed)
    ranker, config = make_ranker(prepared, model)
    known, answered = offline(prepared, ranker, config), served(prepared, ranker)
    assert len(answered) >= 15 and answered.keys() <= known.keys()
    assert np.std(list(answered.values())) > 1e-3, "scores that are all alike would say nothing"
    return np.array(list(answered.values())), np.array([known[row] for row in answered])


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("model", ["mscan", "sar_net", "shared_bottom"])
def test_served_is_offline_for_a_schema_that_uses_everything(tmp_path: Path, model: str) -> None:
    answered, known = both_ways(tmp_path, BASIC + MORE, model, seed=1)
    np.testing.assert_allclose(answered, known, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("seed", [2, 3])
def test_a_request_is_packed_as_its_rows_are(tmp_path: Path, seed: int) -> None:
    prepared = make_folder(tmp_path, BASIC + MORE, seed)
    encoders, table = Encoders.load(prepared), pq.read_table(prepared / "requests.parquet")
    layout = Layout.of(encoders.schema, history=True)
    columns, scenario_N = encode_rows(encoders, layout, table)
    encoder, compared = RequestEncoder(layout, encoders), 0
    for rows, request in requests_from_table(table, encoders.schema):
        served = encoder.encode(call_of(request), int(scenario_N[rows[0]]))
        once = take({name: columns[name] for name in layout.user_half.columns}, np.array(rows[:1]))
        each = take({name: columns[name] for name in layout.item_half.columns}, np.array(rows))
        for half, offline in zip(served, pack_halves(layout, once | each, scenario_N[rows], user_rows=1), strict=True):
            for name, ours, theirs in zip(half._fields, half, offline, strict=True):
                assert ours.dtype == theirs.dtype
                np.testing.assert_array_equal(ours, theirs, name)
        compared += len(rows)
    assert compared == len(table) >= 15
    assert encoder.unknown.elsewhere > 0, "the log brings behaviours from elsewhere"


@pytest.mark.slow
@pytest.mark.engine
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(more=st.lists(st.sampled_from(MORE), unique_by=lambda f: f["name"], max_size=8), seed=st.integers(0, 99))
def test_served_is_offline_for_any_schema(
    tmp_path_factory: pytest.TempPathFactory, more: list[dict[str, Any]], seed: int
) -> None:
    reads = any(feature["kind"] == "sequence" for feature in more)
    answered, known = both_ways(tmp_path_factory.mktemp("every"), BASIC + more, "mscan" if reads else "mmoe", seed)
    np.testing.assert_allclose(answered, known, atol=1e-5, rtol=1e-5)
