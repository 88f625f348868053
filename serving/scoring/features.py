"""A request's columns -> packed arrays: the border at which every value is checked.

What depends on the package alone is decided when it is loaded: which columns a request must have, and which encoder
takes each (halves, behaviours, derived). User and context columns hold one row, which stays one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

import numpy as np

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column, PackedRequest, Ragged, pack_halves, stacked, take
from swrec_prod.errors import RequestError
from swrec_prod.schema.layout import Layout
from swrec_prod.serving.protocol.call import Column as Given
from swrec_prod.serving.protocol.call import Limits, ScoreCall
from swrec_prod.serving.scoring.behaviours import BehaviourEncoder, moment_of
from swrec_prod.serving.scoring.columns import ITEMS, MOMENT, USER, PartColumns, slots_of
from swrec_prod.serving.scoring.derived import DerivedFeatures
from swrec_prod.serving.scoring.halves import HalfEncoder
from swrec_prod.serving.scoring.unknown import UnknownIds
from swrec_prod.serving.scoring.values import ColumnReader

MAX_VALUES = 2_000_000  # the user's values times candidates, which models compare: bounds a forward's memory


class EncodedRequest(NamedTuple):
    """Encoded columns by name: one row of those of the user, `rows` of those of the candidates."""

    columns: dict[str, Column]
    rows: int


class RequestEncoder:
    """Requests -> PackedRequest, for one package. Nothing but its counts of unknown ids changes, so threads may share
    it.

    slots: the columns that a request may hold, by name; needed: names of those that it must.
    """

    def __init__(
        self, layout: Layout, encoders: Encoders, limits: Limits | None = None, unknown: UnknownIds | None = None
    ) -> None:
        self.layout = layout
        self.limits = limits or Limits()
        self.unknown = unknown or UnknownIds("", {})
        self.slots = slots = slots_of(encoders.schema)
        readers = {name: ColumnReader(name, slot, self.limits) for name, slot in slots.items()}
        self._readers, self._known_scenarios = readers, len(encoders.schema.scenario.values)
        self._derived = DerivedFeatures(encoders, layout, readers)
        halves = (layout.user_half, layout.item_half)
        self._halves = [HalfEncoder(h, encoders, readers, self._derived.names, self.limits.values) for h in halves]
        self._behaviours = [
            [BehaviourEncoder(sequence, encoders, readers) for sequence in half.sequences] for half in halves
        ]
        sequences = [sequence for of_half in self._behaviours for sequence in of_half]
        self._scenarios = [sequence.scenario for sequence in sequences]
        self._needs_moment = any(sequence.needs_moment for sequence in sequences)
        several = dict.fromkeys(name for sequence in sequences for name in sequence.names)
        plain = [*self._derived.inputs, *self._halves[0].names, *self._halves[1].names]
        needed = list(dict.fromkeys([*plain, *([MOMENT] if self._needs_moment else []), *several]))
        self._user, self._items = (PartColumns(part, slots, needed, self._derived.names) for part in (USER, ITEMS))
        self.needed = tuple(needed)
        self._rows = [[readers[n] for n in part.needed if n not in several] for part in (self._user, self._items)]

    def encode(self, call: ScoreCall, scenario: int) -> PackedRequest:
        """The user and the candidates of a call, all of the scenario with this index.

        Raises RequestError, or the encoders' DataError, naming the feature and what would be right.
        """
        return self.packed(self.encoded(call), scenario)

    def encoded(self, call: ScoreCall) -> EncodedRequest:
        """The columns of a call. Raises as `encode` does."""
        user, items = self._user.by_name(call.user), self._items.by_name(call.items)
        rows = self._candidates(user, items)
        columns = self._halves[0].encoded(user, 1) | self._halves[1].encoded(items, rows)
        columns |= self._derived.encoded(user, items, rows, call.scenario)
        moment = moment_of(user[MOMENT], self._readers[MOMENT]) if self._needs_moment else 0
        for of_half, given, count in zip(self._behaviours, (user, items), (1, rows), strict=True):
            for sequence in of_half:
                columns |= sequence.encoded(given, moment, count)
        self._count(columns)
        return EncodedRequest(columns, rows)

    def packed(self, request: EncodedRequest, scenario: int) -> PackedRequest:
        """A request as arrays. Raises RequestError for one that is too large."""
        columns, rows = request
        packed = pack_halves(self.layout, columns, np.full(rows, scenario, np.int64), user_rows=1)
        several = len(packed.user.ids_values) + len(packed.user.sequence_values)
        if several * rows > MAX_VALUES:
            what = f"{several} ids times {rows} candidates"
            raise RequestError(f"user: {what}, allowed are {MAX_VALUES}; send fewer candidates a request")
        return packed

    def packed_together(self, requests: Sequence[EncodedRequest], scenario: int) -> PackedRequest:
        """The candidates of several requests, one request's after the other's, each with a row of its user."""
        rows = [request.rows for request in requests]
        user, items = (
            {name: stacked([request.columns[name] for request in requests]) for name in half.columns}
            for half in (self.layout.user_half, self.layout.item_half)
        )
        columns = items | take(user, np.repeat(np.arange(len(rows)), rows))
        return pack_halves(self.layout, columns, np.full(sum(rows), scenario, np.int64), user_rows=sum(rows))

    def user_values(self, request: EncodedRequest) -> int:
        """How many ids there are once the user's stand beside every candidate; MAX_VALUES bounds them."""
        names = self.layout.user_half.array_columns
        columns = [request.columns[name] for name in (*names.ids, *names.sequence)]
        return request.rows * sum(len(c.values) if isinstance(c, Ragged) else len(c) for c in columns)

    def _candidates(self, user: Mapping[str, Given], items: Mapping[str, Given]) -> int:
        """N, after checking the number of rows of every column."""
        of_user, of_items = self._rows
        counts = [reader.rows(items[reader.name]) for reader in of_items]
        rows, allowed = counts[0] if counts else 1, self.limits.candidates
        if counts.count(rows) != len(counts):
            self._refuse_rows(items)
        if not 1 <= rows <= allowed:
            split = "; send the others in further requests" if rows else ""
            raise RequestError(f"items: {rows} candidates, expected 1 to {allowed}{split}")
        for reader in of_user:
            if (count := reader.rows(user[reader.name])) != 1:
                raise RequestError(f"{reader.where} has {count} rows, expected one")
        return rows

    def _refuse_rows(self, items: Mapping[str, Given]) -> NoReturn:
        """Say which column has not as many rows as the first that is given."""
        rows = {reader.name: reader.rows(items[reader.name]) for reader in self._rows[1]}
        first = next(name for name in items if name in rows)
        other = next(name for name, count in rows.items() if count != rows[first])
        has = f"has {rows[other]} rows, but {first!r} has {rows[first]}"
        raise RequestError(f"{self._readers[other].where} {has}; a column has one row a candidate")

    def _count(self, columns: Mapping[str, Column]) -> None:
        """Count values that are unknown, those of a user once."""
        elsewhere = 0
        for name in self._scenarios:
            elsewhere += int(np.count_nonzero(columns[name].values >= self._known_scenarios))  # type: ignore[union-attr]
        self.unknown.add(columns, elsewhere)
