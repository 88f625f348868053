"""A 64-bit hash of raw values that is the same in every process, on every machine and in every version.

    mix(z)      the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, fig. 17)
    int64 x     mix(x + G), G = 0x9E3779B97F4A7C15, modulo 2^64
    string      h = mix(number of UTF-8 bytes + G), then for each 8 bytes (little-endian, the last zero-padded):
                h = mix((h ^ word) + G)

Changing it changes what every trained table means.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

G = np.uint64(0x9E3779B97F4A7C15)
FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)  # masks that keep the first n bytes of a word


def hash_integers(values: np.ndarray) -> np.ndarray:
    """values: int64 [N]. Returns uint64 [N]."""
    return _mix(values.astype(np.int64).view(np.uint64) + G)


def hash_strings(values: pa.Array) -> np.ndarray:
    """values: string [N]; a null hashes like the empty string. Returns uint64 [N]."""
    values = values.cast(pa.large_string())
    _, offsets_buffer, data = values.buffers()
    if len(values) == 0 or offsets_buffer is None:
        return np.zeros(0, np.uint64)
    offsets = np.frombuffer(offsets_buffer, np.int64)[values.offset : values.offset + len(values) + 1]
    text = np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]]
    return _hash_bytes(text, offsets - offsets[0])


def hash_texts(values: list[str]) -> np.ndarray:
    """`hash_strings` of a few strings: uint64 [N]."""
    text = "".join(values).encode()
    lengths = map(len, values) if text.isascii() else (len(value.encode()) for value in values)
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(lengths, np.int64, len(values)), out=offsets[1:])
    return _hash_bytes(np.frombuffer(text, np.uint8), offsets)


def _hash_bytes(text: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """text: uint8, strings one after the other; offsets: int64 [N + 1], where each begins, the first at 0."""
    starts, lengths = offsets[:-1], np.diff(offsets)
    words = _words_at_every_byte(text)
    hashes = _mix(lengths.view(np.uint64) + G)
    rows = np.flatnonzero(lengths)
    at = 0
    while len(rows):
        word = words[starts[rows] + at] & FIRST_BYTES[np.minimum(lengths[rows] - at, 8)]
        hashes[rows] = _mix((hashes[rows] ^ word) + G)
        at += 8
        rows = rows[lengths[rows] > at]
    return hashes


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _words_at_every_byte(text: np.ndarray) -> np.ndarray:
    """Element i is the little-endian word that starts at byte i; behind the end come zeros."""
    padded = np.zeros(len(text) + 8, np.uint8)
    padded[: len(text)] = text
    return np.ndarray(len(text) + 1, "<u8", padded.data, strides=(1,))
