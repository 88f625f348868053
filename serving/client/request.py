"""The arguments of `score` as a request; whatever is wrong with them is a RequestError that names the feature."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from swrec_prod.errors import RequestError
from swrec_prod.serving.client.values import item_columns, shown, user_columns
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.protocol.call import Column, ScoreCall

Row = Mapping[str, Any]
Items = Mapping[str, Sequence[Any] | np.ndarray] | Sequence[Row]


def make_call(
    scenario: str,
    user: Row,
    items: Items,
    *,
    model: str = "",
    version: str | int = "",
    request_id: str = "",
    unit: str = "",
    debias_strength: float | None = None,
    forced: Mapping[str, str] | None = None,
) -> ScoreCall:
    """A request; arguments as in Client.score. Raises RequestError."""
    if not isinstance(user, Mapping):
        raise RequestError(f"user is {shown(user)}; give a mapping from a feature's name to its value")
    by_name = items if isinstance(items, Mapping) else _columns(items)
    texts = {
        "model": model,
        "version": version_text(version),
        "scenario": scenario,
        "request_id": request_id,
        "unit": unit,
    }
    checked = {name: checked_text(name, value) for name, value in texts.items()}
    call = ScoreCall(
        checked["model"],
        checked["version"],
        checked["scenario"],
        checked["request_id"],
        checked["unit"],
        [column for name, value in user.items() for column in user_columns(_name("user", name), value)],
        [column for name, values in by_name.items() for column in item_columns(_name("items", name), values)],
        _strength(debias_strength),
        forced=forced_variants(forced),
    )
    _check_rows(call.items)
    return call


def message_of(call: ScoreCall) -> Any:
    """The wire.ScoreRequest of a call. Raises RequestError naming the feature whose text is no Unicode."""
    request = wire.ScoreRequest(
        model=call.model,
        version=call.version,
        scenario=call.scenario,
        request_id=call.request_id,
        unit=call.unit,
        user=[_column(column) for column in call.user],
        items=[_column(column) for column in call.items],
    )
    if call.debias_strength is not None:
        request.debias_strength = call.debias_strength
    for experiment, variant in call.forced.items():
        request.forced.add(experiment=experiment, variant=variant)
    return request


def make_request(scenario: str, user: Row, items: Items, debias_strength: float | None = None) -> Any:
    """A wire.ScoreRequest for Client.send; arguments as in Client.score. Raises RequestError."""
    return message_of(make_call(scenario, user, items, debias_strength=debias_strength))


def part_of(call: ScoreCall, start: int, stop: int) -> ScoreCall:
    """The call for some of its candidates alone."""
    return ScoreCall(
        call.model,
        call.version,
        call.scenario,
        call.request_id,
        call.unit,
        call.user,
        _some(call.items, start, stop),
        call.debias_strength,
        forced=call.forced,
    )


def parts_of(call: ScoreCall, most: int) -> list[ScoreCall]:
    """The call as calls of at most so many candidates, of about the same size."""
    number = max(1, math.ceil(rows_of(call.items) / most))
    edges = np.linspace(0, rows_of(call.items), number + 1).astype(int)
    return [call] if number == 1 else [part_of(call, int(start), int(stop)) for start, stop in pairwise(edges)]


def rows_of(items: Sequence[Column]) -> int:
    """How many candidates there are."""
    counted = _counted(items)
    return _rows(counted[0]) if counted else 0


def _counted(items: Sequence[Column]) -> list[Column]:
    """The columns that say how many rows there are: not the values that another column cuts into behaviours."""
    cut = {column.name.removesuffix(".length") for column in items if column.name.endswith(".length")}
    return [column for column in items if column.name not in cut]


def _rows(column: Column) -> int:
    return len(column.values) if column.lengths is None else len(column.lengths)


def _check_rows(items: Sequence[Column]) -> None:
    counted = _counted(items)
    for column in counted:
        if _rows(column) != _rows(counted[0]):
            raise RequestError(
                f"items: feature {shown(column.name)} has {_rows(column)} rows, "
                f"but {shown(counted[0].name)} has {_rows(counted[0])}; give one for each candidate"
            )


def _some(items: Sequence[Column], start: int, stop: int) -> list[Column]:
    """Some rows of every column."""
    by_name = {column.name: column for column in items}
    return [_some_rows(column, by_name.get(f"{column.name}.length"), start, stop) for column in items]


def _some_rows(column: Column, behaviours: Column | None, start: int, stop: int) -> Column:
    """Some rows of a column. behaviours: what cuts its values into behaviours, and these into rows."""
    if behaviours is not None:
        first, last = _values_before(behaviours, start), _values_before(behaviours, stop)
        values_before = [int(np.asarray(behaviours.values[:at], wire.INTS).sum()) for at in (first, last)]
        return Column(column.name, column.values[slice(*values_before)], None)
    if column.lengths is None:
        return Column(column.name, column.values[start:stop], None)
    values = column.values[_values_before(column, start) : _values_before(column, stop)]
    return Column(column.name, values, column.lengths[start:stop])


def _values_before(column: Column, row: int) -> int:
    return row if column.lengths is None else int(column.lengths[:row].sum())


def _columns(rows: Any) -> dict[str, list[Any]]:
    """Rows, turned into columns."""
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise RequestError(
            f"items is {shown(rows)}; give a mapping from a feature's name to its N values, or N such rows"
        )
    names = rows[0].keys() if rows else ()
    for i, row in enumerate(rows):
        if row.keys() != names:
            raise RequestError(
                f"items: row {i} has the features {_sorted(row)}, row 0 {_sorted(names)}; give every row the same"
            )
    return {name: [row[name] for row in rows] for name in names}


def _sorted(names: Any) -> list[str]:
    return sorted(name if isinstance(name, str) else shown(name) for name in names)


def _column(column: Column) -> Any:
    """A wire.Column."""
    values = column.values
    if isinstance(values, list):
        field: dict[str, Any] = {"strings": values}
    else:
        field = {"floats" if values.dtype == wire.FLOATS else "ints": values.tobytes()}
    if column.lengths is not None:
        field["lengths"] = column.lengths.tobytes()
    try:
        return wire.Column(name=column.name, **field)
    except UnicodeEncodeError as failure:
        raise RequestError(
            f"feature {shown(column.name)}: {shown(failure.object)} is no Unicode text: {failure.reason}"
        ) from None


def _name(part: str, name: Any) -> str:
    if not isinstance(name, str):
        raise RequestError(f"{part}: {shown(name)} is no feature's name; names are strings")
    return checked_text(f"{part}: the feature", name)


def checked_text(what: str, value: Any) -> str:
    """The value, where it is text. Raises RequestError."""
    if not isinstance(value, str):
        raise RequestError(f"{what} is {shown(value)}, which is {type(value).__name__}; give a string")
    try:
        value.encode()
    except UnicodeEncodeError as failure:
        raise RequestError(f"{what} {shown(value)} is no Unicode text: {failure.reason}") from None
    return value


def forced_variants(forced: Any) -> dict[str, str]:
    """Variants by experiment, where they are that. Raises RequestError."""
    if forced is None:
        return {}
    if not isinstance(forced, Mapping):
        raise RequestError(f"forced is {shown(forced)}; give a mapping from an experiment to its variant")
    return {checked_text("forced: an experiment", k): checked_text("forced: a variant", v) for k, v in forced.items()}


def version_text(version: Any) -> Any:
    """Versions are positive integers, which may be given as such."""
    if isinstance(version, numbers.Integral) and not isinstance(version, bool):
        return str(int(version))
    return version


def _strength(strength: Any) -> float | None:
    if strength is None:
        return None
    try:
        if isinstance(strength, numbers.Real) and not isinstance(strength, bool):
            return float(strength)
    except OverflowError:
        pass
    raise RequestError(f"debias_strength is {shown(strength)}; give a finite number, or None for the package's own")
