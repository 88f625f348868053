"""Encoder: how a raw value becomes an id or a number."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pydantic

from swrec_prod.schema.records import SchemaRecord

EncoderKind = Literal["vocab", "hash", "bucketize", "quantile", "standard", "minmax", "log1p"]
MOST_BUCKETS = 2**31 - 2  # ids are int32, and row 0 is there beside the buckets
ID_ENCODERS: tuple[str, ...] = ("vocab", "hash", "bucketize", "quantile")
DENSE_ENCODERS: tuple[str, ...] = ("standard", "minmax", "log1p")
NUMERIC_ENCODERS: tuple[str, ...] = (*DENSE_ENCODERS, "bucketize", "quantile")  # those that read numbers


class Encoder(SchemaRecord):
    """How a raw value becomes an id (vocab, hash, bucketize, quantile) or a number (standard, minmax, log1p).

    kind: vocab: ids 1.. in order of falling count, fitted on training days. hash: 1 + hash(value) % `buckets`.
        bucketize: 1 + how many of `boundaries` are <= value. quantile: the same with boundaries that put equally many
        training rows into each of `buckets`. standard: minus the mean, over the deviation, of training rows. minmax:
        their smallest value becomes 0, their largest 1. log1p: log(1 + value), standardised. A missing value is row 0,
        or the mean.
    min_count: of vocab: values seen fewer times on training days share row 0 with values never seen.
    buckets: of hash and quantile, how many there are.
    boundaries: of bucketize, rising.
    clip: of standard and log1p: later values are held in the range that training rows had (minmax always does).
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"clip"})

    kind: EncoderKind
    min_count: int = pydantic.Field(1, ge=1)
    buckets: int | None = pydantic.Field(None, ge=1, le=MOST_BUCKETS)
    boundaries: tuple[float, ...] = ()
    clip: bool = False

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_word(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Encoder:
        if self.kind == "hash" and self.buckets is None:
            raise ValueError("a hash encoder needs buckets, for example {kind: hash, buckets: 100000}")
        if self.kind == "quantile" and (self.buckets or 0) < 2:
            raise ValueError("a quantile encoder needs 2 or more buckets, for example {kind: quantile, buckets: 20}")
        if self.kind == "bucketize" and not self.boundaries:
            raise ValueError(
                "a bucketize encoder needs boundaries, for example {kind: bucketize, boundaries: [10, 60]}"
            )
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(f"boundaries must rise, not {list(self.boundaries)}")
        if self.clip and self.kind not in ("standard", "log1p"):
            raise ValueError(f"clip is for standard and log1p, not for {self.kind}")
        return self
