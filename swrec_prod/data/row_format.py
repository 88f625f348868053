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
from swrec_prod.schema.layout import Layout

LABELS = "label_"  # the record field of all tasks together, float32 [T]; no feature can have this name
INT, LIST, FLOAT = pa.int32(), pa.list_(pa.int32()), pa.float32()


@dataclass(frozen=True)
class Record:
    """The columns of one layout over one prepared schema."""

    schema: FeatureSchema
    layout: Layout

    @cached_property
    def types(self) -> dict[str, pa.DataType]:
        """The columns to read and the type that each must have."""
        types = {"row": pa.int64(), "scenario": INT} | {f"label_{task}": pa.int8() for task in self.layout.tasks}
        types |= {f.name: LIST if f.kind == "bag" else INT for f in self._looked_up if f.kind != "sequence"}
        types |= {f.name: FLOAT for f in self.layout.dense}
        types |= {column: LIST for columns in self.lists.values() for column in columns}
        return types | ({"weight": FLOAT} if self.schema.weight else {})

    @cached_property
    def limits(self) -> dict[str, int]:
        """Values of an integer column lie in [0, limit). Raises DataError when the schema has no table heights."""
        limits = {"scenario": self.layout.num_scenarios} | {f"label_{task}": 2 for task in self.layout.tasks}
        for feature in self._looked_up:
            rows = self.schema.feature(feature.table).rows
            if rows is None:
                raise DataError(
                    f"schema {self.schema.name}: table {feature.table!r} has no rows; "
                    "only swrec prepare writes such a schema"
                )
            limits[f"{feature.name}.item" if feature.kind == "sequence" else feature.name] = rows
        return limits | (
            {f"{self.layout.history.name}.scenario": self.layout.num_scenarios} if self.layout.history else {}
        )

    @cached_property
    def lists(self) -> dict[str, tuple[str, ...]]:
        """The list columns by their owner: a bag is its own, a sequence owns two,
        which are equally long in every row.
        """
        owners: dict[str, tuple[str, ...]] = {f.name: (f.name,) for f in self.layout.pooled if f.kind == "bag"}
        history = self.layout.history
        return owners | ({history.name: (f"{history.name}.item", f"{history.name}.scenario")} if history else {})

    @cached_property
    def list_types(self) -> dict[str, np.dtype]:
        """How the values of each list column are held: scenarios as narrow as they can be, it saves a third."""
        narrow = {f"{self.layout.history.name}.scenario": self._scenario_type} if self.layout.history else {}
        return {name: narrow.get(name, np.dtype(np.int32)) for names in self.lists.values() for name in names}

    @cached_property
    def dtype(self) -> np.dtype:
        """One row: a field a column, `<owner>.start` and `<owner>.length` for lists.

        The scenario is as narrow as it can be, since numpy sorts 8 and 16 bits by radix.
        """
        fields: list[tuple] = [("row", np.int64), ("scenario", self._scenario_type)]
        fields += [(LABELS, np.float32, (len(self.layout.tasks),))]
        fields += [(name, np.int32) for name, t in self.types.items() if t == INT and name != "scenario"]
        fields += [(name, np.float32) for name, t in self.types.items() if t == FLOAT]
        for owner in self.lists:
            fields += [(f"{owner}.start", np.int64), (f"{owner}.length", np.int32)]
        return np.dtype(fields, align=True)

    @property
    def _scenario_type(self) -> np.dtype:
        return np.min_scalar_type(self.layout.num_scenarios - 1)

    @property
    def _looked_up(self) -> tuple[Feature, ...]:
        """The features that are ids of some table."""
        return tuple(f for f in (*self.layout.pooled, self.layout.target, self.layout.history) if f is not None)
