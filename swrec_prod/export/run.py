"""`swrec export`: a trained run -> a published package,
refused unless its program scores as the trained ranker does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.config import Quantize, RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.unknown_values import Span, has_vocabulary, shares
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.errors import DataError, PackageError
from swrec_prod.export.loaded import Package, Programs, encode_rows, with_expected
from swrec_prod.export.logits import Logits
from swrec_prod.export.package import (
    Manifest,
    Parity,
    calibration_of,
    destination,
    staged,
    strength_range,
    write_files,
)
from swrec_prod.export.parity import Compared
from swrec_prod.export.program import ScoreProgram, compile_program
from swrec_prod.ranker import Ranker
from swrec_prod.schema import FeatureSchema, Scenario

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
    or REPO/NAME/VERSION. Writes nothing, and raises PackageError, when the version exists, there is no golden row or
    the program's scores differ from the ranker's by more than its bound; DataError when the encoders are not those of
    the training.
    """
    path = destination(to)
    encoders = _encoders(catalog, config)
    rows = _of_every_scenario(_golden_rows(catalog.root), encoders.schema.scenario)
    progress(f"compiling {config.model.name} with tables in {'fp32' if quantize == 'none' else quantize}")
    layout, program = ranker.sparse.layout, ScoreProgram(ranker.eval(), quantize)
    module = compile_program(program)
    compared = Compared(ranker, program, Programs(module, layout), *encode_rows(encoders, layout, rows))
    parity = compared.parity(quantize)
    progress(
        f"{parity.rows} golden rows: program against trained {parity.mixed_eager:.2g}, "
        f"folded against unfolded {parity.one_mixed:.2g}, the user once against each row {parity.user_once:.2g}"
    )
    manifest = _manifest(ranker, config, encoders, quantize, parity, metrics or {})
    manifest = manifest.model_copy(
        update={
            "row_0": _row_0(catalog, encoders.schema, config),
            "strength_range": _strength_range(manifest, compared.logits),
        }
    )
    with staged(path) as folder:
        write_files(folder, module, encoders, with_expected(rows, compared.logits), manifest)
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


def _of_every_scenario(rows: pa.Table, scenario: Scenario) -> pa.Table:
    """With a row of each scenario that has none: the first row, as if it had happened there. Its logits are checked,
    and nobody asks whether it was clicked.
    """
    present = {scenario.index(value) for value in rows["scenario"].to_pylist()}
    missing = [name for i, name in enumerate(scenario.names) if i not in present]
    added = rows.take(pa.array([0] * len(missing), pa.int64()))
    at = rows.column_names.index("scenario")
    added = added.set_column(at, rows.field(at), pa.array(missing, pa.string()).cast(rows.field(at).type))
    return pa.concat_tables([rows, added])


def _strength_range(manifest: Manifest, logits: Logits) -> tuple[float, float] | None:
    """Manifest.strength_range, of the golden rows' logits."""
    return strength_range(logits.interest_BT.numpy(), manifest.debias_strength) if manifest.causal else None


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
        calibration=calibration_of(metrics, layout.tasks),
        metrics=metrics,
        trained_through=config.trained_through,
    )
