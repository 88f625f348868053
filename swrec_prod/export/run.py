"""`swrec export`: a trained run -> a published package,
refused unless its programs score as the trained ranker does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from swrec_prod.config import Quantize, RunConfig
from swrec_prod.data.batch import make_batch
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.unknown_values import Span, has_vocabulary, shares
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column, pack
from swrec_prod.errors import DataError, PackageError
from swrec_prod.export.loaded import (
    Logits,
    Package,
    Programs,
    by_scenario,
    difference,
    encode_rows,
    take,
    with_expected,
)
from swrec_prod.export.package import Manifest, Parity, destination, staged, write_files
from swrec_prod.export.program import compile_programs
from swrec_prod.ranker import Ranker
from swrec_prod.schema import FeatureSchema
from swrec_prod.schema.layout import Layout

# How far dense.pt may be from the trained ranker: the largest difference of a logit, relative above 1.
EAGER_BOUND: dict[Quantize, float] = {"none": 1e-5, "fp16": 5e-3, "int8": 5e-2, "int4": 5e-1}
ONE_BOUND = 1e-5
SAMPLE = 64  # golden rows that are scored under every scenario: with 1,000 scenarios 64,000 rows, some seconds

Progress = Callable[[str], None]


def export_package(
    ranker: Ranker,
    config: RunConfig,
    catalog: Catalog,
    to: Path,
    quantize: Quantize,
    metrics: dict[str, Any] | None = None,
    progress: Progress = lambda _: None,
) -> Path:
    """Write `ranker` (unsharded, on CPU) as a package and return its folder, REPO/NAME/VERSION.

    catalog: the data of the training; its requests.parquet gives the golden rows. to: REPO/NAME for the next version,
    or REPO/NAME/VERSION. Writes nothing, and raises PackageError, when the version exists, there is no golden row or a
    program's scores differ from the ranker's by more than its bound; DataError when the encoders are not those of the
    training.
    """
    path = destination(to)
    encoders = _encoders(catalog, config)
    rows = _golden_rows(catalog.root)
    progress(f"compiling {config.model.name} with tables in {'fp32' if quantize == 'none' else quantize}")
    modules = compile_programs(ranker, quantize)
    programs = Programs(modules)
    columns, scenario_N = encode_rows(encoders, ranker.sparse.layout, rows)
    mixed = programs.mixed(pack(ranker.sparse.layout, columns, scenario_N))
    parity = _parity(ranker, programs, mixed, columns, scenario_N, quantize)
    progress(
        f"{parity.rows} golden rows: mixed against trained {parity.mixed_eager:.2g}, "
        f"folded against mixed {parity.one_mixed:.2g}"
    )
    manifest = _manifest(ranker, config, encoders, quantize, parity, metrics or {})
    manifest = manifest.model_copy(update={"row_0": _row_0(catalog, encoders.schema, config)})
    with staged(path) as folder:
        write_files(folder, modules, encoders, with_expected(rows, mixed), manifest)
        Package.load(folder).replay()
    progress(f"published {path}")
    return path


def _encoders(catalog: Catalog, config: RunConfig) -> Encoders:
    """The encoders of the run's features, the very ones that it was trained with."""
    encoders = Encoders.load(catalog.root)
    fingerprint = encoders.fingerprint()
    if fingerprint != catalog.fingerprint:
        prints = f"fingerprint {fingerprint[:12]}, trained with {catalog.fingerprint[:12]}"
        raise DataError(
            f"{catalog.root}: schema.yaml or vocab/ was changed ({prints}); put it back, or prepare and train again"
        )
    return encoders if config.data.features is None else encoders.select(config.data.features)


def _row_0(catalog: Catalog, schema: FeatureSchema, config: RunConfig) -> dict[str, float]:
    """What the server holds the ids of its requests to: Manifest.row_0 of a package."""
    found = shares(catalog.manifest, schema, Span.of(config.data, "train"))
    return {name: share.row_0 for name, share in found.items() if has_vocabulary(schema, schema.feature(name))}


