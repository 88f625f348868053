"""Protobuf messages made wrong: bytes changed anywhere, and fields changed as fields, whatever their message is."""

from __future__ import annotations

import random
from collections.abc import Callable

Field = tuple[int, int, bytes]  # number, wire type, payload without its length
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
NUMBERS = (0, 1, 2, 1000, 1001, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
WORDS = (
    b"",
    b"\x00",
    b"\xff\xfe",
    "\u7528\u6237".encode(),
    b"\xed\xa0\x80",
    b"a" * 5000,
    b"NaN",
    b"-1",
    b"history.item",
)
PAIRS = (
    b"\x00" * 8,
    b"\xff" * 8,
    b"\x00" * 6 + b"\xf0\x7f",
    b"\x00" * 6 + b"\xf8\x7f",
    b"\xff" * 7 + b"\x7f",
)  # inf, nan ...


def varint(number: int) -> bytes:
    """The wire form of a number."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def encoded(fields: list[Field]) -> bytes:
    """A message of these fields."""
    return b"".join(
        varint(number << 3 | kind) + (varint(len(payload)) if kind == BYTES else b"") + payload
        for number, kind, payload in fields
    )


def decoded(data: bytes) -> list[Field] | None:
    """The fields of a message; None for bytes that are none."""
    fields: list[Field] = []
    at = 0
    try:
        while at < len(data):
            tag, at = _varint_at(data, at)
            number, kind = tag >> 3, tag & 7
            if kind == VARINT:
                start = at
                _, at = _varint_at(data, at)
            elif kind == BYTES:
                size, start = _varint_at(data, at)
                at = start + size
            else:
                start, at = at, at + {FIXED64: 8, FIXED32: 4}[kind]
            if at > len(data) or not number:
                return None
            fields.append((number, kind, data[start:at]))
    except (IndexError, KeyError):
        return None
    return fields


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] & 0x80:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | data[at] << shift, at + 1


def mutated(message: bytes, draw: random.Random) -> bytes:
    """One to four changes: half of them to bytes, half to fields."""
    for _ in range(draw.randint(1, 4)):
        message = (_bytes_changed if draw.random() < 0.5 else _field_changed)(message, draw)
    return message


def _bytes_changed(message: bytes, draw: random.Random) -> bytes:
    at = draw.randint(0, len(message))
    return message[:at] + draw.randbytes(draw.randint(0, 3)) + message[at + draw.randint(0, 3) :]


def _field_changed(message: bytes, draw: random.Random) -> bytes:
    """A field, at any depth."""
    fields = decoded(message)
    if not fields:
        return _bytes_changed(message, draw)
    at = draw.randrange(len(fields))
    number, kind, payload = fields[at]
    if kind == BYTES and decoded(payload) and draw.random() < 0.7:
        fields[at] = number, kind, _field_changed(payload, draw)
    else:
        draw.choice(CHANGES)(fields, at, draw)
    return encoded(fields)


def _leave_out(fields: list[Field], at: int, draw: random.Random) -> None:
    del fields[at]


def _repeat(fields: list[Field], at: int, draw: random.Random) -> None:
    fields.insert(draw.randint(0, len(fields)), fields[at])


def _swap(fields: list[Field], at: int, draw: random.Random) -> None:
    other = draw.randrange(len(fields))
    fields[at], fields[other] = fields[other], fields[at]


def _renumber(fields: list[Field], at: int, draw: random.Random) -> None:
    fields[at] = draw.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 2**29 - 1)), *fields[at][1:]


def _other_value(fields: list[Field], at: int, draw: random.Random) -> None:
    number, kind, payload = fields[at]
    if kind == VARINT:
        payload = varint(draw.choice(NUMBERS))
    elif kind == BYTES:
        payload = draw.choice((*WORDS, payload[: draw.randint(0, len(payload))], payload + payload[:8]))
    else:
        payload = draw.choice(PAIRS)[: len(payload)]
    fields[at] = number, kind, payload


def _other_numbers(fields: list[Field], at: int, draw: random.Random) -> None:
    """Eight bytes within a packed array: a huge number, a negative one, NaN, infinity."""
    number, kind, payload = fields[at]
    place = draw.randint(0, len(payload) // 8) * 8
    fields[at] = number, kind, payload[:place] + draw.choice(PAIRS)[: len(payload) - place] + payload[place + 8 :]


def _other_type(fields: list[Field], at: int, draw: random.Random) -> None:
    number, _, payload = fields[at]
    kind = draw.choice((VARINT, FIXED64, FIXED32))
    sizes = {FIXED64: 8, FIXED32: 4}
    fields[at] = number, kind, varint(draw.choice(NUMBERS)) if kind == VARINT else payload[:8].ljust(8)[: sizes[kind]]


CHANGES: tuple[Callable[[list[Field], int, random.Random], None], ...] = (
    _leave_out,
    _repeat,
    _swap,
    _renumber,
    _other_value,
    _other_numbers,
    _other_type,
)
