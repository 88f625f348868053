"""Unknown values in judged rows: which share of each feature's values they are, and how well such rows are ranked.

Shapes: N judged rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from swrec_prod.config import DataConfig, SplitName
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.manifest import Manifest
from swrec_prod.data.unknown_values import Span, has_vocabulary, shares
from swrec_prod.errors import DataError
from swrec_prod.evaluate.text import NONE, Grid, number, share
from swrec_prod.schema import Feature, FeatureSchema

Judge = Callable[[pa.Table], Mapping[str, Any]]  # metrics_of


def unknown_figures(
    table: pa.Table, catalog: Catalog, data: DataConfig, part: SplitName, judge: Judge
) -> dict[str, Any]:
    """What metrics.json says of unknown values in predictions of a part: `{"unknown": ...}`, {} where there are none.

    values: by feature with any, the share `overall` and of each of `scenarios`; left out of folders that were prepared
    before it was counted. rows: by id, of the item and of the user, the figures of rows that have an `unknown` one (or
    none at all) and of those with a `known` one, where there are both.
    """
    schema = catalog.schema if data.features is None else catalog.schema.select(data.features)
    values = _values(catalog.manifest, schema, Span.of(data, part))
    files = [str(file.path) for file in catalog.files_of(data, part)]
    rows = {}
    for feature in _who_and_what(schema):
        unknown = _unknown_rows(files, feature.name, table["row"].to_numpy())
        if unknown.any() and not unknown.all():
            halves = {"unknown": unknown, "known": ~unknown}
            rows[feature.name] = {name: judge(table.filter(half))["overall"] for name, half in halves.items()}
    return {"unknown": {"values": values, "rows": rows}} if values or rows else {}


def unknown_grid(metrics: Mapping[str, Any]) -> Grid | None:
    """The shares as a table, features by scenarios; None where there are none."""
    values = metrics.get("unknown", {}).get("values", {})
    if not values:
        return None
    scenarios = list(dict.fromkeys(value for of in values.values() for value in of["scenarios"]))
    rows = [
        [name, share(of["overall"]), *(share(of["scenarios"][v]) if v in of["scenarios"] else NONE for v in scenarios)]
        for name, of in values.items()
    ]
    return Grid(("feature", "all rows", *scenarios), rows)


def unknown_note(metrics: Mapping[str, Any], *, with_values: bool = True) -> str:
    """What there is to say of unknown values, a line a thing; "" where there are none. with_values: the shares, too."""
    unknown = metrics.get("unknown", {"values": {}, "rows": {}})
    values = (
        ", ".join(f"{name} {share(of['overall'])}" for name, of in unknown["values"].items()) if with_values else ""
    )
    lines = [f"Unknown values: {values}."] if values else []
    return "\n".join([*lines, *(_of_rows(name, **halves) for name, halves in unknown["rows"].items())])


def _of_rows(name: str, unknown: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    part = share(unknown["rows"] / (unknown["rows"] + known["rows"]))
    auc, others = number(unknown["auc"]), number(known["auc"])
    return f"AUC {auc} on the {part} of rows with an unknown {name}, {others} on the others."


def _values(manifest: Manifest | None, schema: FeatureSchema, span: Span) -> dict[str, Any]:
    """The shares of unknown values in rows of a span, of the features that have any."""
    overall = {name: found for name, found in shares(manifest, schema, span).items() if found.unknown}
    scenarios = schema.scenario.names if span.scenarios is None else span.scenarios
    each = {value: shares(manifest, schema, span._replace(scenarios=(value,))) for value in scenarios}
    return {
        name: {
            "overall": found.ratio,
            "scenarios": {value: of[name].ratio for value, of in each.items() if of[name].values},
        }
        for name, found in overall.items()
    }


def _who_and_what(schema: FeatureSchema) -> list[Feature]:
    """The id that stands for the item, the one that behaviours hold if there are any, and the one that stands for the
    user: the first of its side.
    """
    ids = [feature for feature in schema.of_kind("id") if has_vocabulary(schema, feature)]
    held = [sequence.item for sequence in schema.of_kind("sequence")]
    items = [f for f in ids if f.name in held] or [f for f in ids if f.side == "item"]
    users = [f for f in ids if f.side == "user" and f not in items]
    return [*items[:1], *users[:1]]


def _unknown_rows(files: list[str], feature: str, row_N: np.ndarray) -> np.ndarray:
    """bool [N]: in which of the rows the feature's id is 0. Raises DataError for a file without it."""
    try:
        known = ds.dataset(files, format="parquet").to_table(["row", feature], filter=pc.field(feature) == 0)
    except (pa.ArrowInvalid, FileNotFoundError) as failure:
        raise DataError(f"{files[0]}: cannot be read: {' '.join(str(failure).split())}") from None
    return np.isin(row_N, known["row"].to_numpy())
