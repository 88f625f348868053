"""Whether what is logged is what was trained on: held-out rows of MovieLens-1M are sent to a server, and its exposure
log, read as `swrec prepare` reads it, is compared with the days that prepare made of the ratings.

    python -m benchmarks.serving.skew --raw MOVIELENS --requests 10000

exposure_skew   encoded features that differ, of all of them
"""

from __future__ import annotations

import argparse
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as dataset
import pyarrow.parquet as pq

from benchmarks.record import Figure, report
from benchmarks.serving.server import serving
from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.datasets.exposures import EXPOSURES, ExposuresOptions
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.engine import engine
from swrec_prod.export.loaded import encode_rows
from swrec_prod.export.run import export_package
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
from swrec_prod.ranker import build_ranker, resolve_run
from swrec_prod.schema import FeatureSchema
from swrec_prod.schema.layout import Layout
from swrec_prod.serving.callers.rows import TableRequest, requests_from_table
from swrec_prod.serving.client import Client

FOLDER = Path("build/bench/skew")
AT_MOST = 10  # rows of a scenario that are held out raw, for each request that is wanted of all
PLACE = ["request_id", "position"]


def main() -> None:
    """Send, compare and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, help="MovieLens-1M on disk; fetched where left out")
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    prepared, repo, log = FOLDER / "prepared", FOLDER / "repo", FOLDER / "log"
    _prepare(options.raw, prepared, options.requests * AT_MOST)
    _export(prepared, repo)
    shown = _answer(prepared, repo, log, options.requests)
    differing, compared = _compare(prepared, log, shown)
    context = {"requests": options.requests, "rows": len(shown), "by_feature": differing}
    skew = Figure(
        "exposure_skew", sum(differing.values()), "values", "values", compared, "<= 0", "value", context=context
    )
    report("bench-serving", [skew], {})


def _prepare(raw: Path | None, out: Path, held_out: int) -> None:
    data_file = DataFile.load("movielens_1m_genre")
    limit = data_file.requests.model_copy(update={"per_scenario": held_out})
    prepare(data_file.model_copy(update={"requests": limit}), raw, out, progress=print)


def _export(prepared: Path, repo: Path) -> None:
    """An untrained model: what it says is not looked at."""
    sections = {"data": {"path": str(prepared), "split": "random"}, "model": {"name": "mscan"}, "debias": {"c": 0.0}}
    config, catalog = RunConfig.model_validate(sections), Catalog.open(prepared)
    export_package(build_ranker(resolve_run(catalog.schema, config)).eval(), config, catalog, repo / "mscan", "none")


def _answer(prepared: Path, repo: Path, log: Path, requests: int) -> pa.Table:
    """Which row of the raw log each candidate was: request_id, position, row."""
    rows, schema = pq.read_table(prepared / "requests.parquet"), FeatureSchema.load(prepared / "schema.yaml")
    shown: list[dict[str, Any]] = []
    with serving(repo, FOLDER, workers=1, exposures=log) as server, Client(server.target, timeout=10.0) as client:
        for number, asked in enumerate(islice(requests_from_table(rows, schema), requests)):
            asked.request.request_id = str(number)
            client.send(asked.request)
            shown += _shown(asked, rows)
        if len(asked.rows) and number + 1 < requests:
            raise SystemExit(f"there are {number + 1:,} held-out requests only; ask for fewer")
    with serving(repo, FOLDER, workers=1, exposures=log):
        pass  # the next server converts what the first one left
    return pa.Table.from_pylist(shown)


def _shown(asked: TableRequest, rows: pa.Table) -> list[dict[str, Any]]:
    return [
        {"request_id": asked.request.request_id, "position": position, "row": rows["row"][i].as_py()}
        for position, i in enumerate(asked.rows)
    ]


def _compare(prepared: Path, log: Path, shown: pa.Table) -> tuple[dict[str, int], int]:
    """By feature, how many of its values differ; and how many were compared."""
    encoders = Encoders.load(prepared)
    layout = Layout.of(encoders.schema, history=True)
    logged, shown = (table.sort_by([(name, "ascending") for name in PLACE]) for table in (_read(log), shown))
    if not logged.select(PLACE).equals(shown.select(PLACE)):
        raise SystemExit(f"{len(shown):,} candidates were answered, {len(logged):,} other ones are logged")
    logged = logged.append_column("row", shown["row"]).sort_by("row")
    encoded, _ = encode_rows(encoders, layout, logged)
    files = [str(path) for path in prepared.glob("day=*/*.parquet")]
    days = dataset.dataset(files).to_table(filter=dataset.field("row").isin(shown["row"].combine_chunks()))
    days = days.sort_by("row")
    if len(days) != len(logged):
        raise SystemExit(f"{len(logged):,} candidates are logged, {len(days):,} of them prepared")
    differing = {name: _differing(of, days[name]) for name, of in encoded.items() if name in days.column_names}
    return differing, len(differing) * len(days)


def _read(log: Path) -> pa.Table:
    options = ExposuresOptions()
    with engine("local", FOLDER / "scratch") as running:
        rows = EXPOSURES.read(running, EXPOSURES.locate(log, FOLDER, options), options)
        table = running.arrow(rows)
    histories = {name for name in table.column_names if name.startswith("history.")}
    assert histories >= {"history.item", "history.scenario"}, "the requests had them"
    return table


def _differing(encoded: Any, prepared: pa.ChunkedArray) -> int:
    """Rows whose values are not the same: a number, or a list."""
    ours = _lists(encoded) if hasattr(encoded, "offsets") else np.asarray(encoded).tolist()
    return sum(one != other for one, other in zip(ours, prepared.to_pylist(), strict=True))


def _lists(ragged: Any) -> list[list[Any]]:
    bounds = np.asarray(ragged.offsets)
    return [part.tolist() for part in np.split(np.asarray(ragged.values), bounds[1:-1])]


if __name__ == "__main__":
    main()
