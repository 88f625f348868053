"""`swrec simulate`: a simulated raw log in a folder, its hidden truth beside it, and a data file that prepares it.

log/day=YYYY-MM-DD/part-NNNNN.parquet     the raw log, by time
users.parquet, items.parquet              attributes by user_id and item_id
truth/day=YYYY-MM-DD/part-NNNNN.parquet   interest, direct effect, propensity, probabilities, by row;
                                          nothing else names them
data.yaml                                 for swrec prepare
simulation.yaml                           all parameters, written last
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from swrec_prod.errors import DataError
from swrec_prod.files import committed
from swrec_prod.simulation.simulator import Day, State, open_day
from swrec_prod.simulation.world import Items, Simulation, Users, make_world

PARAMETERS = "simulation.yaml"
DEVICES = ("phone", "desktop", "tablet")
FEATURES = (
    "user_id user id, segment user id, gender user id, city user id, age user standard, "
    "item_id item id, category item id, "
    "brand item id, tags item bag, price item log1p, hour context id, device context id"
)


def simulate(
    options: Simulation, out: Path, *, overwrite: bool = False, progress: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Simulate into the folder `out`, complete or not at all; returns {"rows", "days", "clicks", "conversions"?}.

    The same options give the same bytes, and a day's bytes do not depend on the days after it. Memory does not grow
    with days. progress: takes one line a day. Raises DataError when `out` holds a simulation and `overwrite` is not
    set, when it holds anything else, and when it cannot be written.
    """
    _refuse(out, overwrite)
    try:
        with committed(out) as folder:
            return _write(options, folder, progress)
    except OSError as failure:
        raise DataError(f"{out}: cannot be written: {failure.strerror or failure}") from None


def data_file(options: Simulation) -> dict[str, Any]:
    """The content of data.yaml. Its schema names no column of the truth."""
    words = [feature.split() for feature in FEATURES.split(", ")]
    features: list[dict[str, Any]] = [{"name": name, "side": side} | _kind(kind) for name, side, kind in words]
    features.append(
        {
            "name": "history",
            "kind": "sequence",
            "side": "user",
            "item": "item_id",
            "where": "click",
            "max_length": options.history_length,
        }
    )
    labels = [{"name": "click", "column": "click"}]
    labels += [{"name": "conversion", "column": "conversion", "after": "click"}] if options.conversions else []
    schema = {
        "name": "simulated",
        "time": "time",
        "user": "user_id",
        "request": "session",
        "scenario": {"column": "scenario", "values": _scenario_names(options)},
        "labels": labels,
        "features": features,
    }
    join = [{"file": f"{side}s.parquet", "by": f"{side}_id"} for side in ("user", "item")]
    return {"source": "parquet", "options": {"log": "log/**/*.parquet", "join": join}, "schema": schema}


def resolved(options: Simulation) -> dict[str, Any]:
    """The content of simulation.yaml: all parameters, none left open."""
    return options.model_dump(mode="json") | {"users": options.num_users, "items": options.num_items}


def _kind(word: str) -> dict[str, str]:
    return {"kind": word, "encoder": "vocab"} if word in ("id", "bag") else {"kind": "dense", "encoder": word}


def _refuse(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file, expected a folder to write to")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / PARAMETERS).is_file():
        raise DataError(f"{out}: exists and is no simulation; choose another folder")
    if not overwrite:
        raise DataError(f"{out}: holds a simulation; choose another folder, or --overwrite it")


def _write(options: Simulation, folder: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    world = make_world(options)
    _write_table(_users_table(world.users), folder / "users.parquet")
    _write_table(_items_table(world.items), folder / "items.parquet")
    scenarios, state = pa.array(_scenario_names(options)), State.before(world)
    totals: dict[str, Any] = {"rows": options.days * options.rows_per_day, "days": options.days, "clicks": 0}
    totals |= {"conversions": 0} if options.conversions else {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for number in range(options.days):
            day = open_day(options, world, state, number)
            written = list(
                pool.map(lambda part, day=day: _write_part(day, part, folder, scenarios), range(len(day.parts)))
            )
            state.next_day(day, [clicked for clicked, _ in written])
            clicks = sum(len(clicked) for clicked, _ in written)
            totals["clicks"] += clicks
            if options.conversions:
                totals["conversions"] += sum(conversions for _, conversions in written)
            progress(f"{_date(day)}: {options.rows_per_day:,} rows, {clicks / options.rows_per_day:.2%} clicked")
    (folder / "data.yaml").write_text(yaml.safe_dump(data_file(options), sort_keys=False))
    (folder / PARAMETERS).write_text(yaml.safe_dump(resolved(options), sort_keys=False))
    return totals


def _write_part(day: Day, part: int, folder: Path, scenarios: pa.Array) -> tuple[np.ndarray, int]:
    """Write log and truth of one part; returns the clicked (user, category) keys
    and how many conversions there were.
    """
    rows = day.draw(part)
    named = {
        "time": pa.array(rows.log["time"]).cast(pa.timestamp("us", "UTC")),
        "scenario": pa.DictionaryArray.from_arrays(rows.log["scenario"], scenarios),
        "device": pa.DictionaryArray.from_arrays(rows.log["device"], pa.array(DEVICES)),
    }
    for table, name in ((pa.table(rows.log | named), "log"), (pa.table(rows.truth), "truth")):
        path = folder / name / f"day={_date(day)}" / f"part-{part:05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_table(table, path)
    return rows.clicked, int(rows.log["conversion"].sum()) if day.options.conversions else 0


def _write_table(table: pa.Table, path: Path) -> None:
    """Columns that repeat few values are dictionary-encoded;
    the Arrow schema stays out, so that they read as plain strings.
    """
    few = [
        name
        for name in ("scenario", "device", "hour", "segment", "city", "category", "gender")
        if name in table.column_names
    ]
    pq.write_table(table, path, row_group_size=1 << 16, use_dictionary=few, compression="snappy", store_schema=False)


def _users_table(users: Users) -> pa.Table:
    columns = {
        "user_id": np.arange(len(users.segment_U)),
        "segment": users.segment_U,
        "gender": _named(np.array(["f", "m"]), users.gender_U),
        "city": _named(_numbered("city", int(users.city_U.max()) + 1), users.city_U),
        "age": users.age_U,
    }
    return pa.table(columns)


def _items_table(items: Items) -> pa.Table:
    lengths, values = items.tags
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    columns = {
        "item_id": np.arange(len(items.category_I)),
        "category": _named(_numbered("category", int(items.category_I.max()) + 1), items.category_I),
        "brand": items.brand_I.astype(np.int64),
        "tags": pa.ListArray.from_arrays(offsets, pa.array(values.astype(np.int64))),
        "price": items.price_I,
    }
    return pa.table(columns)


def _scenario_names(options: Simulation) -> list[str]:
    return list(_numbered("scenario", options.scenarios))


def _numbered(word: str, count: int) -> Sequence[str]:
    """word_0, word_1, ... with leading zeros, so that names sort as numbers."""
    width = len(str(count - 1))
    return [f"{word}_{i:0{width}d}" for i in range(count)]


def _named(names: Sequence[str] | np.ndarray, index: np.ndarray) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(index, pa.array(list(names)))


def _date(day: Day) -> str:
    return (day.options.start + timedelta(days=day.number)).isoformat()
