"""Tables of raw rows (a prepared folder's requests.parquet) through a running server,
and the answers against predictions.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.errors import DataError
from swrec_prod.files import replaced
from swrec_prod.schema import FeatureSchema
from swrec_prod.serving.client import Client, ScoredItems, make_request
from swrec_prod.serving.client.in_order import in_order

MAX_CANDIDATES = 1000
IN_FLIGHT = 4  # requests
TICK = 5.0  # seconds between two lines of progress
MICROSECONDS = pa.timestamp("us", "UTC")


class TableRequest(NamedTuple):
    """One request of a table. rows: positions of its N candidates; request: a wire.ScoreRequest."""

    rows: list[int]
    request: Any


class Served(NamedTuple):
    """Answers to a table. scores: `row` and the columns of a predictions file; latency_ms: [R], one a request."""

    scores: pa.Table
    latency_ms: np.ndarray


def requests_from_table(
    table: pa.Table, schema: FeatureSchema, max_candidates: int = MAX_CANDIDATES, limit: int = 0
) -> Iterator[TableRequest]:
    """The table as requests: rows that agree in user, scenario, time, user and context features are the candidates of
    one request.

    limit: about how many rows to take, a request of every scenario in turn; 0: all rows. Raises DataError naming a
    column that the table lacks.
    """
    of_user = _columns(schema, ("user", "context"))
    of_item = _columns(schema, ("item",))
    for name in ("user", "time", "scenario", *of_user, *of_item):
        if name not in table.column_names:
            raise DataError(
                f"the table has no column {name!r}; it needs user, time, scenario and every feature's raw values"
            )
    of_user += ["time"] if _has_moment(schema) else []
    columns = {name: _plain(table[name]) for name in ("user", "time", "scenario", *of_user, *of_item)}
    groups: dict[str, list[int]] = {}
    for i in range(len(table)):
        key = repr([columns[name][i] for name in ("user", "time", "scenario", *of_user)])
        groups.setdefault(key, []).append(i)
    requests = [
        group[start : start + max_candidates]
        for group in groups.values()
        for start in range(0, len(group), max_candidates)
    ]
    for rows in _in_turn(requests, columns["scenario"], limit) if limit else requests:
        user = {name: columns[name][rows[0]] for name in of_user}
        items = {name: [columns[name][i] for i in rows] for name in of_item}
        yield TableRequest(rows, make_request(columns["scenario"][rows[0]], user, items))


def _in_turn(requests: list[list[int]], scenario_N: list[str], limit: int) -> Iterator[list[int]]:
    """The first request of every scenario, then the second of every one, and so on, until they hold `limit` rows."""
    turns: Counter[str] = Counter()
    order = []
    for i, rows in enumerate(requests):
        order.append((turns[scenario_N[rows[0]]], i))
        turns[scenario_N[rows[0]]] += 1
    for _, i in sorted(order):
        if limit <= 0:
            return
        yield requests[i]
        limit -= len(requests[i])


def score_table(
    client: Client,
    table: pa.Table,
    schema: FeatureSchema,
    *,
    model: str = "",
    version: str = "",
    limit: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Served:
    """The scores of the table's rows (limit: as requests_from_table has it), in their order.

    say: gets lines of progress. Raises as Client.score does.
    """

    def ask(asked: TableRequest) -> tuple[list[int], ScoredItems, float]:
        asked.request.model, asked.request.version = model, version
        start = time.perf_counter()
        return asked.rows, client.send(asked.request), 1e3 * (time.perf_counter() - start)

    sent: list[int] = []
    latency_ms: list[float] = []
    parts: list[dict[str, np.ndarray]] = []
    told = time.monotonic()
    for rows, scored, milliseconds in in_order(ask, requests_from_table(table, schema, limit=limit), IN_FLIGHT):
        latency_ms.append(milliseconds)
        sent += rows
        parts.append(_named(scored))
        if time.monotonic() - told >= TICK:
            told = time.monotonic()
            say(f"{len(sent):,} of {limit or len(table):,} rows")
    order = np.argsort(sent)
    scores = {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]} if parts else {}
    return Served(pa.table({"row": table["row"].take(np.array(sent, np.int64)[order]), **scores}), np.array(latency_ms))


def score_folder(
    folder: Path,
    target: str,
    *,
    model: str = "",
    features: tuple[str, ...] = (),
    limit: int = 0,
    expect: Path | None = None,
    out: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Send the raw held-out rows of a prepared folder to a server.

    expect: a predictions file, whose rows alone are sent.

    features: those to send, for a model that was trained on some only (data.features); default: all of the schema. say:
    gets lines of progress.
    Returns rows, requests, p50_ms and p99_ms (of a request, milliseconds) and, with `expect`, max_abs_diff over all
    scores. Raises DataError for a folder without requests.parquet, or when it shares no row with `expect`.
    """
    table = read_rows(folder / "requests.parquet", "swrec prepare writes it")
    schema = schema_of(folder, features)
    predictions = None if expect is None else read_rows(expect, "swrec train and swrec evaluate write predictions")
    if predictions is not None:
        table = table.filter(pc.is_in(table["row"], predictions["row"].combine_chunks()))
    if not len(table):
        where = (
            f"none of its held-out rows is in {expect}; are they of the same prepared data?"
            if expect
            else "it holds no held-out row"
        )
        raise DataError(f"{folder}: {where}")
    with Client(target) as client:
        scored, latency_ms = score_table(client, table, schema, model=model, limit=limit, say=say)
    if out is not None:
        _write(scored, out)
    summary: dict[str, Any] = {"rows": len(scored), "requests": len(latency_ms)}
    summary |= {name: float(np.quantile(latency_ms, q)) for name, q in (("p50_ms", 0.5), ("p99_ms", 0.99))}
    if predictions is not None:
        summary["max_abs_diff"] = max(v for name, v in compare(scored, predictions).items() if name != "rows")
    return summary


