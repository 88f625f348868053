"""An answer as the write-ahead log keeps it: what costs nothing to note while a request is answered.

Requests are kept as the bytes of a swrec.v1.ScoreRequest, and are only read again when they become columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from swrec_prod.experiments.assignment import Assignment
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.protocol.call import Column, ScoreCall

SCORES = ("probability", "score", "interest_logit", "scenario_logit")
VARIANT = pa.struct(
    [
        ("domain", pa.string()),
        ("layer", pa.string()),
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("bucket", pa.uint16()),
        ("forced", pa.bool_()),
        ("triggered", pa.bool_()),
    ]
)
ANSWERS = pa.schema(
    [
        ("answer_id", pa.binary(16)),
        ("ts", pa.int64()),
        ("latency_us", pa.uint32()),
        ("request", pa.binary()),
        ("request_id", pa.string()),
        ("unit", pa.string()),
        ("scenario", pa.string()),
        ("scored_scenario", pa.string()),
        ("fallback", pa.bool_()),
        ("variants", pa.list_(VARIANT)),
        ("config_version", pa.binary(8)),
        ("model", pa.string()),
        ("model_version", pa.string()),
        ("debias_strength", pa.float64()),
        ("sample_rate", pa.float32()),
        *((name, pa.binary()) for name in SCORES),
    ]
)
OVERHEAD = 1_000  # bytes of an answer beside its request and scores, about


class Answer(NamedTuple):
    """One answer; the log names it. Fields are those of schema.BASE, but for:

    ts: microseconds since 1970; request: serialised, or a call that came by another protocol, or None where it is not
    kept; probability ... scenario_logit: float32 [N, T] each, the logits [N, 0] without a causal split.
    """

    ts: int
    latency_us: int
    request: bytes | ScoreCall | None
    request_id: str
    unit: str
    scenario: str
    scored_scenario: str
    fallback: bool
    variants: tuple[Assignment, ...]
    config_version: bytes
    model: str
    model_version: str
    debias_strength: float
    sample_rate: float | None
    probability: np.ndarray
    score: np.ndarray
    interest_logit: np.ndarray
    scenario_logit: np.ndarray

    @property
    def bytes(self) -> int:
        """About how much memory it takes."""
        request = self.request
        own = len(request) if isinstance(request, bytes) else 0 if request is None else _bytes_of(request)
        return own + 4 * self.score.nbytes + OVERHEAD


def batch_of(ids: Sequence[bytes], answers: Sequence[Answer], schema: pa.Schema = ANSWERS) -> pa.RecordBatch:
    """The answers with their ids. schema: ANSWERS with metadata."""
    columns: dict[str, Any] = dict(zip(Answer._fields, zip(*answers, strict=True), strict=True))
    columns["request"] = [_serialised(request) for request in columns["request"]]
    for name in ("request_id", "unit"):
        columns[name] = [text or None for text in columns[name]]
    for name in SCORES:
        columns[name] = [scores.astype(wire.SCORES, copy=False).tobytes() for scores in columns[name]]
    columns |= {"answer_id": ids, "variants": _variants(columns["variants"])}
    arrays = [_array(columns[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _variants(assigned: Sequence[Sequence[Assignment]]) -> pa.Array:
    flat = [variant for variants in assigned for variant in variants]
    fields = [pa.array([getattr(variant, field.name) for variant in flat], field.type) for field in VARIANT]
    offsets = np.zeros(len(assigned) + 1, np.int32)
    np.cumsum([len(variants) for variants in assigned], out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(fields, fields=list(VARIANT)))


def _serialised(request: bytes | ScoreCall | None) -> bytes | None:
    if not isinstance(request, ScoreCall):
        return request
    message = wire.ScoreRequest()
    for columns, into in ((request.user, message.user), (request.items, message.items)):
        for column in columns:
            into.append(_message(column))
    serialised: bytes = message.SerializeToString()
    return serialised


def _message(column: Column) -> Any:
    message = wire.Column(name=column.name)
    if isinstance(column.values, list):
        message.strings.extend(column.values)
    elif column.values.dtype == wire.FLOATS:
        message.floats = column.values.tobytes()
    else:
        message.ints = column.values.tobytes()
    if column.lengths is not None:
        message.lengths = column.lengths.tobytes()
    return message


def _bytes_of(call: ScoreCall) -> int:
    """Of the columns; strings are taken to be short."""
    return sum(8 * len(column.values) for part in (call.user, call.items) for column in part)
