"""Derived features of a request: computed of the raw columns that it carries instead of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column
from swrec_prod.encoding.raw_values import Values
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
        needed = {of for f in self.features for column in f.raw_columns.values() for of in schema.made_of(column)}
        read = [given for given in schema.inputs if given.is_raw and given.column in needed]
        self.inputs, self._columns = tuple(given.name for given in read), {given.name: given.column for given in read}
        of_items = {given.column for given in read if given.side == "item"}
        self._of_items = {name for name in needed & made if of_items.intersection(schema.raw_of(name))}
        self._of_user = (needed & made) - self._of_items
        self._repeated = {of for d in schema.derived if d.name in self._of_items for of in d.reads(schema.time)}
        self._scenario = schema.scenario.column
        self._encoders, self._readers, self._is_of_item = encoders, readers, layout.of_item.__contains__

    def encoded(
        self, user: Mapping[str, Given], items: Mapping[str, Given], rows: int, scenario: str
    ) -> dict[str, Column]:
        """The columns of `features`: one row of those made of the user's columns alone, `rows` of the others.

        user, items: the request's columns by name. Raises RequestError or DataError naming a wrong one.
        """
        if not self.features:
            return {}
        derived = self._encoders.derived
        once = {**self._raw(USER, user), self._scenario: [scenario]}
        once |= derived(once, self._of_user)
        columns = self._encoded(once, of_item=False)
        if self._of_items:
            each = {name: _repeat(values, rows) for name, values in once.items() if name in self._repeated}
            each |= self._raw(ITEMS, items)
            columns |= self._encoded(each | derived(each, self._of_items), of_item=True)
        return columns

    def _raw(self, part: str, given: Mapping[str, Given]) -> dict[str, Values]:
        """The inputs of one part, by the names that they have in the log."""
        readers = ((name, self._readers[name]) for name in self.inputs)
        return {self._columns[name]: reader.whole(given[name]) for name, reader in readers if reader.part == part}

    def _encoded(self, values: Mapping[str, Values], *, of_item: bool) -> dict[str, Column]:
        columns: dict[str, Column] = {}
        for feature in self.features:
            if self._is_of_item(feature.name) == of_item:
                raw = {name: values[column] for name, column in feature.raw_columns.items()}
                columns |= self._encoders.columns_of(feature.name, raw)
        return columns


def _repeat(values: Any, rows: int) -> Any:
    """The one value of `values`, `rows` times."""
    if isinstance(values, pa.Array):
        return values.take(pa.array(np.zeros(rows, np.int64)))
    return values * rows if isinstance(values, list) else np.repeat(values, rows)