def _golden_rows(prepared: Path) -> pa.Table:
    file = prepared / "requests.parquet"
    if not file.is_file():
        raise DataError(
            f"{file}: no such file; prepare the data again, export needs held-out rows to check the package with"
        )
    rows = pq.read_table(file)
    if not len(rows):
        raise PackageError(
            f"{file}: holds no row, so nothing could be checked; prepare the data again with held-out rows"
        )
    return rows


def _parity(
    ranker: Ranker,
    programs: Programs,
    mixed: Logits,
    columns: dict[str, Column],
    scenario_N: np.ndarray,
    quantize: Quantize,
) -> Parity:
    """How far the programs are from the ranker and from each other. Raises PackageError when it is too far."""
    eager = _eager(ranker, columns, scenario_N)
    layout, expected = ranker.sparse.layout, [logits.numpy() for logits in mixed]
    one_mixed = [
        difference(
            programs.one(pack(layout, take(columns, rows), scenario_N[rows]), scenario), [e[rows] for e in expected]
        )
        for scenario, rows in by_scenario(scenario_N)
    ]
    parity = Parity(
        rows=len(scenario_N),
        mixed_eager=difference(mixed, eager),
        mixed_eager_bound=EAGER_BOUND[quantize],
        one_mixed=float(np.max([*one_mixed, _under_every_scenario(programs, layout, columns, scenario_N)])),
        one_mixed_bound=ONE_BOUND,
    )
    _hold("dense.pt differs from the trained ranker", parity.mixed_eager, parity.mixed_eager_bound, quantize)
    _hold("dense_one.pt differs from dense.pt", parity.one_mixed, parity.one_mixed_bound, "none")
    return parity


def _under_every_scenario(
    programs: Programs, layout: Layout, columns: dict[str, Column], scenario_N: np.ndarray
) -> float:
    """dense_one.pt against dense.pt on a sample of the rows under each scenario in turn:
    every stacked slice is compared.
    """
    rows = np.unique(np.linspace(0, len(scenario_N) - 1, SAMPLE).astype(np.int64))
    sample = pack(layout, take(columns, rows), scenario_N[rows])
    worst = [0.0]
    for scenario in range(layout.num_scenarios):
        placed = sample._replace(scenario_B=np.full(len(rows), scenario, np.int64))
        worst.append(difference(programs.one(placed, scenario), [logits.numpy() for logits in programs.mixed(placed)]))
    return float(np.max(worst))


def _hold(what: str, difference: float, bound: float, quantize: Quantize) -> None:
    if not difference <= bound:  # NaN is never within bounds
        hint = "" if quantize == "none" else f"; {quantize} loses too much here, choose a finer --quantize"
        where = f"{what} by {difference:.2g} on golden rows"
        raise PackageError(f"{where}, allowed are {bound:g}; nothing was published{hint}")


def _eager(ranker: Ranker, columns: dict[str, Column], scenario_N: np.ndarray) -> list[np.ndarray]:
    """The trained ranker's scores, in the order of the rows."""
    layout, order = ranker.sparse.layout, np.argsort(scenario_N, kind="stable")
    packed = pack(layout, take(columns, order), scenario_N[order])
    labels_BT = np.zeros((len(order), len(layout.tasks)), np.float32)
    with torch.inference_mode():
        _, scores = ranker.eval()(make_batch(layout, packed, labels_BT=labels_BT, row_B=order))
    return [logits.numpy()[np.argsort(order)] for logits in scores]


def _manifest(
    ranker: Ranker, config: RunConfig, encoders: Encoders, quantize: Quantize, parity: Parity, metrics: dict[str, Any]
) -> Manifest:
    layout, debias = ranker.sparse.layout, config.debias
    return Manifest(
        model=config.model.name,
        options=config.model.options,
        tasks=layout.tasks,
        causal=ranker.scorer.eliminator is not None,
        history=layout.history is not None,
        sequence=layout.history.name if layout.history else None,
        debias_strength=debias.strengths(encoders.schema.scenario.names) if debias else {},
        quantize=quantize,
        parity=parity,
        metrics=metrics,
    )
