"""OUT/requests.parquet: held-out rows as a client would send them, raw, in whole requests; for golden rows and demos."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from swrec_prod.data.days import Sequence
from swrec_prod.data.values import flat
from swrec_prod.schema import FeatureSchema


def pick_rows(candidates: np.ndarray, group: np.ndarray, scenario: np.ndarray, per_scenario: int, seed: int) -> np.ndarray:
    """About `per_scenario` rows of each scenario, in whole groups, groups in random order, rows of a group side by side.

    candidates: positions of held-out rows; group: int [N], rows of one request share a value, and so their scenario;
    scenario: int [N] indices.
    """
    _, code, sizes = np.unique(group[candidates], return_inverse=True, return_counts=True)
    rank = np.random.default_rng(seed).permutation(len(sizes))[code]  # one random number a group
    order = np.lexsort((candidates, rank, scenario[candidates]))
    candidates, rank = candidates[order], rank[order]
    chosen = []
    for index in np.unique(scenario[candidates]):
        inside = np.flatnonzero(scenario[candidates] == index)
        if len(inside) > per_scenario:  # go on to the end of the group that holds the last row wanted
            inside = inside[: np.searchsorted(_runs(rank[inside]), _runs(rank[inside])[per_scenario - 1], side="right")]
        chosen.append(candidates[inside])
    return np.concatenate([candidates[:0], *chosen])


def request_table(
    schema: FeatureSchema, events: pa.Table, encoded: pa.Table, days: np.ndarray, sequences: list[Sequence], rows: np.ndarray
) -> pa.Table:
    """The picked rows with raw values: row, time, user, day, scenario, label_<task>, features by name, sequences as lists.

    events: the standard table; encoded: the prepared columns; both [N] in the same order.
    """
    take = pa.array(rows)
    columns = {name: encoded[name].take(take) for name in ("row", "time", "user")}
    columns["day"] = pa.array(days[rows].astype(str))
    columns["scenario"] = events[schema.scenario.column].take(take)
    columns |= {f"label_{task}": encoded[f"label_{task}"].take(take) for task in schema.tasks}
    columns |= {f.name: events[f.source].take(take) for f in schema.features if f.kind != "sequence"}
    for feature, sequence in zip(schema.of_kind("sequence"), sequences, strict=True):
        behaviours, offsets = sequence.windows.of_rows(rows)
        sources = {"item": schema.feature(feature.table).source, "scenario": schema.scenario.column, "time": schema.time}
        for part, source in sources.items():
            raw = flat(events[source].take(pa.array(behaviours)))
            columns[f"{feature.name}.{part}"] = pa.ListArray.from_arrays(offsets.astype(np.int32), raw)
    return pa.table(columns)


def _runs(values: np.ndarray) -> np.ndarray:
    """The number of the run of equal values that each element is in, from 0."""
    return np.concatenate(([0], np.cumsum(values[1:] != values[:-1])))