def _write(table: pa.Table, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with replaced(out) as aside:
        pq.write_table(table, aside)


def schema_of(folder: Path, features: Sequence[str]) -> FeatureSchema:
    """The schema of a prepared folder. features: those that a model was trained on; none: all."""
    schema = FeatureSchema.load(folder / "schema.yaml")
    return schema.select(tuple(features)) if features else schema


def read_rows(path: Path, origin: str) -> pa.Table:
    """A table of numbered rows, in a file or a folder of parts. origin: what to tell who has none. Raises DataError."""
    if not path.exists():
        raise DataError(f"{path}: no such file; {origin}")
    try:
        table = pq.read_table(path, partitioning=None)
    except pa.ArrowInvalid as failure:
        raise DataError(f"{path}: not a Parquet file: {failure}") from None
    if "row" not in table.column_names:
        raise DataError(f"{path}: has no column 'row'; {origin}")
    return table


def compare(scored: pa.Table, predictions: pa.Table) -> dict[str, float]:
    """The largest absolute difference of every score that both tables have, over the rows that both have; and `rows`.

    A NaN on either side counts as an infinite difference.

    Raises DataError when they have no row or no score in common.
    """
    _, here, there = np.intersect1d(scored["row"].to_numpy(), predictions["row"].to_numpy(), return_indices=True)
    if not len(here):
        raise DataError("scored rows and predictions have no row in common; are they of the same prepared data?")
    names = [name for name in scored.column_names if name in predictions.column_names and name != "row"]
    if not names:
        columns = ", ".join(predictions.column_names)
        raise DataError(
            f"the predictions hold no score that the server gave, only {columns}; "
            "swrec evaluate --predictions writes them"
        )
    differences = {name: _values(scored, name, here) - _values(predictions, name, there) for name in names}
    return {
        "rows": float(len(here)),
        **{name: float(np.nan_to_num(np.abs(d), nan=np.inf).max()) for name, d in differences.items()},
    }


def _values(table: pa.Table, name: str, rows: np.ndarray) -> np.ndarray:
    return table[name].to_numpy()[rows]


def _columns(schema: FeatureSchema, sides: tuple[str, ...]) -> list[str]:
    """The raw columns, as requests.parquet has them, of the features of these sides."""
    names = [given.name for given in schema.inputs if given.side in sides]
    for sequence in (feature for feature in schema.of_kind("sequence") if feature.side in sides):
        names += [part.name for part in schema.parts[sequence.name] if part.name != f"{sequence.name}.age"]
        names += [f"{sequence.name}.scenario", *([f"{sequence.name}.time"] if sequence.age else [])]
    return names


def _has_moment(schema: FeatureSchema) -> bool:
    """Whether requests say their moment because ages of behaviours are read."""
    return any(feature.age for feature in schema.features)


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """Values as a request holds them: moments as microseconds since 1970."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        return column.cast(MICROSECONDS).cast(pa.int64()).to_pylist()
    if pa.types.is_list(kind) and pa.types.is_timestamp(kind.value_type):
        return column.cast(pa.list_(MICROSECONDS)).cast(pa.list_(pa.int64())).to_pylist()
    return column.to_pylist()


def _named(scored: ScoredItems) -> dict[str, np.ndarray]:
    """[N] columns under the names of a predictions file:
    prob_<task>, score_<task>, and the logits of a causal split.
    """
    columns: dict[str, np.ndarray] = {}
    for t, task in enumerate(scored.tasks):
        suffix = f"_{task}" if len(scored.tasks) > 1 else ""
        columns |= {f"prob_{task}": scored.probability[:, t], f"score_{task}": scored.score[:, t]}
        for name, logits in (("interest_logit", scored.interest_logit), ("scenario_logit", scored.scenario_logit)):
            if logits is not None:
                columns[name + suffix] = logits[:, t]
    return columns
