"""Derived features of a request: computed of the raw columns that it carries instead of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.schema import Feature
from swrec_prod.serving.scoring.columns import ITEMS, USER, Slot


class DerivedFeatures:
    """parts: of each derived feature, ITEMS where one of its inputs is of the candidates. needed: the columns that a
    request must have for `features`, and of what kind they are.
    """

    def __init__(self, encoders: Encoders, slots: Mapping[str, Slot], features: Sequence[Feature]) -> None:
        self.encoders = encoders
        self.slots = slots
        schema = encoders.schema
        made = {derived.name for derived in schema.derived}
        of_item = schema.item_columns
        self.parts = {
            name: ITEMS if name in of_item else USER
            for feature in schema.features
            for name, column in feature.raw_columns.items()
            if column in made
        }
        read = {name: (column, feature.kind) for feature in features for name, column in feature.raw_columns.items()}
        raw = {of for column, _ in read.values() if column in made for of in schema.raw_of(column)}
        self._inputs = {given.name for given in schema.inputs if given.is_raw and given.column in raw}
        plain = {name: kind for name, (column, kind) in read.items() if column not in made}
        self.needed = dict.fromkeys(self._inputs, "id") | plain

    def added_to(self, raw: Mapping[str, Any], rows: int, scenario: str) -> Mapping[str, Any]:
        """`raw` with the values of derived features: one row of those of USER, `rows` of those of ITEMS."""
        if not self.parts:
            return raw
        user = {name: raw[name] for name in self._inputs if self.slots[name].part == USER}
        once = self.encoders.with_derived({**user, "scenario": [scenario]})
        if ITEMS not in self.parts.values():
            return {**raw, **once}
        each = {name: _repeat(values, rows) for name, values in user.items()}
        return {**self.encoders.with_derived({**raw, **each, "scenario": [scenario] * rows}), **raw, **once}


def _repeat(values: Any, rows: int) -> Any:
    """The one value of `values`, `rows` times."""
    if isinstance(values, pa.Array):
        return values.take(pa.array(np.zeros(rows, np.int64)))
    return values * rows if isinstance(values, list) else np.repeat(values, rows)
