"""A request's columns -> packed arrays, the user's once: the border at which every value is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column, PackedRequest, Ragged, pack_halves
from swrec_prod.encoding.raw_values import integers
from swrec_prod.encoding.sequences import RawLists, encode_sequence, needs_moment, raw_names
from swrec_prod.errors import RequestError, nearest
from swrec_prod.schema.layout import Layout, SequenceLayout
from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.scoring.columns import (
    ITEMS,
    MOMENT,
    USER,
    lengths_name,
    one_each,
    raw_behaviours,
    raw_values,
    slots_of,
)
from swrec_prod.serving.scoring.derived import DerivedFeatures
from swrec_prod.serving.scoring.unknown import UnknownIds

MAX_VALUES = 2_000_000  # of a user's bags and behaviours, times the candidates beside them: bounds a request's memory


class RequestEncoder:
    """Requests -> PackedRequest, for one package.

    Nothing but its counts of unknown ids changes, so threads may share it.
    """

    def __init__(
        self, layout: Layout, encoders: Encoders, max_candidates: int = 1000, unknown: UnknownIds | None = None
    ) -> None:
        self.layout = layout
        self.unknown = unknown or UnknownIds("", {})
        self.encoders = encoders
        self.max_candidates = max_candidates
        self.slots = slots_of(encoders.schema)
        self._features = [*layout.pooled, *layout.looked_up, *layout.dense]
        self._derived = DerivedFeatures(encoders, self.slots, self._features)
        self._needed = self._derived.needed | _of_sequences(layout)

    def encode(self, request: ScoreCall, scenario: int) -> PackedRequest:
        """The candidates of a call, all of the scenario with this index.

        Raises RequestError, or the encoders' DataError, naming the feature and what would be right.
        """
        given = self._by_name(request)
        raw = {name: self._raw(name, given) for name in given if name in self._needed}
        rows = self._candidates(raw)
        columns = self._encoded(self._derived.added_to(raw, rows, request.scenario))
        self.unknown.add(columns)
        user = (columns[name] for name in self.layout.user_half.columns)
        several = sum(len(column.values) for column in user if isinstance(column, Ragged))
        if several * rows > MAX_VALUES:
            raise RequestError(
                f"user: {several} values in bags and sequences times {rows} candidates, allowed are {MAX_VALUES}"
            )
        return pack_halves(self.layout, columns, np.full(rows, scenario, np.int64), user_rows=1)

    def _by_name(self, request: ScoreCall) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for part, columns in ((USER, request.user), (ITEMS, request.items)):
            for column in columns:
                slot = self.slots.get(column.name)
                if column.name in self._derived.parts:
                    raise RequestError(f"{part}: feature {column.name!r} is derived; send the columns it is made of")
                if slot is None:
                    raise RequestError(f"{part}: unknown feature {column.name!r}; {nearest(column.name, self.slots)}")
                if slot.part != part:
                    raise RequestError(
                        f"{part}: feature {column.name!r} has side {slot.side} and belongs in {slot.part}"
                    )
                if column.name in given:
                    raise RequestError(f"{part}: feature {column.name!r} is given twice")
                given[column.name] = column
        for name in self._needed:
            if name not in given:
                slot = self.slots[name]
                raise RequestError(f"{slot.part}: feature {name!r} (side {slot.side}) is missing")
        return given

    def _raw(self, name: str, given: Mapping[str, Any]) -> Any:
        slot, kind = self.slots[name], self._needed[name]
        if slot.shape != "behaviours":
            return raw_values(name, slot, given[name])
        behaviours = raw_behaviours(name, slot, given[name], given.get(lengths_name(name)))
        return behaviours if kind == "bag" else one_each(name, behaviours)

    def _candidates(self, raw: Mapping[str, Any]) -> int:
        """N, after checking the number of rows of every column."""
        counts = {name: _rows(values) for name, values in raw.items() if self.slots[name].part == ITEMS}
        first, rows = next(iter(counts.items()), ("", 1))
        for name, count in counts.items():
            if count != rows:
                raise RequestError(
                    f"items: feature {name!r} has {count} rows, but {first!r} has {rows}; "
                    "a column has one row a candidate"
                )
        if not 1 <= rows <= self.max_candidates:
            raise RequestError(f"items: {rows} candidates, expected 1 to {self.max_candidates}")
        for name, values in raw.items():
            if name not in counts and _rows(values) != 1:
                raise RequestError(f"user: feature {name!r} has {_rows(values)} rows, expected one")
        return rows

    def _encoded(self, raw: Mapping[str, Any]) -> dict[str, Column]:
        """All columns of the layout, of one row each where they are the user's."""
        columns: dict[str, Column] = {}
        for feature in self._features:
            columns |= self.encoders.columns_of(feature.name, raw)
        for sequence in self.layout.sequences:
            lists = {name: raw[name] for name in raw_names(sequence)}
            columns |= encode_sequence(self.encoders, sequence, lists, _moment(sequence, raw))
        return columns


def _of_sequences(layout: Layout) -> dict[str, str]:
    """The columns of behaviours that a request must have, and of what kind they are."""
    needed: dict[str, str] = {}
    for sequence in layout.sequences:
        kinds = {part.name: part.kind for part in sequence.parts}
        needed |= {name: kinds.get(name, "id") for name in raw_names(sequence)}
        if needs_moment(sequence):
            needed[MOMENT] = "dense"
    return needed


def _moment(sequence: SequenceLayout, raw: Mapping[str, Any]) -> np.ndarray | None:
    if not needs_moment(sequence):
        return None
    moment, missing = integers(raw[MOMENT], MOMENT)
    if missing is not None and missing.any():
        raise RequestError(f"user: {MOMENT!r} is unknown; it is the moment of the request, microseconds since 1970")
    return moment


def _rows(values: Any) -> int:
    return len(values.offsets) - 1 if isinstance(values, RawLists) else len(values)
