"""Into which of 10,000 buckets a unit falls: the same in every process, language and warehouse.

    bucket = (u64 * 10000) >> 64,  u64 = the first 8 bytes, big-endian, of SHA-256(UTF-8(salt + U+001F + unit))

unit: as requests send it, integers in decimal. SHA-256 because warehouses can compute it too (`BUCKET_SQL` for DuckDB);
it takes a microsecond. Units of different salts fall independently of each other.
"""

from __future__ import annotations

from hashlib import sha256

BUCKETS = 10_000
SEPARATOR = "\x1f"
BUCKET_SQL = (  # of the columns salt and unit
    "((('0x' || left(sha256(salt || chr(31) || unit), 16))::UBIGINT::UHUGEINT * 10000) >> 64)::INTEGER"
)


def bucket(salt: str, unit: str) -> int:
    """0 to 9,999.

    >>> bucket("layer:rank:2026a", "42"), bucket("exp:c_sweep:1", "")
    (4916, 4348)
    """
    digest = sha256(f"{salt}{SEPARATOR}{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") * BUCKETS >> 64
