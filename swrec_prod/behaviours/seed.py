"""Histories from before the log begins: a table with one row a user, whose lists come before all behaviours of the log.

The key of a data file:

    seed:
      history: {file: before.parquet, columns: {item: watched, time: watched_at}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from swrec_prod.behaviours.brought import RawLists, check_even, encoded, lengths_of, micros
from swrec_prod.behaviours.history import LatestByFeature, part_names
from swrec_prod.behaviours.lists import LatestBehaviours
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError, nearest
from swrec_prod.raw.source import RawFile, RawFiles
from swrec_prod.schema import Feature, FeatureSchema
from swrec_prod.strict import Strict

if TYPE_CHECKING:
    import ibis.expr.types as ir

SEED = "seed"  # RawFile.table of the files of seeds
Unit = Literal["us", "ms", "s"]


class SeedItems(Strict):
    """A table of items that says what the lists of a seed do not.

    file: its path or glob below --raw. by: its column of items, each once. columns: of fields, {FIELD: COLUMN}.
    split: what stands between the values of a bag that is written as one string.
    """

    file: str
    by: str
    columns: dict[str, str]
    split: str | None = None


class Seed(Strict):
    """What users did before the log begins.

    file: Parquet with one row a user, its path or glob below --raw. by: its column of users, the schema's by default.
    columns: list columns, oldest first: {item: COLUMN, and scenario, time or FIELD}; what is not named is unknown.
    items: a table in which fields are looked up by item. unit: of times that are whole numbers.
    until: the column with the moment of the last behaviour, where `time` is not known; users who are in the log before
        that moment have no seed.
    """

    file: str
    by: str | None = None
    columns: dict[str, str]
    items: SeedItems | None = None
    unit: Unit = "us"
    until: str | None = None

    @pydantic.field_validator("columns")
    @classmethod
    def _has_items(cls, columns: dict[str, str]) -> dict[str, str]:
        if "item" not in columns:
            raise ValueError("columns says nothing of 'item'")
        return columns

    def check(self, name: str, schema: FeatureSchema) -> None:
        """Raises ValueError unless `name` is a sequence that is computed from the log, and has these parts."""
        sequences = {feature.name: feature for feature in schema.of_kind("sequence")}
        if name not in sequences:
            raise ValueError(f"seed {name!r} is not a sequence; {nearest(name, sequences)}")
        if sequences[name].columns is not None:
            raise ValueError(f"seed {name!r}: the log brings this sequence itself (columns); leave the seed out")
        known = (*part_names(sequences[name]), "scenario", "time")
        for part in (*self.columns, *(self.items.columns if self.items else ())):
            if part not in known:
                raise ValueError(f"seed {name!r}: columns has {part!r}; {nearest(part, known)}")

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it is made of, as they are named."""
        return (self.file, *((self.items.file,) if self.items else ()))


def seed_files(name: str, file: str, raw: Path | None) -> list[Path]:
    """The files of a seed: an absolute path, or a glob below `raw`. Raises DataError when there are none."""
    if Path(file).is_absolute():
        root, pattern = Path(Path(file).anchor), str(Path(file).relative_to(Path(file).anchor))
    elif raw is None:
        raise DataError(f"seed {name!r}: {file} lies below --raw; give --raw DIR, or an absolute path")
    else:
        root, pattern = raw if raw.is_dir() else raw.parent, file
    paths = sorted(path for path in root.glob(pattern) if path.is_file())
    if not paths:
        raise DataError(f"{root}: no {file} here, which seed {name!r} names")
    return paths


def files_of_seeds(seeds: Mapping[str, Seed], raw: Path | None, log: RawFiles, source: str) -> list[RawFile]:
    """The files of seeds that the source does not list itself. Raises DataError for one that is read as log."""
    known = {file.path: file.table for file in log}
    paths = [path for name, seed in seeds.items() for file in seed.files for path in seed_files(name, file, raw)]
    for path in paths:
        if path in known and known[path] is None and source == "parquet":
            remedy = "let options.log name the files of the log only, for example log/**/*.parquet"
            raise DataError(f"{path}: is named by seed, and is a file of the log too; {remedy}")
    return [RawFile(path, table=SEED) for path in dict.fromkeys(paths) if path not in known]


