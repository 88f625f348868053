"""The behaviours of rows and of earlier days as Behaviours, made by the encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.behaviours.lists import Behaviours, LatestBehaviours, Sequence, sequence
from swrec_prod.behaviours.windowed import computed, of_prepared_behaviours
from swrec_prod.behaviours.windowed import latest as latest_behaviours
from swrec_prod.data.day_files import array_of, fields_of, own_column, own_columns
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column, Ragged
from swrec_prod.encoding.raw_values import lists
from swrec_prod.engine.contract import Engine
from swrec_prod.schema import Feature, FeatureSchema

LatestByFeature = dict[str, LatestBehaviours]


def latest_before(engine: Engine, encoders: Encoders, files: list[Path], seeds: LatestByFeature) -> LatestByFeature:
    """The latest behaviours of every user in the prepared files of earlier days, and before those in `seeds`, by
    computed sequence.
    """
    schema, latest = encoders.schema, {}
    rows = engine.parquet(files) if files else None
    for feature in computed(schema):
        latest[feature.name] = seeds.get(feature.name) or _nobody(encoders, feature)
        if rows is not None:
            prepared = _of_prepared(schema, feature, engine.arrow(latest_behaviours(rows, schema, feature)))
            latest[feature.name] = latest[feature.name].then(prepared, feature.max_length)
    return latest


def _nobody(encoders: Encoders, feature: Feature) -> LatestBehaviours:
    parts = {name: encoders.encode(f"{feature.name}.{name}", []) for name in part_names(feature)}
    return LatestBehaviours.of_nobody(Behaviours(parts, np.zeros(0, np.int32), np.zeros(0, np.int64)))


def part_names(feature: Feature) -> tuple[str, ...]:
    """What is known of a behaviour beside when and where it was: its item and its fields."""
    return ("item", *(field.name for field in feature.fields))


def _of_prepared(schema: FeatureSchema, feature: Feature, rows: pa.Table) -> LatestBehaviours:
    """rows: as windowed.latest gives them, in any order."""
    rows = rows.sort_by([("_user", "ascending"), ("_time", "ascending"), ("_row", "ascending")])
    coded = rows["_user"].combine_chunks().dictionary_encode()
    counts = np.bincount(coded.indices.to_numpy(), minlength=len(coded.dictionary))
    parts = {name: _column(rows[name]) for name in own_columns(schema, feature)}
    behaviours = Behaviours(parts, rows["_scenario"].to_numpy(), rows["_time"].cast(pa.int64()).to_numpy())
    return LatestBehaviours(coded.dictionary.cast(pa.string()), np.concatenate(([0], np.cumsum(counts))), behaviours)


def _column(values: pa.ChunkedArray) -> Column:
    if not pa.types.is_list(values.type):
        return values.to_numpy()
    elements, offsets = lists(values, "behaviours")
    return Ragged(elements.to_numpy(), offsets)  # type: ignore[union-attr]


def own_values(encoders: Encoders, feature: Feature, events: pa.Table) -> dict[str, pa.Array | pa.ChunkedArray]:
    """What rows are as behaviours of a computed sequence, by column, where no other column says it."""
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    for part in fields_of(encoders.schema, feature):
        name = own_column(encoders.schema, part)
        if "@" in name:
            columns[name] = array_of(encoders.encode(part.name, events[part.source]))
    if isinstance(feature.where, dict):
        columns[f"@{feature.name}"] = events[f"_is_{feature.name}"]
    return columns


def of_rows(
    encoders: Encoders, feature: Feature, table: pa.Table, before: np.ndarray, latest: LatestBehaviours
) -> tuple[Sequence, LatestBehaviours]:
    """The lists of a computed sequence for encoded rows, and the latest behaviours after them.

    before: int64 [N], how many behaviours of the user are strictly before the row in `table`.
    """
    parts = {name: _column(table[column]) for name, column in own_columns(encoders.schema, feature).items()}
    time = table["time"].cast(pa.int64()).to_numpy()
    rows = Behaviours(parts, table["scenario"].to_numpy(), time)
    user = table["user"].combine_chunks()
    happened, ages = _happened(feature, table), encoders if feature.age else None
    return sequence(feature, user, before, happened, rows, latest, ages)


def _happened(feature: Feature, table: pa.Table) -> np.ndarray:
    """bool [N]: whether a row is a behaviour; drawn negatives, whose numbers are below 0, are none."""
    happened = table["row"].to_numpy() >= 0
    for name, value in of_prepared_behaviours(feature, table.column_names).items():
        happened &= pc.equal(table[name].cast(pa.int8()) if name[0] == "@" else table[name], value).to_numpy()
    return happened
