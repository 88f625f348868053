"""The behaviours of some rows as a client would send them: raw values, in lists, oldest first.

<seq>.item, <seq>.<field>    of a bag one list a behaviour
<seq>.scenario, <seq>.time   missing where they are not known
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.behaviours.brought import RawLists, brought
from swrec_prod.behaviours.windowed import ROW, behaved, computed
from swrec_prod.data.day_files import MICROSECONDS, fields_of
from swrec_prod.encoding.pack import spread
from swrec_prod.engine.contract import Engine
from swrec_prod.schema import Feature, FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir


RawSeeds = dict[str, tuple[pa.Array, RawLists]]  # Seeds.lists
ORDER = [("_user", "ascending"), ("_time", "ascending"), ("_row", "ascending")]
EARLIER = -(2**62)  # the time of what was before the log, for sorting


def raw_histories(
    engine: Engine, events: ir.Table, schema: FeatureSchema, rows: pa.Table, seeds: RawSeeds
) -> dict[str, pa.Array]:
    """The raw behaviours of `rows`, which are some of `events`, for all sequence features."""
    columns: dict[str, pa.Array] = {}
    for feature in brought(schema):
        assert feature.columns is not None
        columns |= RawLists.of(rows, feature.columns, feature.max_length).as_sent(feature.name)
    sequences = computed(schema)
    if not sequences:
        return columns
    moments = rows.select([schema.user, schema.time]).group_by(schema.user)
    bounds = moments.aggregate([(schema.time, "min"), (schema.time, "max")])
    first, last = bounds[f"{schema.time}_min"], bounds[f"{schema.time}_max"]
    people = engine.from_arrow(pa.table({"_user": bounds[schema.user], "_first": first, "_last": last}))
    mine = events.join(people, events[schema.user] == people["_user"])
    mine = engine.materialise(mine.filter(mine[schema.time] < mine["_last"]))  # once for all features, of all days
    for feature in sequences:
        behaviours = _happened(engine, mine, schema, feature)
        if feature.name in seeds:
            behaviours = _with_seed(behaviours, schema, feature.name, *seeds[feature.name], rows[schema.user])
        columns |= _lists(behaviours, rows, schema, feature)
    engine.release(mine)
    return columns


def _sources(schema: FeatureSchema, feature: Feature) -> dict[str, str]:
    """The column of the log that each part of a behaviour is read from."""
    fields = {field.name: part.source for field, part in zip(feature.fields, fields_of(schema, feature), strict=True)}
    return {"item": schema.feature(feature.table).source, "scenario": schema.scenario.column, **fields}


def _happened(engine: Engine, mine: ir.Table, schema: FeatureSchema, feature: Feature) -> pa.Table:
    """user, time and the parts of behaviours, by (user, time, row). mine: events of the users of the rows, in `_first`
    the first moment of those.
    """
    happened = mine.filter(behaved(mine, schema, feature))
    if feature.max_length is not None:  # before a user's first row no more than its list holds
        early = happened[schema.time] < happened["_first"]
        newest_first = [ibis.desc(schema.time), ibis.desc(ROW)]
        age = ibis.row_number().over(ibis.window(group_by=[schema.user, early], order_by=newest_first))
        happened = happened.mutate(_early=early, _age=age)
        happened = happened.filter(~happened["_early"] | (happened["_age"] < feature.max_length))
    parts = {f"{feature.name}.{part}": happened[source] for part, source in _sources(schema, feature).items()}
    table = engine.arrow(happened.select(_user=happened[schema.user], _time=happened[schema.time], _row=ROW, **parts))
    return table.append_column(f"{feature.name}.time", table["_time"].cast(MICROSECONDS)).sort_by(ORDER)


def _with_seed(
    behaviours: pa.Table,
    schema: FeatureSchema,
    sequence: str,
    owners: pa.Array,
    seed: RawLists,
    users: pa.ChunkedArray,
) -> pa.Table:
    """The behaviours, and before them those of the seed of the same users; a scenario without an index is not sent."""
    wanted = np.flatnonzero(pc.is_in(owners, users.cast(pa.string()).combine_chunks()).to_numpy(zero_copy_only=False))
    lengths = np.diff(seed.offsets)[wanted]
    index, offsets = spread(seed.offsets[:-1][wanted], lengths)
    parts = {name: lists.flatten().take(pa.array(index)) for name, lists in seed.as_sent(sequence).items()}
    if schema.scenario.unseen == "error":
        where = parts[f"{sequence}.scenario"]
        known = pc.is_in(where, pa.array(schema.scenario.values, pa.string()))
        parts[f"{sequence}.scenario"] = pc.if_else(known, where, pa.scalar(None, pa.string()))
    owner = owners.take(pa.array(np.repeat(wanted, lengths)))
    place = {"_time": np.full(offsets[-1], EARLIER), "_row": np.arange(offsets[-1])}
    before = pa.table({"_user": owner.cast(behaviours["_user"].type), **place, **parts})
    return pa.concat_tables([before, behaviours], promote_options="permissive").sort_by(ORDER)


def _lists(behaviours: pa.Table, rows: pa.Table, schema: FeatureSchema, feature: Feature) -> dict[str, pa.Array]:
    """The lists of one feature for `rows`."""
    index, offsets = _before(behaviours, rows, schema, feature.max_length)
    flat = {name: behaviours[name] for name in behaviours.column_names if not name.startswith("_")}
    taken = {name: column.take(pa.array(index)).combine_chunks() for name, column in flat.items()}
    return {
        name: pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), column) for name, column in taken.items()
    }


def _before(
    behaviours: pa.Table, rows: pa.Table, schema: FeatureSchema, longest: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Index and offsets of each row's behaviours: those of `behaviours` that are strictly before it."""
    users = pc.unique(rows[schema.user])
    users = users.take(pc.sort_indices(users))
    owners = (behaviours["_user"], rows[schema.user])
    code = np.concatenate([pc.index_in(owner, users).to_numpy() for owner in owners])
    time = np.concatenate([behaviours["_time"].to_numpy(), rows[schema.time].to_numpy()])
    is_behaviour = np.arange(len(code)) < len(behaviours)
    order = np.lexsort((is_behaviour, time, code))  # of one moment the row is first
    end = np.empty(len(code), np.int64)
    end[order] = np.cumsum(is_behaviour[order])
    end = end[len(behaviours) :]
    start = np.searchsorted(code[: len(behaviours)], code[len(behaviours) :])
    start = start if longest is None else np.maximum(start, end - longest)
    return spread(start, end - start)
