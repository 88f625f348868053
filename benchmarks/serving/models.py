"""Packages and requests for the benchmarks of serving: untrained models of ordinary size, since speed knows no quality.

A world of 100,000 users and 100,000 items: three id columns of the user and five of the item, each with a vocabulary of
100,000 values and a table 16 wide, in ten scenarios; for M-scan also the last 50 items that the user has clicked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.export.run import export_package
from swrec_prod.ranker import Ranker, build_ranker, resolve_run
from swrec_prod.schema import Feature, FeatureSchema, Label, Scenario
from swrec_prod.serving.client import make_request

VALUES, WIDTH, BEHAVIOURS = 100_000, 16, 50
SCENARIOS = tuple(f"place_{i}" for i in range(10))
USER_IDS = ("user_id", "city", "device")
ITEM_IDS = ("item_id", "author", "category", "brand", "music")
SPACING = 3  # known ids are its multiples: catalogs have gaps
READS_HISTORY = ("mscan",)
GOLDEN_REQUESTS, GOLDEN_CANDIDATES = 20, 4

SCHEMA = FeatureSchema(
    name="served",
    time="time",
    user="user_id",
    scenario=Scenario(column="scenario", values=SCENARIOS),
    labels=(Label(name="click", column="click"),),
    features=(
        *(Feature(name=name, kind="id", side="user", encoder="vocab", dim=WIDTH) for name in USER_IDS),
        *(Feature(name=name, kind="id", side="item", encoder="vocab", dim=WIDTH) for name in ITEM_IDS),
        Feature(name="history", kind="sequence", side="user", item="item_id", max_length=BEHAVIOURS),
    ),
)


class Asked(NamedTuple):
    """One request: raw values by column."""

    scenario: str
    user: dict[str, Any]
    items: dict[str, np.ndarray]


def publish(repo: Path, folder: Path, models: Sequence[str]) -> Path:
    """A repository REPO/MODEL/1 of untrained models with their default options.

    folder: for what would be prepared data.
    """
    folder.mkdir(parents=True)
    catalog = _prepare(folder)
    for name in models:
        debias = {"c": dict.fromkeys(SCENARIOS, 0.1)} if name == "mscan" else None
        config = RunConfig.model_validate(
            {"data": {"path": str(folder), "split": "random"}, "model": {"name": name}, "debias": debias}
        )
        export_package(_ranker(catalog, config), config, catalog, repo / name, "none")
    return repo


def asked(candidates: int, seed: int) -> Asked:
    """A random request in which one id of ten is unknown."""
    draw = np.random.default_rng(seed)
    user = {name: int(_ids(draw, 1)[0]) for name in USER_IDS}
    history = {
        "history.item": _ids(draw, BEHAVIOURS).tolist(),
        "history.scenario": draw.choice(SCENARIOS, BEHAVIOURS).tolist(),
    }
    items = {name: _ids(draw, candidates) for name in ITEM_IDS}
    return Asked(str(draw.choice(SCENARIOS)), {**user, **history}, items)


def request_of(model: str, request: Asked) -> Any:
    """The wire.ScoreRequest, with the history where the model reads it."""
    user = {name: value for name, value in request.user.items() if model in READS_HISTORY or "." not in name}
    message = make_request(request.scenario, user, request.items)
    message.model = model
    return message


def bodies(model: str, candidates: int, number: int) -> list[bytes]:
    """Serialised requests for a model."""
    return [request_of(model, asked(candidates, seed)).SerializeToString() for seed in range(number)]


def _ids(draw: np.random.Generator, number: int) -> np.ndarray:
    known = draw.integers(0, VALUES, number) * SPACING
    return np.where(draw.random(number) < 0.1, known + 1, known)


def _prepare(folder: Path) -> Catalog:
    """What export reads of a prepared folder."""
    counted = pa.table({"value": np.arange(VALUES) * SPACING, "count": np.ones(VALUES, np.int64)})
    encoders = Encoders.of_counts(SCHEMA, {owner.name: counted for owner in SCHEMA.owners}, {}, {})
    encoders.save(folder)
    pq.write_table(pa.Table.from_pylist(list(_golden())), folder / "requests.parquet")
    schema = FeatureSchema.load(folder / "schema.yaml")
    return Catalog(folder, schema, files=(), records=(), fingerprint=encoders.fingerprint(), has_split=False)


def _golden() -> Iterator[dict[str, Any]]:
    for moment in range(GOLDEN_REQUESTS):
        scenario, user, items = asked(GOLDEN_CANDIDATES, moment)
        once = {"time": moment, "scenario": scenario, **user, "history.time": list(range(BEHAVIOURS))}
        for i in range(GOLDEN_CANDIDATES):
            row = moment * GOLDEN_CANDIDATES + i
            yield {"row": row, **once, **{name: int(values[i]) for name, values in items.items()}}


def _ranker(catalog: Catalog, config: RunConfig) -> Ranker:
    """Its scores differ from row to row, as a fresh one's hardly do."""
    ranker = build_ranker(resolve_run(catalog.schema, config)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return ranker
