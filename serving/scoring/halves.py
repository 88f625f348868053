"""Plain features of one half of a layout, the user's or the candidates', of the columns of a request: a plan made once
for a package, which says for every column which table or scaler takes it.

Integers and numbers are encoded for all columns at once (encoding.at_once); whatever else a column may hold, and all
that is wrong, goes to its own encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np

from swrec_prod.encoding.at_once import IntegerColumns, NumberColumns
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.lookups import Buckets, Hashing, Table, Vocabulary
from swrec_prod.encoding.pack import Column, Ragged
from swrec_prod.schema import Feature
from swrec_prod.schema.layout import Layout
from swrec_prod.serving.protocol.call import Column as Given
from swrec_prod.serving.scoring.values import ColumnReader

FARTHEST = 1e6  # deviations from the mean; none of n training rows is farther than sqrt(n), so these stay as they are
LARGEST = 1e12  # of numbers that nothing scales: vectors without an encoder, weights; their products fit float32


class HalfEncoder:
    """A half's features but the derived ones. readers: of every column; most: values that a row of a bag may have."""

    def __init__(
        self, half: Layout, encoders: Encoders, readers: Mapping[str, ColumnReader], derived: Set[str], most: int
    ) -> None:
        features = [f for f in (*half.pooled, *half.looked_up, *half.dense) if f.name not in derived]
        ids = {f.name: encoders.tables[f.table] for f in features if f.kind == "id"}
        self.names = tuple(name for feature in features for name in feature.raw_columns)
        self._readers, self._encoders, self._most = readers, encoders, most
        self._integers = IntegerColumns({name: table for name, table in ids.items() if _takes_integers(table)})
        self._texts = {name: table for name, table in ids.items() if not _takes_integers(table)}
        self._tables = ids
        scalers = {f.name: encoders.scalers[f.table] for f in features if f.kind == "dense"}
        self._numbers = NumberColumns(scalers, FARTHEST)
        self._flagged = [i for i, n in enumerate(self._numbers.names) if encoders.schema.feature(n).missing_indicator]
        self._lists = [(f, list(f.raw_columns)) for f in features if f.kind in ("bag", "vector")]

    def encoded(self, given: Mapping[str, Given], rows: int) -> dict[str, Column]:
        """The encoded columns of `rows` rows. Raises RequestError or DataError naming the column that is wrong."""
        columns: dict[str, Column] = {}
        if self._integers.names:
            columns |= self._ids(given, rows)
        for name, table in self._texts.items():
            columns[name] = self._alone(name, table, given[name])
        if self._numbers.names:
            columns |= self._scaled(given, rows)
        for feature, names in self._lists:
            columns |= self._several(feature, names, given)
        return columns

    def _ids(self, given: Mapping[str, Given], rows: int) -> dict[str, Column]:
        names, odd = self._integers.names, []
        values_CN = np.zeros((len(names), rows), np.int64)
        for i, name in enumerate(names):
            values = self._readers[name].integers(given[name])
            if values is None:
                odd.append(i)
            else:
                values_CN[i] = values
        ids_CN = self._integers(values_CN)
        for i in odd:
            ids_CN[i] = self._alone(names[i], self._tables[names[i]], given[names[i]])
        return dict(zip(names, ids_CN, strict=True))

    def _alone(self, name: str, table: Table, column: Given) -> np.ndarray:
        """int32 [N] ids of one column, 0 where the value is missing."""
        reader = self._readers[name]
        known, ids = reader.known(column), table(reader.texts(column), name)
        if known is None:
            return ids
        spread = np.zeros(len(known), np.int32)
        spread[known] = ids
        return spread

    def _scaled(self, given: Mapping[str, Given], rows: int) -> dict[str, Column]:
        names = self._numbers.names
        numbers_FN = np.empty((len(names), rows))
        for i, name in enumerate(names):
            numbers_FN[i] = self._readers[name].numbers(given[name])
        columns: dict[str, Column] = dict(zip(names, self._numbers(numbers_FN), strict=True))
        for i in self._flagged:
            columns[f"{names[i]}.missing"] = np.isnan(numbers_FN[i]).astype(np.float32)
        return columns

    def _several(self, feature: Feature, names: Sequence[str], given: Mapping[str, Given]) -> dict[str, Column]:
        """A bag, or a vector."""
        most = self._most if feature.kind == "bag" else None
        raw = {name: self._readers[name].lists(given[name], most) for name in names}
        columns = self._encoders.columns_of(feature.name, raw)
        for name in names if feature.kind == "vector" else names[1:]:
            columns[name] = held(columns[name], FARTHEST if feature.encoder else LARGEST)
        return columns


def held(column: Column, most: float) -> Column:
    """`column`, whose numbers are held at `most` from 0."""
    if isinstance(column, Ragged):
        return Ragged(column.values.clip(-most, most), column.offsets)
    return column.clip(-most, most)


def _takes_integers(table: Table) -> bool:
    if isinstance(table, Vocabulary):
        return not table.is_text
    return isinstance(table, Buckets) or (isinstance(table, Hashing) and table.raw == "int64")
