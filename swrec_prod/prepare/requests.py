"""requests.parquet: held-out rows as a client would send them, raw, in whole requests; for golden rows and demos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.behaviours.as_sent import RawSeeds, raw_histories
from swrec_prod.data.day_files import MICROSECONDS
from swrec_prod.data.manifest import Day
from swrec_prod.engine.contract import Engine
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.etl import DAY, ROW, SPLIT
from swrec_prod.prepare.events import Events
from swrec_prod.prepare.profile import day_of, number_of
from swrec_prod.schema import FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir

CANDIDATES = 1_000_000  # about so many rows are chosen from, at most
UNSEEN = "(unseen)"  # scenarios that the schema does not list, together
ONE_DAY = timedelta(days=1)
Counts = dict[str, int]


def held_out_requests(
    engine: Engine, events: Events, schema: FeatureSchema, days: Mapping[date, Day], until: date | None
) -> pa.Table:
    """The rows of requests.parquet, chosen from the latest rows that the encoders have not seen: see `request_table`.

    days: the prepared ones, in order. until: the last one that the encoders were fitted on; None where rows are dealt.
    """
    unseen, limit = _unseen(events, schema, days, until)
    happened = events.happened(list(days))
    return request_table(engine, happened, events.data_file, schema, unseen, limit, events.seeds.lists)


def _unseen(
    events: Events, schema: FeatureSchema, days: Mapping[date, Day], until: date | None
) -> tuple[ir.Table, Counts]:
    """What requests are chosen from, and how many of each scenario; of a dated log the last held-out days only."""
    rows = {day: {name: of.rows for name, of in record.scenarios.items()} for day, record in days.items()}
    total = dict(sum(map(Counter, rows.values()), Counter()))
    limit = limits(total, events.data_file.requests.per_scenario, 10 if until else 1)
    if until is None:
        dealt = events.of([])
        return dealt.filter(dealt[SPLIT] == "test"), limit
    held_out = {day: of for day, of in rows.items() if day > until}
    last = last_days(held_out, limit, schema.request is not None) or list(days)[-1:]
    first = max(last[0], until + ONE_DAY)
    latest = events.of(last)
    return latest.filter(latest[DAY] >= number_of(first)), limit


def limits(rows: Counts, per_scenario: int, part: int) -> Counts:
    """How many of each scenario's latest rows may become requests: a `part`-th, about CANDIDATES of all together."""
    most = max(CANDIDATES // max(len(rows), 1), per_scenario)
    return {scenario: min(max(count // part, 1), most) for scenario, count in rows.items()}


def last_days(days: Mapping[date, Counts], limit: Counts, whole: bool) -> list[date]:
    """The latest of the held-out `days` (rows by scenario) that have `limit` rows of each scenario.

    whole: one day more, for requests that begin before midnight.
    """
    wanted = {name: min(limit[name], sum(rows.get(name, 0) for rows in days.values())) for name in limit}
    names = list(days)
    first = len(names)
    while first and any(count > 0 for count in wanted.values()):
        first -= 1
        wanted = {name: count - days[names[first]].get(name, 0) for name, count in wanted.items()}
    return names[max(first - whole, 0) :]


def request_table(
    engine: Engine,
    events: ir.Table,
    data_file: DataFile,
    schema: FeatureSchema,
    unseen: ir.Table,
    limit: Counts,
    seeds: RawSeeds | None = None,
) -> pa.Table:
    """Rows with raw values: row, time, user, day, scenario, label_<task>, features by name, sequences as lists.

    events: etl.standard, which histories are made of. unseen: the rows that the encoders have not seen and that are
    chosen from: the latest whole requests that begin among `limit` rows of each scenario (see `limits`). schema:
    resolved.
    """
    candidates = _candidates(engine, unseen, schema, limit)
    group = _groups(candidates, [schema.scenario.column, *_keys(schema)])
    index = pc.index_in(candidates[schema.scenario.column], pa.array(schema.scenario.values))
    scenario, requests = index.fill_null(-1).to_numpy(), data_file.requests
    picked = pick_rows(np.arange(len(group)), group, scenario, requests.per_scenario, requests.seed)
    rows = candidates[ROW].take(pa.array(picked))
    chosen = engine.from_arrow(pa.table({ROW: rows}))
    raw = engine.arrow(unseen.semi_join(chosen, ROW))
    raw = raw.take(pc.index_in(rows.combine_chunks(), raw[ROW].combine_chunks()))
    return pa.table(_as_sent(schema, raw) | raw_histories(engine, events, schema, raw, seeds or {}))


def _keys(schema: FeatureSchema) -> list[str]:
    """The columns that rows of one request share, besides the scenario; without moments each row is one."""
    if schema.request:
        return [schema.request]
    return [schema.user, schema.time] if schema.has_time else [ROW]


def _candidates(engine: Engine, unseen: ir.Table, schema: FeatureSchema, limit: Counts) -> pa.Table:
    """row, time, scenario and keys of the latest requests of each scenario, by (time, row); none is cut."""
    keys, name = _keys(schema), schema.scenario.column
    if schema.request:
        # which rows were asked for together is not known of the others
        unseen = unseen.filter(unseen[schema.request].notnull())
    group = ibis.ifelse(unseen[name].isin(schema.scenario.values), unseen[name], UNSEEN)
    rows = unseen.select(*dict.fromkeys([ROW, schema.time, name, *keys]), _group=group)
    newest = rows[schema.time].max().over(ibis.window(group_by=[name, *keys])) if schema.request else rows[schema.time]
    rows = rows.mutate(_newest=newest)
    # equal within a request
    before = ibis.rank().over(ibis.window(group_by="_group", order_by=[ibis.desc("_newest"), name, *keys]))
    limits = {"_of": pa.array(list(limit), pa.string()), "_limit": pa.array(list(limit.values()), pa.int64())}
    rows = rows.mutate(_before=before).join(engine.from_arrow(pa.table(limits)), [("_group", "_of")])
    rows = rows.filter(rows["_before"] < rows["_limit"]).select(*dict.fromkeys([ROW, schema.time, name, *keys]))
    return engine.arrow(rows).sort_by([(schema.time, "ascending"), (ROW, "ascending")])


def pick_rows(
    candidates: np.ndarray, group: np.ndarray, scenario: np.ndarray, per_scenario: int, seed: int
) -> np.ndarray:
    """About `per_scenario` rows of each scenario, in whole groups, which come in random order.

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


def _as_sent(schema: FeatureSchema, raw: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns of requests.parquet for the picked rows, but for their behaviours."""
    columns = {"row": raw[ROW], "time": raw[schema.time].cast(MICROSECONDS), "user": raw[schema.user].cast(pa.string())}
    columns["day"] = pa.array([str(day_of(number)) for number in raw[DAY].to_pylist()], pa.string())
    columns["scenario"] = raw[schema.scenario.column]
    columns |= {f"label_{label.name}": raw[label.outcome].cast(pa.int8()) for label in schema.labels}
    columns |= {given.name: _sendable(raw[given.column]) for given in schema.inputs if given.column != schema.time}
    return columns


def _sendable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """As a request can carry it: moments as int64 microseconds since 1970, dates as text."""
    if pa.types.is_timestamp(column.type):
        return column.cast(MICROSECONDS).cast(pa.int64())
    return column.cast(pa.string()) if pa.types.is_date32(column.type) else column


def _groups(rows: pa.Table, columns: list[str]) -> np.ndarray:
    """One number for each distinct combination, int64 [N]."""
    if not len(rows):
        return np.zeros(0, np.int64)
    codes = [rows[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in columns]
    return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def _runs(values: np.ndarray) -> np.ndarray:
    """The number of the run of equal values that each element is in, from 0."""
    return np.concatenate(([0], np.cumsum(values[1:] != values[:-1])))
