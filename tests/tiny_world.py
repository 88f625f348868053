"""A tiny prepared folder and rankers over it, with every kind of feature:
for the tests of program, package and server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from fitted_encoders import fit_encoders

from swrec_prod.config import RunConfig
from swrec_prod.data.batch import make_batch
from swrec_prod.data.catalog import Catalog
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Packed, pack, take
from swrec_prod.export.loaded import encode_rows
from swrec_prod.export.run import export_package
from swrec_prod.ranker import Ranker, build_ranker, resolve_run
from swrec_prod.schema import Feature, FeatureSchema, Label, Scenario
from swrec_prod.schema.layout import Layout

MODELS = ("mscan", "shared_bottom")
SCENARIOS = ("home", "cart", "search")
MAX_LENGTH = 6
STRENGTHS = {"home": 0.25, "cart": -0.5, "search": 0.0}  # c of M-scan

SCHEMA = FeatureSchema(
    name="tiny",
    time="time",
    user="user_id",
    scenario=Scenario(column="scenario", values=SCENARIOS),
    labels=(Label(name="click", column="click"), Label(name="buy", column="buy")),
    features=(
        Feature(name="user_id", kind="id", side="user", encoder="vocab", dim=8),
        Feature(name="age", kind="id", side="user", encoder={"kind": "bucketize", "boundaries": [20, 40]}, dim=4),
        Feature(name="item_id", kind="id", side="item", encoder="vocab", dim=8),
        Feature(name="invited_by", kind="id", side="user", shared_with="user_id", dim=8),
        Feature(name="hour", kind="dense", side="context", encoder="minmax"),
        Feature(name="tags", kind="bag", side="item", encoder={"kind": "hash", "buckets": 20}, dim=4),
        Feature(name="price", kind="dense", side="item", encoder="standard"),
        Feature(name="history", kind="sequence", side="user", item="item_id", max_length=MAX_LENGTH),
    ),
)


def raw_rows(requests: int = 60, seed: int = 0) -> pa.Table:
    """Raw rows as in requests.parquet: 1 to 4 candidates a request, some values missing, some histories empty."""
    rng = np.random.default_rng(seed)
    rows = []
    for moment in range(requests):
        user, length = f"u{rng.integers(20)}", int(rng.integers(0, MAX_LENGTH + 1))
        once = {
            "time": moment,
            "user": user,
            "scenario": str(rng.choice(SCENARIOS)),
            "user_id": user,
            "age": None if rng.random() < 0.1 else int(rng.integers(10, 60)),
            "invited_by": f"u{rng.integers(25)}",
            "hour": float(rng.integers(0, 24)),
            "history.item": rng.integers(0, 60, length).tolist(),
            "history.scenario": rng.choice(SCENARIOS, length).tolist(),
            "history.time": list(range(length)),
        }
        for _ in range(rng.integers(1, 5)):
            tags = [f"t{tag}" for tag in rng.integers(0, 30, rng.integers(0, 4))]
            price = None if rng.random() < 0.1 else float(rng.normal())
            rows.append({**once, "item_id": int(rng.integers(0, 50)), "tags": tags, "price": price})
    table = pa.Table.from_pylist(rows)
    return table.append_column("row", pa.array(np.arange(len(rows)) + 100))


def prepare(folder: Path, schema: FeatureSchema = SCHEMA) -> pa.Table:
    """Write the parts of a prepared folder that export reads; returns its request rows."""
    rows = raw_rows()
    encoders = fit_encoders(schema, rows)
    encoders.save(folder)
    (folder / "fingerprint").write_text(encoders.fingerprint())
    pq.write_table(rows, folder / "requests.parquet")
    return rows


def catalog_of(folder: Path) -> Catalog:
    """The catalog of the folder, as it was when it was written; it has no days."""
    schema, fingerprint = FeatureSchema.load(folder / "schema.yaml"), (folder / "fingerprint").read_text()
    return Catalog(folder, schema, files=(), records=(), fingerprint=fingerprint, has_split=False)


def make_config(model: str, folder: Path) -> RunConfig:
    """A run over the folder. Debiasing is kept to M-scan, so that both kinds of scores are there."""
    debias = {"c": STRENGTHS} if model == "mscan" else None
    return RunConfig.model_validate(
        {"data": {"path": str(folder), "split": "random"}, "model": {"name": model}, "debias": debias}
    )


def make_ranker(model: str, folder: Path) -> Ranker:
    """An untrained ranker whose scores differ from row to row."""
    ranker = build_ranker(resolve_run(FeatureSchema.load(folder / "schema.yaml"), make_config(model, folder))).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return ranker


def packed_rows(folder: Path, layout: Layout, table: pa.Table) -> Packed:
    """The rows as packed arrays, in their order."""
    columns, scenario_N = encode_rows(Encoders.load(folder), layout, table)
    return pack(layout, columns, scenario_N)


def eager_logits(ranker: Ranker, folder: Path, table: pa.Table) -> list[np.ndarray]:
    """logit, interest and scenario logit [N, T] of the ranker as it is trained and evaluated,
    in the order of the rows.
    """
    layout = ranker.sparse.layout
    columns, scenario_N = encode_rows(Encoders.load(folder), layout, table)
    order = np.argsort(scenario_N, kind="stable")
    labels = np.zeros((len(order), len(layout.tasks)), np.float32)
    batch = make_batch(layout, pack(layout, take(columns, order), scenario_N[order]), labels_BT=labels, row_B=order)
    with torch.inference_mode():
        return [logits.numpy()[np.argsort(order)] for logits in ranker(batch)[1]]


USER = {
    "user_id": "u1",
    "age": 30,
    "invited_by": "u2",
    "hour": 5.0,
    "history.item": [1, 2, 3],
    "history.scenario": ["home", "cart", "home"],
}
ITEMS = {"item_id": [4, 5], "tags": [["t1", "t2"], []], "price": [1.5, None]}

SERVE = """
import json, sys
from pathlib import Path
from swrec_prod.serving.process import supervisor
from swrec_prod.serving.process.options import Options
more = json.loads(sys.argv[3])
supervisor.MODULE = more.pop("generation", supervisor.MODULE)
files = ("tls_cert", "tls_key", "tls_client_ca", "routes", "experiments", "exposures", "callers", "admin")
paths = {name: Path(more[name]) for name in files if name in more}
options = {"port": 0, "workers": 1, "notice": 0.0, **more, **paths}
supervisor.serve(Options(Path(sys.argv[1]), port_file=Path(sys.argv[2]), **options))
"""


def publish(folder: Path, repo: Path, models: Sequence[str] = ("mscan", *MODELS)) -> Path:
    """A repository with mscan 1 and 2, of which 2 is the latest, and shared_bottom 1."""
    for model in models:
        export_package(make_ranker(model, folder), make_config(model, folder), catalog_of(folder), repo / model, "none")
    return repo


def launch(repo: Path, port_file: Path, stderr: Any = None, **options: Any) -> subprocess.Popen[str]:
    """A server on a free port, which it writes to `port_file` once it serves: one worker, and no notice at SIGTERM.

    stderr: as of Popen; options: other fields of the server's, and `generation`, the module that is run in that place.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SERVE, str(repo), str(port_file), json.dumps(options, default=str)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
