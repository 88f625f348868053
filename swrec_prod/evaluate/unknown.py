"""Unknown values in judged rows: which share of each feature's values they are, and how well such rows are ranked.

Shapes: N judged rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.config import DataConfig, SplitName
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.manifest import Manifest
from swrec_prod.data.unknown_values import Span, has_vocabulary, shares
from swrec_prod.errors import DataError
from swrec_prod.evaluate.bookkeeping import Groups
from swrec_prod.evaluate.text import NONE, Grid, number, share
from swrec_prod.schema import Feature, FeatureSchema


def unknown_rows(catalog: Catalog, features: FeatureSchema, groups: Groups, row_N: np.ndarray) -> dict[str, np.ndarray]:
    """In which of the rows the id of the item and of the user are unknown: by feature, bool [N].

    features: those that the model knows, `known_features`. groups: the files, and of them the row groups, that hold the
    rows. Raises DataError for a file without such a column.
    """
    names = [feature.name for feature in _who_and_what(features)]
    unknown = {name: np.zeros(len(row_N), bool) for name in names}
    for file, numbers in groups.items() if names else ():
        table = _ids(catalog.root / file, names, numbers)
        for name, found in unknown.items():
            found |= np.isin(row_N, table["row"].to_numpy()[table[name].to_numpy() == 0])
    return unknown


def known_features(catalog: Catalog, data: DataConfig) -> FeatureSchema:
    """The schema of the features that a run of these data knows."""
    return catalog.schema if data.features is None else catalog.schema.select(data.features)


def unknown_values(catalog: Catalog, data: DataConfig, part: SplitName) -> dict[str, Any]:
    """By feature with any unknown value in the rows of a part, its share `overall` and of each of `scenarios`; left out
    of folders that were prepared before it was counted.
    """
    return _values(catalog.manifest, known_features(catalog, data), Span.of(data, part))


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


def _ids(path: Path, names: Sequence[str], groups: Sequence[int] | None) -> pa.Table:
    """Row numbers and ids of some row groups of a file. Raises DataError for a file without them."""
    try:
        with pq.ParquetFile(path) as parquet:
            numbers = range(parquet.num_row_groups) if groups is None else groups
            return parquet.read_row_groups(list(numbers), columns=["row", *names])
    except (pa.ArrowInvalid, FileNotFoundError) as failure:
        raise DataError(f"{path}: cannot be read: {' '.join(str(failure).split())}") from None
