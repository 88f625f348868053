"""Columns of prepared rows, changed: scenarios, ids, elements of lists, and a number that is drawn for each row.

Shapes: N rows, S scenarios.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.schema import FeatureSchema


def of_scenarios(schema: FeatureSchema, values: Sequence[str]) -> FeatureSchema:
    """The schema with these scenarios and no other."""
    scenario = schema.scenario.model_copy(update={"values": tuple(values), "unseen": "error"})
    return schema.model_copy(update={"scenario": scenario})


def with_scenarios(table: pa.Table, scenario_N: np.ndarray, index_S: np.ndarray) -> pa.Table:
    """The rows in other scenarios, and their behaviours by `index_S` [S + 1], old index -> new one; the last is that of
    behaviours whose scenario is not known.
    """
    table = replaced_column(table, "scenario", pa.array(scenario_N.astype(np.int32)))
    for name in table.column_names:
        if name.endswith(".scenario"):
            table = replaced_column(table, name, with_elements(table[name], lambda flat: index_S[flat]))
    return table


def replaced_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with other values in one column, of the same type."""
    at = table.column_names.index(name)
    return table.set_column(at, table.schema.field(name), values.cast(table.schema.field(name).type))


def with_elements(column: pa.ChunkedArray, change: Callable[[np.ndarray], np.ndarray]) -> pa.Array:
    """A column of lists of ids, with all their elements changed at once; lists stay as long as they are."""
    elements = pa.array(change(elements_of(column)).astype(np.int32))
    lengths = pc.list_value_length(column).to_numpy()
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)), elements)


def elements_of(column: pa.ChunkedArray) -> np.ndarray:
    """The elements of all lists of a column, one list after the other."""
    return pc.list_flatten(column).to_numpy()


def drawn(numbers: np.ndarray, purpose: str) -> np.ndarray:
    """A number in [0, 1) for each whole number and purpose, always the same: [N] (splitmix64, Steele et al. 2014)."""
    start = int.from_bytes(purpose.encode(), "big") * GOLDEN
    mixed = numbers.astype(np.uint64) + np.uint64(start % 2**64)
    for shift, factor in MIXING:
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / 2.0**53


GOLDEN = 0x9E3779B97F4A7C15
MIXING = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
