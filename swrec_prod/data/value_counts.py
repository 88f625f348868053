"""How many values of each id and bag feature the rows of a day have, and how many of them row 0 stands for.

Counted while a day is written, from ids that are at hand anyway.

Shapes: P parts (train, valid and test where rows are dealt, else all), F features, S scenario indices.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.config import SplitName
from swrec_prod.data.manifest import ALL, PartValues, Values
from swrec_prod.data.unknown_values import has_vocabulary
from swrec_prod.schema import FeatureSchema


class ValueCounts:
    """rows: int64 [P, S], written so far. values, zeros: int64 [P, F, S], how many ids they have, and how many of 0."""

    def __init__(self, schema: FeatureSchema, columns: pa.Schema) -> None:
        """columns: of the written rows."""
        self.scenarios = schema.scenario.names
        self.features = schema.of_kind("id", "bag")
        self.parts: tuple[str, ...] = get_args(SplitName) if "split" in columns.names else (ALL,)
        self._counts = np.zeros((len(self.parts), 1 + 2 * len(self.features), len(self.scenarios)), np.int64)
        self.rows, self.values, self.zeros = np.split(self._counts, [1, 1 + len(self.features)], axis=1)

    def add(self, rows: pa.Table) -> None:
        """Count rows as they are written."""
        cells = rows["scenario"].to_numpy().astype(np.int64)
        if self.parts != (ALL,):
            part = pc.index_in(rows["split"].cast(pa.string()), pa.array(self.parts)).to_numpy()
            cells += part.astype(np.int64) * len(self.scenarios)
        in_rows = self._by_cell(cells)
        self.rows[:, 0] += in_rows
        for f, feature in enumerate(self.features):
            column, cell = rows[feature.name], cells
            if feature.kind == "bag":
                cell = np.repeat(cells, pc.list_value_length(column).to_numpy())
                column = pc.list_flatten(column)
            self.values[:, f] += self._by_cell(cell) if feature.kind == "bag" else in_rows
            self.zeros[:, f] += self._by_cell(cell[column.to_numpy() == 0])

    def _by_cell(self, cells: np.ndarray) -> np.ndarray:
        """int64 [P, S]: how often each cell part * S + scenario occurs."""
        return np.bincount(cells, minlength=self.rows.size).reshape(len(self.parts), -1)

    def to_text(self) -> str:
        """The counts, for `add_text` in another process; as text, since engines read bytes in their own ways."""
        return self._counts.tobytes().hex()

    def add_text(self, text: str) -> None:
        """Add the counts of other rows of the same columns."""
        self._counts += np.frombuffer(bytes.fromhex(text), np.int64).reshape(self._counts.shape)

    def record(self, schema: FeatureSchema, missing: np.ndarray) -> dict[str, PartValues]:
        """The manifest's record of these rows. missing: int64 [P, F, S], rows without a value (Profile.missing_in)."""
        return {part: self._of_part(schema, p, missing[p]) for p, part in enumerate(self.parts)}

    def _of_part(self, schema: FeatureSchema, p: int, missing_FS: np.ndarray) -> PartValues:
        features = {}
        for f, feature in enumerate(self.features):
            values, unknown, missing = self.values[p, f], self.zeros[p, f], missing_FS[f]
            if feature.kind == "id":
                values, unknown = values - missing, unknown - missing
            if not has_vocabulary(schema, feature):  # its zeros are missing values
                unknown = np.zeros_like(unknown)
            if feature.kind == "bag" or unknown.any() or missing.any():
                features[feature.name] = self._named(np.stack([values, unknown, missing], axis=1))
        rows = {name: int(n) for name, n in zip(self.scenarios, self.rows[p, 0], strict=True) if n}
        return PartValues(rows=rows, features=features)

    def _named(self, counts_S3: np.ndarray) -> dict[str, Values]:
        """By scenario; those without a row left out."""
        named = zip(self.scenarios, counts_S3.tolist(), strict=True)
        return {name: Values(values=v, unknown=u, missing=m) for name, (v, u, m) in named if v or m}
