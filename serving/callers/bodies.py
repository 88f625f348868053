"""Serialised requests for a load: real rows of a prepared folder, or made-up values of a model's columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swrec_prod.errors import DataError, NotFoundError, nearest
from swrec_prod.serving.callers.rows import read_rows, requests_from_table, schema_of
from swrec_prod.serving.client.reply import Input, ServedModel
from swrec_prod.serving.client.request import make_call, message_of, part_of, rows_of
from swrec_prod.serving.protocol.call import Column, ScoreCall, call_of

MOST = 500  # requests that a load sends in turn
IDS = 100_000  # ids of made-up requests are below
BEHAVIOURS, VALUES = 20, 3  # values of the user's and of a candidate's columns that hold several


def of_folder(folder: Path, model: str, features: Sequence[str], candidates: int) -> list[bytes]:
    """Held-out rows of a prepared folder, requests of all scenarios in turn.

    candidates: of each request, whose own are repeated; 0: as they are. Raises DataError.
    """
    table = read_rows(folder / "requests.parquet", "swrec prepare writes it")
    found = requests_from_table(table, schema_of(folder, features), limit=len(table))
    bodies = []
    for request in itertools.islice(found, MOST):
        call = call_of(request.request)
        call.model = model
        bodies.append(_serialised(with_candidates(call, candidates) if candidates else call))
    if not bodies:
        raise DataError(f"{folder}: it holds no held-out row")
    return bodies


def with_candidates(call: ScoreCall, candidates: int) -> ScoreCall:
    """The call with so many candidates: its own, from the first on again where they are too few."""
    times, rest = divmod(candidates, rows_of(call.items))
    parts = [call.items] * times + ([part_of(call, 0, rest).items] if rest else [])
    items = [_joined(columns) for columns in zip(*parts, strict=True)]
    return ScoreCall(
        call.model, call.version, call.scenario, call.request_id, call.unit, call.user, items, call.debias_strength
    )


def _joined(columns: Sequence[Column]) -> Column:
    """Rows of several columns of one feature, one after the other."""
    values = [column.values for column in columns]
    is_text = isinstance(values[0], list)
    lengths = [column.lengths for column in columns if column.lengths is not None]
    return Column(
        columns[0].name,
        list(itertools.chain.from_iterable(values)) if is_text else np.concatenate(values),
        np.concatenate(lengths) if lengths else None,
    )


def of_model(models: Sequence[ServedModel], model: str, candidates: int, seed: int = 0) -> list[bytes]:
    """Made-up requests to a model, of its scenarios in turn: nearly all ids are unknown to it, which costs as much.

    model: its name; empty: the only one. Raises NotFoundError.
    """
    served = {one.name: one for one in models if one.is_default}
    if model not in served and (model or len(served) != 1):
        raise NotFoundError(f"model {model!r}: {nearest(model, served)}")
    chosen = served[model] if model else next(iter(served.values()))
    draw = np.random.default_rng(seed)
    places = chosen.scenarios or ("",)
    return [_made_up(chosen, places[i % len(places)], max(1, candidates), draw) for i in range(min(MOST, 100))]


def _made_up(model: ServedModel, scenario: str, candidates: int, draw: np.random.Generator) -> bytes:
    user = {given.name: _user_value(given, model.scenarios, draw) for given in model.user}
    items: dict[str, Any] = {}
    for given in model.items:
        values = _values(given, model.scenarios, (candidates, VALUES) if given.several else (candidates,), draw)
        items[given.name] = values.tolist()
    return _serialised(make_call(scenario, user, items, model=model.name))


def _user_value(given: Input, scenarios: Sequence[str], draw: np.random.Generator) -> Any:
    values = _values(given, scenarios, (BEHAVIOURS if given.several else 1,), draw).tolist()
    return values if given.several else values[0]


def _values(given: Input, scenarios: Sequence[str], shape: tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
    if given.name.endswith(".scenario") and scenarios:
        return draw.choice(list(scenarios), shape)
    if given.type == "float64":
        return draw.random(shape)
    ids = draw.integers(0, IDS, shape)
    return ids.astype(str) if given.type == "string" else ids


def _serialised(call: ScoreCall) -> bytes:
    return message_of(call).SerializeToString()
