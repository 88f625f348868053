"""What a study changes about prepared rows: how many there are, and which scenarios they are in.

Rows keep their numbers and labels, so that variants of one study are judged on the same rows, whatever they were
trained on.

Shapes: N rows, S scenarios.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pydantic

from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import ConfigError, nearest
from swrec_prod.schema import Encoder, Feature
from swrec_prod.strict import Strict
from swrec_prod.studies.columns import drawn, of_scenarios, with_scenarios
from swrec_prod.studies.folder import PARTS, PreparedRows, Step, is_made, write_changed
from swrec_prod.studies.ids import kept_apart
from swrec_prod.studies.splits import split_anew

GIVEN = "given_scenario"
Split = Literal["given", "one", "random", "cluster", "tree"]


class RowsChange(Strict):
    """What is changed, in this order: keys `rows.*` of a study.

    limit: at most about so many rows of train, of valid and of test. share: how many of the training rows of one
    scenario stay. thinned: that scenario; default: the second busiest. keep_given: the given scenario becomes a feature
    as well, `given_scenario`, so that a model knows it whatever the scenarios become. scenarios: how many there are,
    the busiest as they are and all others as one. split: the scenarios, `given` as they are, `one`, or as many made by
    chance (`random`), by `cluster` of the features, or by the leaves of a `tree` on them. parts: how many the last
    three make; default: as many as are given. columns: the features that they read; default: all that fit.
    common_users: share of the users that are the same in all scenarios, each other one is another user in each;
    common_items: of the items.
    """

    limit: int | None = pydantic.Field(None, ge=100)
    share: float = pydantic.Field(1.0, gt=0, le=1)
    thinned: str | None = None
    keep_given: bool = False
    scenarios: int | None = pydantic.Field(None, ge=1)
    split: Split = "given"
    parts: int | None = pydantic.Field(None, ge=2, le=1000)
    columns: tuple[str, ...] | None = None
    common_users: float = pydantic.Field(1.0, ge=0, le=1)
    common_items: float = pydantic.Field(1.0, ge=0, le=1)

    @pydantic.field_validator("thinned", mode="before")
    @classmethod
    def _is_name(cls, value: Any) -> Any:
        return str(value) if type(value) is int else value  # YAML reads a scenario 1 as a number


def changed_rows(rows: PreparedRows, change: RowsChange, folder: Path) -> PreparedRows:
    """The rows changed, in prepared folders below `folder`, one for each thing that is changed; what is there already
    is taken as it is.

    Raises ConfigError for a change that the data do not allow, DataError where rows cannot be read.
    """
    for words, make in _steps(change):
        identity = _identity(rows, words)
        out = folder / f"{words.split()[0]}-{sha256(identity.encode()).hexdigest()[:12]}"
        if not is_made(out, identity):
            write_changed(rows, make(rows), out, identity)
        rows = PreparedRows(Catalog.open(out), rows.data)
    return rows


def _steps(change: RowsChange) -> Iterator[tuple[str, Callable[[PreparedRows], Step]]]:
    """Each thing that is changed, in words, and what makes it."""
    if change.limit is not None:
        yield f"limit {change.limit}", lambda rows: fewer(rows, change.limit or 0)
    if change.share < 1:
        yield f"thinned {change.thinned} {change.share}", lambda rows: thinned(rows, change.thinned, change.share)
    if change.keep_given:
        yield "given", as_feature
    if change.scenarios is not None:
        yield f"scenarios {change.scenarios}", lambda rows: merged(rows, change.scenarios or 0)
    if change.split != "given":
        split = change.split, change.parts, change.columns
        yield f"split {split}", lambda rows: split_anew(rows, *split)
    if change.common_users < 1 or change.common_items < 1:
        common = change.common_users, change.common_items
        yield f"apart {common}", lambda rows: kept_apart(rows, *common)


def fewer(rows: PreparedRows, limit: int) -> Step:
    """At most about `limit` rows of every part."""
    sizes = {part: int(rows.traffic(part).sum()) for part in PARTS}

    def cut(table: pa.Table, part_N: np.ndarray) -> pa.Table:
        share_N = np.ones(len(part_N))
        for part, size in sizes.items():
            share_N[part_N == part] = limit / max(size, 1)
        return table.filter(pa.array(drawn(table["row"].to_numpy(), "limit") < share_N))

    return Step(rows.schema, cut, {"limit": limit, "rows before": sizes})


def thinned(rows: PreparedRows, name: str | None, share: float) -> Step:
    """A share of the training rows of one scenario. Raises ConfigError for a scenario that is not in the data."""
    names = rows.schema.scenario.names
    if name is not None and name not in names:
        raise ConfigError(f"rows.thinned: {name!r} is no scenario of {rows.catalog.root}; {nearest(name, names)}")
    index = names.index(name) if name else int(busiest(rows)[:2][-1])

    def cut(table: pa.Table, part_N: np.ndarray) -> pa.Table:
        gone_N = (part_N == "train") & (table["scenario"].to_numpy() == index)
        return table.filter(pa.array(~gone_N | (drawn(table["row"].to_numpy(), "thin") < share)))

    before = int(rows.traffic("train")[index])
    return Step(rows.schema, cut, {"thinned": names[index], "share": share, "training rows before": before})


def as_feature(rows: PreparedRows) -> Step:
    """The scenario as one more id feature. Raises ConfigError where there is one of its name."""
    if GIVEN in (f.name for f in rows.schema.features):
        raise ConfigError(f"rows.keep_given: {rows.catalog.root} has a feature {GIVEN!r} already; leave it out")
    size = rows.schema.scenario.size + 1
    feature = Feature(name=GIVEN, kind="id", side="context", encoder=Encoder(kind="vocab"), rows=size)
    schema = rows.schema.with_features((*rows.schema.features, feature))

    def add(table: pa.Table, part_N: np.ndarray) -> pa.Table:
        return table.append_column(GIVEN, pa.array(table["scenario"].to_numpy() + np.int32(1)))

    return Step(schema, add, {"as a feature": GIVEN})


def merged(rows: PreparedRows, count: int) -> Step:
    """`count` scenarios: the busiest, and all others as one, called "others"; of behaviours too.

    Raises ConfigError where there are not so many.
    """
    names = rows.schema.scenario.names
    if count > len(names):
        raise ConfigError(f"rows.scenarios: {count}, and {rows.catalog.root} has {len(names)} scenarios")
    alone = busiest(rows)[: count if count == len(names) else count - 1]
    values = [names[i] for i in alone] + ["others"] * (count < len(names))
    index_S = np.full(len(names) + 1, len(values) - 1, np.int32)
    index_S[alone] = np.arange(len(alone))
    index_S[-1] = len(values)  # of behaviours whose scenario is not known

    def rename(table: pa.Table, part_N: np.ndarray) -> pa.Table:
        return with_scenarios(table, index_S[table["scenario"].to_numpy()], index_S)

    return Step(of_scenarios(rows.schema, values), rename, {"scenarios": values})


def busiest(rows: PreparedRows) -> np.ndarray:
    """Indices of the scenarios by falling number of training rows: int64 [S]."""
    return np.argsort(-rows.traffic("train"), kind="stable")


def _identity(rows: PreparedRows, change: str) -> str:
    """From what a changed folder is made, and how."""
    files = sha256("".join(file.sha256 for file in rows.catalog.records).encode()).hexdigest()
    days = rows.data.days.model_dump_json() if rows.data.days else rows.data.split
    return f"{files} {days} {change}"
