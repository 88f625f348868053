"""OUT/requests.parquet: held-out rows as a client would send them, raw, in whole requests; for golden rows and demos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.data.data_file import DataFile
from swrec_prod.data.etl import DAY, ROW, behaved
from swrec_prod.data.profile import day_of
from swrec_prod.data.stored import MICROSECONDS
from swrec_prod.engine.contract import Engine
from swrec_prod.schema import Feature, FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir

CANDIDATES = 1_000_000  # at most so many of the latest held-out rows are chosen from


def request_table(engine: Engine, events: ir.Table, data_file: DataFile, schema: FeatureSchema, unseen: ir.Table, limit: int) -> pa.Table:
    """Rows with raw values: row, time, user, day, scenario, label_<task>, features by name, sequences as lists.

    events: etl.standard. unseen: those of them that the encoders have not seen; the latest `limit` are chosen from. schema: resolved.
    """
    import ibis

    keys = [schema.request] if schema.request else [schema.user, schema.time]
    columns = dict.fromkeys([ROW, schema.time, schema.scenario.column, *keys])
    if schema.request:
        unseen = unseen.filter(unseen[schema.request].notnull())  # which rows were asked for together is not known of the others
    newest = unseen.order_by(ibis.desc(schema.time), ibis.desc(ROW)).limit(min(limit, CANDIDATES)).select(*columns)
    candidates = engine.arrow(newest).sort_by([(schema.time, "ascending"), (ROW, "ascending")])
    group = _groups(candidates, [schema.scenario.column, *keys])
    scenario = pc.index_in(candidates[schema.scenario.column], pa.array(schema.scenario.values)).fill_null(-1).to_numpy()
    requests = data_file.requests
    picked = pick_rows(np.arange(len(group)), group, scenario, requests.per_scenario, requests.seed)
    rows = candidates[ROW].take(pa.array(picked))
    chosen = engine.memory(pa.table({ROW: rows}))
    raw = engine.arrow(events.semi_join(chosen, ROW))
    raw = raw.take(pc.index_in(rows.combine_chunks(), raw[ROW].combine_chunks()))
    return _as_sent(engine, events, schema, raw)


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


def _as_sent(engine: Engine, events: ir.Table, schema: FeatureSchema, raw: pa.Table) -> pa.Table:
    """The columns of requests.parquet for the picked rows."""
    columns = {"row": raw[ROW], "time": raw[schema.time].cast(MICROSECONDS), "user": raw[schema.user].cast(pa.string())}
    columns["day"] = pa.array([str(day_of(number)) for number in raw[DAY].to_pylist()], pa.string())
    columns["scenario"] = raw[schema.scenario.column]
    columns |= {f"label_{label.name}": raw[label.column].cast(pa.int8()) for label in schema.labels}
    columns |= {f.name: raw[f.source] for f in schema.features if f.kind != "sequence"}
    for feature in schema.of_kind("sequence"):
        columns |= _behaviours(engine, events, schema, feature, raw)
    return pa.table(columns)


def _behaviours(engine: Engine, events: ir.Table, schema: FeatureSchema, feature: Feature, raw: pa.Table) -> dict[str, pa.Array]:
    """The raw behaviours of the picked rows, oldest first, as lists."""
    sources = {"item": schema.feature(feature.table).source, "scenario": schema.scenario.column, "time": schema.time}
    people = engine.memory(pa.table({schema.user: pc.unique(raw[schema.user])}))
    happened = events.filter(behaved(events, schema, feature)).semi_join(people, schema.user)
    found = engine.arrow(happened.select(*dict.fromkeys([schema.user, ROW, *sources.values()])))
    found = found.sort_by([(schema.user, "ascending"), (schema.time, "ascending"), (ROW, "ascending")])
    known, time = found[schema.user].to_pylist(), found[schema.time].to_numpy()
    begins = {user: i for i, user in reversed(list(enumerate(known)))}
    ends = {user: i + 1 for i, user in enumerate(known)}
    lists: list[np.ndarray] = []
    for user, moment in zip(raw[schema.user].to_pylist(), raw[schema.time].to_pylist(), strict=True):
        begin, end = begins.get(user, 0), ends.get(user, 0)
        stop = begin + int(np.searchsorted(time[begin:end], moment, side="left"))
        lists.append(np.arange(begin if feature.max_length is None else max(begin, stop - feature.max_length), stop))
    index = pa.array(np.concatenate([np.zeros(0, np.int64), *lists]))
    offsets = pa.array(np.concatenate(([0], np.cumsum([len(one) for one in lists]))).astype(np.int32))
    flat = {part: found[source].take(index).combine_chunks() for part, source in sources.items()}
    flat["time"] = flat["time"].cast(MICROSECONDS)
    return {f"{feature.name}.{part}": pa.ListArray.from_arrays(offsets, values) for part, values in flat.items()}


def _groups(rows: pa.Table, columns: list[str]) -> np.ndarray:
    """One number for each distinct combination, int64 [N]."""
    codes = [rows[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in columns]
    return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].reshape(-1) if len(rows) else np.zeros(0, np.int64)


def _runs(values: np.ndarray) -> np.ndarray:
    """The number of the run of equal values that each element is in, from 0."""
    return np.concatenate(([0], np.cumsum(values[1:] != values[:-1])))
