"""Derived features of a request: computed of the raw columns that it carries instead of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column
from swrec_prod.encoding.raw_values import Values
from swrec_prod.schema import Feature
from swrec_prod.schema.layout import Layout
from swrec_prod.serving.protocol.call import Column as Given
from swrec_prod.serving.scoring.columns import ITEMS, USER
from swrec_prod.serving.scoring.values import ColumnReader


class DerivedFeatures:
    """names: every derived feature of the schema. features: those of `layout`, in its order. inputs: the columns that
    a request has for these.
    """

    def __init__(self, encoders: Encoders, layout: Layout, readers: Mapping[str, ColumnReader]) -> None:
        schema = encoders.schema
        made = {derived.name for derived in schema.derived}
        self.names = frozenset(
            name for feature in schema.features for name, column in feature.raw_columns.items() if column in made
        )
        of_layout = (*layout.pooled, *layout.looked_up, *layout.dense)
        self.features = tuple(feature for feature in of_layout if self.names.intersection(feature.raw_columns))
        read = (column for feature in self.features for column in feature.raw_columns.values() if column in made)
        raw = {of for column in read for of in schema.raw_of(column)}
        self.inputs = tuple(given.name for given in schema.inputs if given.is_raw and given.column in raw)
        self._encoders, self._readers, self._of_item = encoders, readers, layout.of_item

    def encoded(
        self, user: Mapping[str, Given], items: Mapping[str, Given], rows: int, scenario: str
    ) -> dict[str, Column]:
        """The columns of `features`: one row of those made of the user's columns alone, `rows` of the others.

        user, items: the request's columns by name. Raises RequestError or DataError naming a wrong one.
        """
        if not self.features:
            return {}
        once = self._raw(USER, user)
        columns = self._columns(self._encoders.with_derived({**once, "scenario": [scenario]}), of_item=False)
        if not self._of_item.isdisjoint(feature.name for feature in self.features):
            repeated = {name: _repeat(values, rows) for name, values in once.items()}
            each = {**self._raw(ITEMS, items), **repeated, "scenario": [scenario] * rows}
            columns |= self._columns(self._encoders.with_derived(each), of_item=True)
        return columns

    def _raw(self, part: str, given: Mapping[str, Given]) -> dict[str, Values]:
        """The inputs of one part."""
        readers = ((name, self._readers[name]) for name in self.inputs)
        return {name: reader.whole(given[name]) for name, reader in readers if reader.part == part}

    def _columns(self, raw: Mapping[str, Values], *, of_item: bool) -> dict[str, Column]:
        columns: dict[str, Column] = {}
        for feature in self.features:
            if self._is_of_item(feature) == of_item:
                columns |= self._encoders.columns_of(feature.name, raw)
        return columns

    def _is_of_item(self, feature: Feature) -> bool:
        return feature.name in self._of_item


def _repeat(values: Any, rows: int) -> Any:
    """The one value of `values`, `rows` times."""
    if isinstance(values, pa.Array):
        return values.take(pa.array(np.zeros(rows, np.int64)))
    return values * rows if isinstance(values, list) else np.repeat(values, rows)
