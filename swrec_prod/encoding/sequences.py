"""Raw behaviours -> the prepared columns of a sequence, for golden rows and requests.

Shapes: B rows, N behaviours of all rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column, Ragged
from swrec_prod.encoding.raw_values import RawLists, Values, flat, integers
from swrec_prod.errors import DataError
from swrec_prod.schema import Feature
from swrec_prod.schema.layout import SequenceLayout, lengths_column

SECOND = 1e6  # in microseconds


def raw_names(sequence: SequenceLayout) -> tuple[str, ...]:
    """The raw columns of behaviours: `<name>.item`, `.scenario`, fields, and `.time` where ages are read."""
    asked = (f"{sequence.name}.time" if part.name == _age(sequence) else part.name for part in sequence.parts)
    return (*asked, f"{sequence.name}.scenario")


def needs_moment(sequence: SequenceLayout) -> bool:
    """Whether its columns depend on the row's moment."""
    return any(part.name == _age(sequence) for part in sequence.parts)


def encode_sequence(
    encoders: Encoders,
    sequence: SequenceLayout,
    raw: Mapping[str, RawLists],
    moment_B: np.ndarray | None,
    *,
    elsewhere: bool = False,
) -> dict[str, Column]:
    """The columns SequenceLayout.columns, and those of bags, for B rows.

    raw: by `raw_names`; of more behaviours than max_length the latest are kept. moment_B: microseconds since 1970,
    where `needs_moment`. elsewhere: a behaviour in a scenario that the schema does not list counts as one without a
    scenario, or as the fallback's; it does anyway where the log brings the behaviours, from wherever.

    Raises DataError naming a column whose lists are of other lengths, or a wrong value.
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
    elsewhere = elsewhere or sequence.feature.columns is not None
    index = encoders.encode_behaviour_scenario(where.elements, elsewhere=elsewhere)
    return columns | {f"{sequence.name}.scenario": Ragged(index, where.offsets)}


def _part(encoders: Encoders, part: Feature, raw: RawLists) -> dict[str, Column]:
    encoded = encoders.encode(part.name, raw.elements)
    if isinstance(encoded, Ragged):  # a bag: its offsets are those of behaviours
        lengths = np.diff(encoded.offsets).astype(np.int32)
        bag = Ragged(encoded.values, encoded.offsets[raw.offsets])
        return {part.name: bag, lengths_column(part): Ragged(lengths, raw.offsets)}
    return {part.name: Ragged(encoded, raw.offsets)}


def _ages(encoders: Encoders, part: Feature, raw: RawLists, moment_B: np.ndarray | None) -> Ragged:
    """Buckets of the seconds from each behaviour to its row's moment; row 0 where the time is not known."""
    if moment_B is None:
        raise DataError(f"{part.name}: the age of behaviours needs the row's `time`")
    time, missing = integers(_as_integers(raw.elements), f"{part.name.rpartition('.')[0]}.time")
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
        here, there = raw[first].offsets, raw[other].offsets
        if here is not there and not np.array_equal(here, there):
            a, b = int(here[-1]), int(there[-1])
            raise DataError(f"{first} has {a} behaviours and {other} {b}; give one for each")


def _age(sequence: SequenceLayout) -> str:
    return f"{sequence.name}.age"
