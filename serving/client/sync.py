"""A client of the scorer: arrays in, arrays out, and our own errors instead of RPC codes.

    from swrec_prod.serving import Client

    user = {"user_id": "u1", "history.item": [7, 9], "history.scenario": ["home", "cart"]}
    with Client("127.0.0.1:8500") as client:
        scored = client.score("home", user=user, items={"item_id": [1, 2, 3], "price": [9.5, 3.0, None]})
        best = scored.score[:, 0].argmax()

None is a missing value.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import grpc
import numpy as np

from swrec_prod.errors import NotFoundError, RequestError, ServerError, SwrecError
from swrec_prod.serving.protocol import wire

Row = Mapping[str, Any]


class ScoredItems(NamedTuple):
    """The scores of one request: [N, T], T as in `tasks`. The logits are None where the model has no causal split.

    probability: of a positive label; score: what to rank by; see ranking.proto.
    """

    probability: np.ndarray
    score: np.ndarray
    interest_logit: np.ndarray | None
    scenario_logit: np.ndarray | None
    tasks: tuple[str, ...]
    model: str
    version: str
    debias_strength: float
    request_id: str
    scored_scenario: str
    fallback: bool


class Client:
    """One channel to `target` (host:port). timeout: seconds a call may take. Threads may share it."""

    def __init__(self, target: str, timeout: float = 5.0) -> None:
        self.target = target
        self.timeout = timeout
        self._channel = grpc.insecure_channel(target)
        self._score = self._channel.unary_unary(f"/{wire.SERVICE}/Score")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def score(
        self,
        scenario: str,
        user: Row,
        items: Mapping[str, Sequence[Any] | np.ndarray] | Sequence[Row],
        *,
        model: str = "",
        version: str = "",
        request_id: str = "",
        unit: str = "",
        debias_strength: float | None = None,
    ) -> ScoredItems:
        """Score N candidates.

        user: one value a feature (a list for bags and sequences, of lists where each behaviour has a bag); items: N
        values a feature, or N rows.

        None is an unknown value. Raises RequestError, NotFoundError with the server's message, ServerError when there
        is no server, it is too slow or has failed.
        """
        request = make_request(scenario, user, items, debias_strength=debias_strength)
        request.model, request.version, request.request_id, request.unit = model, version, request_id, unit
        return self.send(request)

    def send(self, request: Any) -> ScoredItems:
        """Score a wire.ScoreRequest. Raises as `score` does."""
        try:
            return _scored(self._score(request.SerializeToString(), timeout=self.timeout))
        except grpc.RpcError as failure:
            raise _as_our_error(failure, self.target, self.timeout) from None


def make_request(
    scenario: str,
    user: Row,
    items: Mapping[str, Sequence[Any] | np.ndarray] | Sequence[Row],
    debias_strength: float | None = None,
) -> Any:
    """A wire.ScoreRequest; arguments as in Client.score. Raises RequestError for values of mixed or unknown types."""
    if not isinstance(items, Mapping):
        items = _columns(items)
    request = wire.ScoreRequest(
        scenario=scenario,
        user=[column for name, value in user.items() for column in _wire_columns(name, [value])],
        items=[column for name, values in items.items() for column in _wire_columns(name, values)],
    )
    if debias_strength is not None:
        request.debias_strength = debias_strength
    return request


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    names = rows[0].keys() if rows else ()
    for i, row in enumerate(rows):
        if row.keys() != names:
            raise RequestError(
                f"items: row {i} has the features {sorted(row)}, row 0 {sorted(names)}; give every row the same"
            )
    return {name: [row[name] for row in rows] for name in names}


def _wire_columns(name: str, rows: Sequence[Any] | np.ndarray) -> list[Any]:
    """The columns of one feature: two where behaviours have lists of values, or some that are unknown."""
    if "." not in name or not any(_is_nested(row) for row in rows):
        return [_column(name, rows)]
    behaviours = [[_several(value) for value in row] for row in rows]
    flat = [[value for several in row for value in several] for row in behaviours]
    return [_column(name, flat), _column(f"{name}.length", [[len(several) for several in row] for row in behaviours])]


def _is_nested(row: Any) -> bool:
    """Whether a row's behaviours are lists, or missing."""
    return isinstance(row, (list, tuple)) and any(_is_unknown(v) or isinstance(v, (list, tuple)) for v in row)


def _several(value: Any) -> Sequence[Any]:
    if _is_unknown(value):
        return ()
    return value if isinstance(value, (list, tuple)) else (value,)


def _column(name: str, rows: Sequence[Any] | np.ndarray) -> Any:
    """A wire.Column of one value (or one list) a row."""
    if isinstance(rows, np.ndarray) and rows.dtype.kind in "iub" and rows.ndim == 1:
        return wire.Column(name=name, **_packed(name, rows))
    plain = [row.tolist() if isinstance(row, (np.ndarray, np.generic)) else row for row in rows]
    if any(isinstance(row, (list, tuple)) for row in plain):
        lists = [row or () for row in plain]
        lengths = [len(row) for row in lists]
        values = [value for row in lists for value in row]
        return wire.Column(name=name, lengths=np.array(lengths, wire.LENGTHS).tobytes(), **_typed(name, values))
    known = [not _is_unknown(row) for row in plain]
    lengths_of = {} if all(known) else {"lengths": np.array(known, wire.LENGTHS).tobytes()}
    return wire.Column(
        name=name, **lengths_of, **_typed(name, [row for row, is_known in zip(plain, known, strict=True) if is_known])
    )


def _is_unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _typed(name: str, values: list[Any]) -> dict[str, Any]:
    """The field of a Column that fits the values."""
    if all(isinstance(value, str) for value in values):
        return {"strings": values}
    if all(isinstance(value, numbers.Real) for value in values):
        return _packed(name, np.array(values))
    other = next(value for value in values if not isinstance(value, type(values[0])))
    raise RequestError(
        f"feature {name!r}: values are strings or numbers, all of one kind, not {values[0]!r} and {other!r}"
    )


def _packed(name: str, values: np.ndarray) -> dict[str, bytes]:
    if values.dtype.kind == "f":
        return {"floats": values.astype(wire.FLOATS).tobytes()}
    if values.dtype.kind == "O" or (values.dtype == np.uint64 and values.max(initial=0) >= 1 << 63):
        raise RequestError(f"feature {name!r}: {values.max()} does not fit a 64-bit integer")
    return {"ints": values.astype(wire.INTS).tobytes()}


def _scored(data: bytes) -> ScoredItems:
    reply = wire.ScoreResponse.FromString(data)

    def table(field: bytes) -> np.ndarray:
        return np.frombuffer(field, wire.SCORES).reshape(-1, len(reply.tasks))

    return ScoredItems(
        probability=table(reply.probability),
        score=table(reply.score),
        interest_logit=table(reply.interest_logit) if reply.interest_logit else None,
        scenario_logit=table(reply.scenario_logit) if reply.scenario_logit else None,
        tasks=tuple(reply.tasks),
        model=reply.model,
        version=reply.version,
        debias_strength=reply.debias_strength,
        request_id=reply.request_id,
        scored_scenario=reply.scored_scenario,
        fallback=reply.fallback,
    )


def _as_our_error(failure: Any, target: str, timeout: float) -> SwrecError:
    code, details = failure.code(), failure.details()
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFoundError(details)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return RequestError(details)
    if code is grpc.StatusCode.UNAVAILABLE:
        return ServerError(f"no server at {target}: {details}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServerError(f"no answer from {target} within {timeout:g} s")
    return ServerError(f"{target}: {code.name}: {details}")
