"""What a request must have, for those who ask: names, types and parts of its columns."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from swrec_prod.serving.scoring.features import RequestEncoder


class Input(NamedTuple):
    """A column of a request. part: `user` or `items`; type: int64, string or float64; several: whether a row holds any
    number of values.
    """

    name: str
    part: str
    type: str
    several: bool


def inputs_of(golden: pa.Schema, encoder: RequestEncoder) -> tuple[Input, ...]:
    """The columns that a request must have. golden: of the package's golden rows, which are requests of the raw log."""
    return tuple(
        Input(name, encoder.slots[name].part, _type(golden, name), encoder.slots[name].shape != "one")
        for name in encoder.needed
    )


def _type(golden: pa.Schema, name: str) -> str:
    kind = golden.field(name).type if name in golden.names else pa.int64()
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "float64"
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return "string" if is_text or pa.types.is_null(kind) else "int64"