class Seeds:
    """The seeds of a data file. raw: the folder of the log. first_rows: user and time of the first rows of users who
    have some up to a moment (microseconds).
    """

    def __init__(
        self,
        engine: Engine,
        schema: FeatureSchema,
        seeds: Mapping[str, Seed],
        raw: Path | None,
        first_rows: Callable[[int], pa.Table],
    ) -> None:
        self.engine, self.schema, self.seeds, self.raw, self.first_rows = engine, schema, seeds, raw, first_rows

    def behaviours(self, encoders: Encoders) -> LatestByFeature:
        """By sequence, the latest of every user."""
        return {
            name: LatestBehaviours(users, lists.offsets, encoded(encoders, encoders.schema.feature(name), lists))
            for name, (users, lists) in self.lists.items()
        }

    @cached_property
    def lists(self) -> dict[str, tuple[pa.Array, RawLists]]:
        """By sequence, users (strings) and what they did, raw.

        Raises DataError for a column that is missing or of a wrong type, lists of unequal lengths, and a user with
        several rows.
        """
        return {name: self._read(self.schema.feature(name), seed) for name, seed in self.seeds.items()}

    def check_before(self, day: Callable[[int], str], first: str) -> None:
        """Raises DataError when a behaviour is on the first day of the log or later. day: of a moment, as text."""
        for name, (_, lists) in self.lists.items():
            latest = pc.max(lists.parts["time"]).as_py() if "time" in lists.parts else None
            if latest is not None and day(latest) >= first:
                column = f"{self._path(name)}: column {self.seeds[name].columns['time']!r}"
                when = f"has a behaviour on {day(latest)}, but the log begins on {first}"
                raise DataError(f"{column} {when}; a seed is from before the log (or is its unit wrong?)")

    def _path(self, name: str) -> Path:
        return seed_files(name, self.seeds[name].file, self.raw)[0]

    def _read(self, feature: Feature, seed: Seed) -> tuple[pa.Array, RawLists]:
        by, path = seed.by or self.schema.user, self._path(feature.name)
        rows = self.engine.parquet(seed_files(feature.name, seed.file, self.raw))
        wanted = [by, *seed.columns.values(), *((seed.until,) if seed.until else ())]
        table = self.engine.arrow(_chosen(rows, wanted, path))
        _check_users(table[by], by, path)
        _check_lists(table, by, feature.name, seed.columns, path)
        if seed.until is not None:
            table = self._before_the_log(table, by, micros(table[seed.until].combine_chunks(), seed.unit))
        lists = RawLists.of(table, seed.columns, feature.max_length, seed.unit)
        if seed.items is not None:
            lists = self._with_fields(feature.name, seed.items, lists)
        return table[by].cast(pa.string()).combine_chunks(), lists

    def _before_the_log(self, table: pa.Table, by: str, until: pa.Array) -> pa.Table:
        """The rows of users whose first row in the log is later than `until`."""
        latest = pc.max(until).as_py()
        first = self.first_rows(latest if latest is not None else -1)
        at = pc.index_in(table[by].cast(pa.string()), first[self.schema.user].cast(pa.string()))
        begins = first[self.schema.time].take(at.combine_chunks())
        return table.filter(pc.invert(pc.fill_null(pc.less_equal(begins, until), False)))

    def _with_fields(self, name: str, items: SeedItems, lists: RawLists) -> RawLists:
        """The lists with the fields that a table of items has."""
        paths = seed_files(name, items.file, self.raw)
        rows = self.engine.parquet(paths)
        table = self.engine.arrow(_chosen(rows, [items.by, *items.columns.values()], paths[0]))
        _check_users(table[items.by], items.by, paths[0])
        wanted = lists.parts["item"]
        at = pc.index_in(wanted, table[items.by].combine_chunks().cast(wanted.type))
        fields = {field: table[column].combine_chunks().take(at) for field, column in items.columns.items()}
        kinds = {part.name: part.kind for part in self.schema.parts[name]}
        for field, values in fields.items():
            if items.split is not None and kinds[f"{name}.{field}"] == "bag" and pa.types.is_string(values.type):
                fields[field] = pc.split_pattern(values, items.split)
        return RawLists(lists.offsets, lists.parts | fields)


def _chosen(rows: ir.Table, wanted: list[str], path: Path) -> ir.Table:
    for column in wanted:
        if column not in rows.columns:
            raise DataError(f"{path}: column {column!r} is missing; {nearest(column, rows.columns)}")
    return rows.select(*dict.fromkeys(wanted))


def _check_users(keys: pa.ChunkedArray, column: str, path: Path) -> None:
    """Raises DataError unless each key stands there once."""
    if not (pa.types.is_integer(keys.type) or pa.types.is_string(keys.type)):
        raise DataError(f"{path}: column {column!r} is {keys.type}, expected string or integer")
    if keys.null_count:
        raise DataError(f"{path}: column {column!r} has {keys.null_count} missing values; every row needs one")
    counted = pc.value_counts(keys)
    several = counted.filter(pc.greater(counted.field("counts"), 1))
    if len(several):
        raise DataError(f"{path}: {column} {several[0]['values'].as_py()!r} is there more than once, expected one row")


def _check_lists(table: pa.Table, by: str, sequence: str, columns: Mapping[str, str], path: Path) -> None:
    """Raises DataError for a column that has no lists, and for lists of unequal lengths in one row."""
    for column in columns.values():
        if not pa.types.is_list(table[column].type):
            raise DataError(f"{path}: column {column!r} is {table[column].type}, expected a list (seed {sequence!r})")
    lengths = {column: lengths_of(table[column]) for column in columns.values()}
    first = lengths[columns["item"]]
    for other in lengths.values():
        for row in np.flatnonzero(other != first)[:1]:
            user = f"{path}: {by} {table[by][int(row)].as_py()!r}"
            check_even(user, sequence, {column: int(of_rows[row]) for column, of_rows in lengths.items()})
