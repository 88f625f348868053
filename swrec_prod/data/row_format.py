"""Record: which prepared columns a batch is made of, what they must hold, and how one row of them lies in memory.

All single values of a row lie side by side, so that to shuffle is to fetch random records, and a row costs one trip to
memory instead of one a feature. Lists lie elsewhere, one values array a column; the record says where a row's own
values begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from swrec_prod.errors import DataError
from swrec_prod.schema import Feature, FeatureSchema
from swrec_prod.schema.layout import Layout, Number, lengths_column, weights_column

LABELS = "label_"  # the record field of all tasks together, float32 [T]; no feature can have this name
INT, FLOAT = pa.int32(), pa.float32()
LIST, FLOATS = pa.list_(INT), pa.list_(FLOAT)
ANY_COUNT = 2**31  # what an int32 that counts stays below


@dataclass(frozen=True)
class Record:
    """The columns of one layout over one prepared schema."""

    schema: FeatureSchema
    layout: Layout

    @cached_property
    def types(self) -> dict[str, pa.DataType]:
        """The columns to read and the type that each must have."""
        types = {"row": pa.int64(), "scenario": INT} | {f"label_{task}": pa.int8() for task in self.layout.tasks}
        types |= {f.name: LIST if f.kind == "bag" else INT for f in self._singles}
        types |= {weights_column(f): FLOATS for f in self._singles if f.weights}
        types |= {n.column: _numbers(n) for n in self.layout.numbers}
        for sequence in self.layout.sequences:
            numbers = {part.name for part in sequence.of_kind("dense")}
            types |= {column: FLOATS if column in numbers else LIST for column in sequence.columns}
            types |= {part.name: LIST for part in sequence.of_kind("bag")}
        return types | ({"weight": FLOAT} if self.schema.weight else {})

    @cached_property
    def limits(self) -> dict[str, int]:
        """Values of an integer column lie in [0, limit). Raises DataError when the schema has no table heights."""
        limits = {"scenario": self.layout.num_scenarios} | {f"label_{task}": 2 for task in self.layout.tasks}
        limits |= {f.name: self._height(f) for f in self._singles}
        for sequence in self.layout.sequences:
            limits |= {part.name: self._height(part) for part in sequence.parts if part.kind != "dense"}
            limits |= {lengths_column(part): ANY_COUNT for part in sequence.of_kind("bag")}
            limits[f"{sequence.name}.scenario"] = self.layout.num_scenarios + 1  # one more where it is not known
        return limits

    @cached_property
    def lists(self) -> dict[str, tuple[str, ...]]:
        """The list columns by their owner, whose lists are equally long in every row: of a bag its values and their
        weights, of a sequence what has one value a behaviour; a bag among its parts is an owner of its own.
        """
        owners: dict[str, tuple[str, ...]] = {}
        for f in self._singles:
            if f.kind == "bag":
                owners[f.name] = (f.name, weights_column(f)) if f.weights else (f.name,)
        for sequence in self.layout.sequences:
            owners |= {sequence.name: sequence.columns} | {p.name: (p.name,) for p in sequence.of_kind("bag")}
        return owners

    @cached_property
    def bags_of_behaviours(self) -> dict[str, str]:
        """Column of a bag among a sequence's parts -> column of how many of its values each behaviour has."""
        return {part.name: lengths_column(part) for s in self.layout.sequences for part in s.of_kind("bag")}

    @cached_property
    def list_types(self) -> dict[str, np.dtype]:
        """How the values of each list column are held: scenarios as narrow as they can be, it saves a third."""
        kinds = {LIST: np.dtype(np.int32), FLOATS: np.dtype(np.float32)}
        types = {name: kinds[self.types[name]] for names in self.lists.values() for name in names}
        narrow = np.min_scalar_type(self.layout.num_scenarios)
        return types | {f"{sequence.name}.scenario": narrow for sequence in self.layout.sequences}

    @cached_property
    def dtype(self) -> np.dtype:
        """One row: a field a column, `<owner>.start` and `<owner>.length` for lists.

        The scenario is as narrow as it can be, since numpy sorts 8 and 16 bits by radix.
        """
        fields: list[tuple] = [("row", np.int64), ("scenario", self._scenario_type)]
        fields += [(LABELS, np.float32, (len(self.layout.tasks),))]
        fields += [(name, np.int32) for name, t in self.types.items() if t == INT and name != "scenario"]
        fields += [(name, np.float32) for name, t in self.types.items() if t == FLOAT]
        fields += [(name, np.float32, (t.list_size,)) for name, t in self.types.items() if is_vector(t)]
        for owner in self.lists:
            fields += [(f"{owner}.start", np.int64), (f"{owner}.length", np.int32)]
        return np.dtype(fields, align=True)

    @property
    def _scenario_type(self) -> np.dtype:
        return np.min_scalar_type(self.layout.num_scenarios - 1)

    @property
    def _singles(self) -> tuple[Feature, ...]:
        """The features that are ids of some table, sequences aside."""
        return (*self.layout.pooled, *self.layout.looked_up)

    @cached_property
    def _heights(self) -> dict[str, int | None]:
        return {owner.name: owner.rows for owner in self.schema.owners}

    def _height(self, feature: Feature) -> int:
        rows = self._heights[feature.table]
        if rows is None:
            table = f"schema {self.schema.name}: table {feature.table!r}"
            raise DataError(f"{table} has no rows; only swrec prepare writes such a schema")
        return rows


def is_vector(kind: pa.DataType) -> bool:
    """Whether a column holds a fixed number of floats a row."""
    return pa.types.is_fixed_size_list(kind)


def _numbers(number: Number) -> pa.DataType:
    return pa.list_(FLOAT, number.width) if number.feature.kind == "vector" else FLOAT
