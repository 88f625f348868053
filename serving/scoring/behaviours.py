"""The behaviours of a request: raw columns of one sequence -> its encoded columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column
from swrec_prod.encoding.raw_values import integers
from swrec_prod.encoding.sequences import encode_sequence, needs_moment, raw_names
from swrec_prod.errors import RequestError
from swrec_prod.schema.layout import SequenceLayout
from swrec_prod.serving.protocol.call import Column as Given
from swrec_prod.serving.scoring.columns import MOMENT, lengths_name
from swrec_prod.serving.scoring.halves import FARTHEST, held
from swrec_prod.serving.scoring.values import ColumnReader


class BehaviourEncoder:
    """One sequence. names: the columns of behaviours that a request must have; needs_moment: whether it also needs
    `time`.
    """

    def __init__(self, sequence: SequenceLayout, encoders: Encoders, readers: Mapping[str, ColumnReader]) -> None:
        self.needs_moment = needs_moment(sequence)
        self.names, self._bags = raw_names(sequence), {part.name for part in sequence.of_kind("bag")}
        self.scenario = f"{sequence.name}.scenario"
        self._sequence, self._encoders, self._readers = sequence, encoders, readers
        self._numbers = [part.name for part in sequence.of_kind("dense")]

    def encoded(self, given: Mapping[str, Given], moment: int, rows: int) -> dict[str, Column]:
        """The encoded columns of `rows` rows. given: the request's columns by name; moment: of the request,
        microseconds since 1970.

        A behaviour in a scenario that the schema does not list is one of no scenario, or the fallback's: a user's visit
        of a new place is no reason to refuse her everywhere. Raises RequestError or DataError naming a wrong column.
        """
        raw = {
            name: self._readers[name].behaviours(given[name], given.get(lengths_name(name)), bag=name in self._bags)
            for name in self.names
        }
        for name, lists in raw.items():
            if lists.rows != rows:
                raise RequestError(f"{self._readers[name].where} has {lists.rows} rows, expected {rows}")
        moments = np.full(rows, moment, np.int64) if self.needs_moment else None
        columns = encode_sequence(self._encoders, self._sequence, raw, moments, elsewhere=True)
        for name in self._numbers:
            columns[name] = held(columns[name], FARTHEST)
        return columns


def moment_of(given: Given, reader: ColumnReader) -> int:
    """The moment of a request, microseconds since 1970. Raises RequestError where it is unknown, or not one."""
    moments, missing = integers(reader.whole(given), MOMENT)
    if missing is not None and missing.any():
        raise RequestError(f"user: {MOMENT!r} is unknown; it is the moment of the request, microseconds since 1970")
    return int(moments[0])
