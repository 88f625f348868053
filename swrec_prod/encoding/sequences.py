"""Raw behaviours -> the prepared columns of a sequence, for golden rows and requests.

Shapes: B rows, N behaviours of all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column, Ragged, spread
from swrec_prod.encoding.raw_values import Values, flat, integers, lists
from swrec_prod.errors import DataError
from swrec_prod.schema import Feature
from swrec_prod.schema.layout import SequenceLayout, lengths_column

SECOND = 1e6  # in microseconds


class RawLists(NamedTuple):
    """One raw column of a sequence. values: of all behaviours [N], or, where each has several, lists of them [N];
    offsets: int64 [B + 1], which behaviours are those of a row.
    """

    values: Values
    offsets: np.ndarray

    @classmethod
    def of(cls, column: Values, name: str) -> RawLists:
        """A list a row."""
        return cls(*lists(column, name))

    def latest(self, longest: int) -> RawLists:
        """The last `longest` behaviours of each row."""
        lengths = np.minimum(np.diff(self.offsets), longest)
        index, offsets = spread(self.offsets[1:] - lengths, lengths)
        if len(index) == self.offsets[-1]:
            return self
        values = self.values
        if isinstance(values, list):
            return RawLists([values[i] for i in index], offsets)
        return RawLists(values.take(pa.array(index)) if isinstance(values, pa.Array) else values[index], offsets)


def raw_names(sequence: SequenceLayout) -> tuple[str, ...]:
    """The raw columns of behaviours: `<name>.item`, `.scenario`, fields, and `.time` where ages are read."""
    asked = (f"{sequence.name}.time" if part.name == _age(sequence) else part.name for part in sequence.parts)
    return (*asked, f"{sequence.name}.scenario")


def needs_moment(sequence: SequenceLayout) -> bool:
    """Whether its columns depend on the row's moment."""
    return any(part.name == _age(sequence) for part in sequence.parts)


def encode_sequence(
    encoders: Encoders, sequence: SequenceLayout, raw: Mapping[str, RawLists], moment_B: np.ndarray | None
) -> dict[str, Column]:
    """The columns SequenceLayout.columns, and those of bags, for B rows.

    raw: by `raw_names`; of more behaviours than max_length the latest are kept. moment_B: microseconds since 1970,
    where `needs_moment`. Raises DataError naming a column whose lists are of other lengths, or a wrong value.
    """
    _check_lengths(sequence.name, raw)
    longest = sequence.feature.max_length
    cut = {name: column.latest(longest) for name, column in raw.items()} if longest else raw
    columns: dict[str, Column] = {}
    for part in sequence.parts:
        if part.name == _age(sequence):
            columns[part.name] = _ages(encoders, part, cut[f"{sequence.name}.time"], moment_B)
        else:
            columns |= _part(encoders, part, cut[part.name])
    where = cut[f"{sequence.name}.scenario"]
    elsewhere = sequence.feature.columns is not None  # the log brings them, from wherever
    index = encoders.encode_behaviour_scenario(where.values, elsewhere=elsewhere)
    return columns | {f"{sequence.name}.scenario": Ragged(index, where.offsets)}


def _part(encoders: Encoders, part: Feature, raw: RawLists) -> dict[str, Column]:
    encoded = encoders.encode(part.name, raw.values)
    if isinstance(encoded, Ragged):  # a bag: its offsets are those of behaviours
        lengths = np.diff(encoded.offsets).astype(np.int32)
        bag = Ragged(encoded.values, encoded.offsets[raw.offsets])
        return {part.name: bag, lengths_column(part): Ragged(lengths, raw.offsets)}
    return {part.name: Ragged(encoded, raw.offsets)}


def _ages(encoders: Encoders, part: Feature, raw: RawLists, moment_B: np.ndarray | None) -> Ragged:
    """Buckets of the seconds from each behaviour to its row's moment; row 0 where the time is not known."""
    if moment_B is None:
        raise DataError(f"{part.name}: the age of behaviours needs the row's `time`")
    time, missing = integers(_as_integers(raw.values), f"{part.name.rpartition('.')[0]}.time")
    unknown = (time == 0) if missing is None else missing | (time == 0)
    seconds = (np.repeat(moment_B, np.diff(raw.offsets)) - time) / SECOND
    return Ragged(encoders.encode(part.name, np.where(unknown, np.nan, seconds)), raw.offsets)  # type: ignore[arg-type]


def _as_integers(values: Values) -> Values:
    if isinstance(values, (pa.Array, pa.ChunkedArray)) and pa.types.is_timestamp(values.type):
        return flat(values).cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
    return values


def _check_lengths(name: str, raw: Mapping[str, RawLists]) -> None:
    """Every column has one value for each behaviour of a row."""
    first, *others = raw
    for other in others:
        if not np.array_equal(raw[first].offsets, raw[other].offsets):
            a, b = len(raw[first].values), len(raw[other].values)
            raise DataError(f"{first} has {a} behaviours and {other} {b}; give one for each")


def _age(sequence: SequenceLayout) -> str:
    return f"{sequence.name}.age"
