"""Events -> prepared rows: ids and numbers by the one encoder, lists of behaviours.

Called on Arrow tables, by every engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from swrec_prod.behaviours.brought import brought, of_columns
from swrec_prod.behaviours.history import LatestByFeature, of_rows, own_values
from swrec_prod.behaviours.lists import Sequence
from swrec_prod.behaviours.windowed import computed
from swrec_prod.data.day_files import MICROSECONDS, array_of, carried_columns, stored_schema
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.raw_values import label_values, weight_values
from swrec_prod.engine.arrow_types import normal_type
from swrec_prod.prepare import etl
from swrec_prod.prepare.data_file import DataFile

if TYPE_CHECKING:
    import ibis.expr.types as ir


class Rows(NamedTuple):
    """Prepared rows in order of (time, row).

    table: encoded columns [N], lists of behaviours left out. day: days since 1970 [N].
    """

    table: pa.Table
    sequences: list[Sequence]
    day: np.ndarray

    def part(self, first: int, last: int) -> pa.Table:
        """Rows [first, last) with their lists."""
        table = self.table.slice(first, last - first)
        for lists in self.sequences:
            for name, column in lists.columns(first, last).items():
                table = table.append_column(name, column)
        return table


def columns_of(data_file: DataFile, encoders: Encoders, events: ir.Table) -> pa.Schema:
    """The columns of the prepared rows of some events, and their types."""
    types = events.schema()
    carried = carried_columns(encoders.schema, data_file.keep)
    kinds = {name: normal_type(types[column].to_pyarrow()) for name, column in carried.items()}
    return stored_schema(encoders.schema, etl.SPLIT in events.columns, kinds)


def prepared_rows(
    encoders: Encoders, events: pa.Table, latest: LatestByFeature, keep: tuple[str, ...] = ()
) -> tuple[Rows, LatestByFeature]:
    """The prepared rows of windowed events, sorted by (time, row). latest: behaviours before and after them. keep: raw
    columns.
    """
    table = _encoded(encoders, events, carried_columns(encoders.schema, keep))
    sequences, after = [], {}
    for feature in computed(encoders.schema):
        before = events[f"_before_{feature.name}"].to_numpy()
        lists, after[feature.name] = of_rows(encoders, feature, table, before, latest[feature.name])
        sequences.append(lists)
    sequences += [of_columns(encoders, feature, events) for feature in brought(encoders.schema)]
    return Rows(table, sequences, events[etl.DAY].to_numpy()), after


def _encoded(encoders: Encoders, events: pa.Table, carried: Mapping[str, str]) -> pa.Table:
    schema = encoders.schema
    columns: dict[str, Any] = {"row": events[etl.ROW], "time": events[schema.time].cast(MICROSECONDS)}
    columns["user"] = events[schema.user].cast(pa.string())
    columns["scenario"] = encoders.encode_scenario(events[schema.scenario.column]).astype(np.int32)
    columns |= {f"label_{label.name}": label_values(events[label.outcome], label.column) for label in schema.labels}
    if schema.request:
        columns["request"] = events[schema.request].cast(pa.string())
    if schema.weight:
        columns["weight"] = weight_values(events[schema.weight], schema.weight)
    if etl.SPLIT in events.column_names:
        columns["split"] = events[etl.SPLIT]
    for feature in schema.of_kind("id", "bag", "dense", "vector"):
        raw = {name: events[column] for name, column in feature.raw_columns.items()}
        columns |= {name: array_of(c) for name, c in encoders.columns_of(feature.name, raw).items()}
    for feature in computed(schema):
        columns |= own_values(encoders, feature, events)
    return pa.table(columns | {name: events[column] for name, column in carried.items()})
