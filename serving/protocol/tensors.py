"""Tensors of the Open Inference Protocol -> raw values: int64 or float64 arrays, or a list of str.

A tensor's values are in one of two places: as bytes in the request's raw_input_contents (little-endian, row by row; of
the datatype BYTES every element as its length, 4 bytes, and itself), or as numbers in the tensor's own `contents`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from swrec_prod.errors import RequestError, nearest, shown
from swrec_prod.serving.protocol.wire import FLOATS, INTS

BYTES = "BYTES"
DTYPES = {
    "BOOL": np.dtype("u1"),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    "BF16": np.dtype("<u2"),
}
CONTENTS = {  # datatype -> the field of InferTensorContents that has its values; the others travel raw only
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
PREFIX = 4  # bytes of an element's length
MANY = 16  # elements, from which on it pays to look at all of them at once

Values = np.ndarray | list[str]


def raw_values(tensor: Any, data: bytes) -> Values:
    """The values of an InferInputTensor whose bytes are `data`. Raises RequestError where they do not fit it."""
    datatype, count = tensor.datatype, _elements(tensor)
    if datatype == BYTES:
        return _texts(tensor, count, data)
    kind = DTYPES.get(datatype)
    if kind is None:
        raise _wrong(tensor, f"datatype {shown(datatype)}; {nearest(datatype, [*DTYPES, BYTES])}")
    if len(data) != count * kind.itemsize:
        of_shape = f"{datatype} of shape {shape_shown(tensor)} has {count * kind.itemsize}"
        raise _wrong(tensor, f"{len(data)} bytes, but {of_shape}")
    values = np.frombuffer(data, kind)
    return _widened(tensor, (values.astype("<u4") << 16).view("<f4") if datatype == "BF16" else values)


def typed_values(tensor: Any) -> Values:
    """The values of an InferInputTensor in its `contents`. Raises RequestError where they do not fit it."""
    datatype, count = tensor.datatype, _elements(tensor)
    if datatype not in CONTENTS:
        raise _wrong(tensor, f"datatype {shown(datatype)} of contents; {nearest(datatype, CONTENTS)}")
    field = CONTENTS[datatype]
    for other, _ in tensor.contents.ListFields():
        if other.name != field:
            raise _wrong(tensor, f"{datatype} is given in contents.{field}, not in {other.name}")
    values = getattr(tensor.contents, field)
    if len(values) != count:
        of_shape = f"shape {shape_shown(tensor)} has {count}"
        raise _wrong(tensor, f"{len(values)} values in contents.{field}, but {of_shape}")
    if datatype == BYTES:
        return _decoded(tensor, values)
    array = np.array(values, FLOATS if datatype[0] == "F" else None)
    return _widened(tensor, _held(tensor, array))


def texts_of(count: int, data: bytes) -> list[str] | None:
    """`count` elements of BYTES; None where `data` are no such elements. Raises UnicodeDecodeError.

    Elements of 1 to 255 bytes without a zero byte, which almost all are, have their zero bytes in the prefixes alone:
    so of many, all prefixes are found at once, and the text is decoded and cut in C, in a third of the time.
    """
    return (_at_once(count, data) if count >= MANY else None) or _one_by_one(count, data)


def _at_once(count: int, data: bytes) -> list[str] | None:
    """None also where elements are longer, empty or hold a zero byte."""
    array = np.frombuffer(data, np.uint8)
    zeros = np.flatnonzero(array == 0)
    if len(zeros) != 3 * count:
        return None
    starts = zeros[::3] - 1
    ends = starts + PREFIX + array[starts]
    is_chain = starts[0] == 0 and ends[-1] == len(data) and np.array_equal(starts[1:], ends[:-1])
    if not is_chain or (zeros[2::3] != starts + 3).any():
        return None
    array = array.copy()
    array[starts] = 0
    return array.tobytes().decode().split("\0" * PREFIX)[1:]


def _one_by_one(count: int, data: bytes) -> list[str] | None:
    found, at, read = [], 0, int.from_bytes
    while at < len(data):
        start = at + PREFIX
        at = start + read(data[at:start], "little")
        found.append(data[start:at].decode())
    return found if at == len(data) and len(found) == count else None


def _texts(tensor: Any, count: int, data: bytes) -> list[str]:
    try:
        found = texts_of(count, data)
    except UnicodeDecodeError:
        raise _wrong(tensor, "text that is not UTF-8") from None
    if found is None:
        raise _wrong(tensor, f"its {len(data)} bytes are not {count} elements, each with its length before it")
    return found


def _decoded(tensor: Any, values: Iterable[bytes]) -> list[str]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise _wrong(tensor, "text that is not UTF-8") from None


def _elements(tensor: Any) -> int:
    """How many values the shape says there are. The number of sizes is checked first: a product of many takes long."""
    shape = tensor.shape
    if not 1 <= len(shape) <= 2 or min(shape) < 0:
        raise _wrong(tensor, f"shape {shape_shown(tensor)}, expected [rows] or [rows, values]")
    return math.prod(shape)


def shape_shown(tensor: Any) -> str:
    """The shape as a message quotes it, of a long one its beginning."""
    sizes = ", ".join(map(str, tensor.shape[:4]))
    return f"[{sizes}, ...]" if len(tensor.shape) > 4 else f"[{sizes}]"


def _held(tensor: Any, values: np.ndarray) -> np.ndarray:
    """`values`. Raises RequestError where the datatype cannot hold one: `contents` are wider than it."""
    if tensor.datatype[0] not in "IU" or not len(values):
        return values
    bounds = np.iinfo(DTYPES[tensor.datatype])
    if values.min() < bounds.min or values.max() > bounds.max:
        raise _wrong(tensor, f"{tensor.datatype} does not hold {values.min()} to {values.max()}")
    return values


def _widened(tensor: Any, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return values.astype(FLOATS, copy=False)
    if values.dtype == np.uint64 and values.max(initial=0) >= 1 << 63:
        raise _wrong(tensor, f"{values.max()} does not fit a signed 64-bit integer")
    return values.astype(INTS, copy=False)


def _wrong(tensor: Any, what: str) -> RequestError:
    return RequestError(f"input {shown(tensor.name)}: {what}")
