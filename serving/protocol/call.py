"""A request as the server works with it, whatever protocol it came by: raw columns over the message's own memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from swrec_prod.errors import RequestError, shown
from swrec_prod.serving.protocol.wire import FLOATS, INTS, LENGTHS

MOST_COLUMNS = 10_000  # of one part of a request, whatever the package knows: each costs a microsecond to look at


@dataclass(frozen=True)
class Limits:
    """What a request may hold at most; one above a limit is refused with an error that names the column.

    candidates: rows of items. behaviours: of one sequence, before it is cut to the latest that the model reads. values:
    of one row, or one behaviour, in a bag. text: characters of one string.
    """

    candidates: int = 1_000
    behaviours: int = 10_000
    values: int = 1_000
    text: int = 1_024


class Column(NamedTuple):
    """One feature's raw values, rows one after the other.

    values: int64, float64 (both read-only views of the message) or a list of str; an empty list where there are none.
    lengths: int32, how many values each row has; None where that is not said.
    """

    name: str
    values: np.ndarray | list[str]
    lengths: np.ndarray | None


@dataclass(slots=True)
class ScoreCall:
    """What is asked. debias_strength: None for the package's own. timeout: seconds in which the caller wants an answer,
    where the request itself says so; the deadline of its gRPC call holds beside it. forced: variants by experiment that
    the request gets whatever its unit.
    """

    model: str
    version: str
    scenario: str
    request_id: str = ""
    unit: str = ""
    user: list[Column] = field(default_factory=list)
    items: list[Column] = field(default_factory=list)
    debias_strength: float | None = None
    timeout: float | None = None
    forced: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many candidates the first column of items has, which admission counts with; 0 without any."""
        if not self.items:
            return 0
        first = self.items[0]
        return len(first.values) if first.lengths is None else len(first.lengths)


def call_of(request: Any) -> ScoreCall:
    """The call of a wire.ScoreRequest. Raises RequestError naming the column whose bytes are no numbers."""
    return ScoreCall(
        request.model,
        request.version,
        request.scenario,
        request.request_id,
        request.unit,
        _columns("user", request.user),
        _columns("items", request.items),
        request.debias_strength if request.HasField("debias_strength") else None,
        forced={variant.experiment: variant.variant for variant in request.forced},
    )


def _columns(part: str, columns: Any) -> list[Column]:
    if len(columns) > MOST_COLUMNS:
        raise RequestError(f"{part}: {len(columns)} columns, allowed are {MOST_COLUMNS}; send one a feature")
    return [_column(part, column) for column in columns]


def _column(part: str, column: Any) -> Column:
    name, ints, floats, strings = column.name, column.ints, column.floats, column.strings
    if bool(ints) + bool(floats) + bool(strings) > 1:
        filled = [field for field in ("ints", "floats", "strings") if getattr(column, field)]
        raise RequestError(
            f"{part}: feature {shown(name)} has {' and '.join(filled)}; fill one of ints, floats, strings"
        )
    values: np.ndarray | list[str] = []
    if strings:
        values = list(strings)
    elif floats:
        values = _numbers(part, name, "floats", floats, FLOATS)
    elif ints:
        values = _numbers(part, name, "ints", ints, INTS)
    lengths = column.lengths
    return Column(name, values, _numbers(part, name, "lengths", lengths, LENGTHS) if lengths else None)


def _numbers(part: str, name: str, field: str, data: bytes, kind: np.dtype) -> np.ndarray:
    if len(data) % kind.itemsize:
        raise RequestError(
            f"{part}: feature {shown(name)}: {field} has {len(data)} bytes, which is no multiple of {kind.itemsize}"
        )
    return np.frombuffer(data, kind)
