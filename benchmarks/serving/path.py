"""Milliseconds of one request in process, without sockets: where they go between its bytes and those of the answer.

serving_own_ms_n<N>     all but the forward: parse, encode, reply; SharedBottom with 8 integer id columns, 3 of the user
serving_path_ms_n<N>    the whole way; its context has the parts
mscan_own_ms_n<N>       M-scan over the same columns and 50 behaviours
mscan_path_ms_n<N>

One thread. A part's time is the median of many calls, taken inside whole requests: alone it would find its data in the
cache.
"""

from __future__ import annotations

import tempfile
import time
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.record import Figure, report
from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.export.run import export_package
from swrec_prod.ranker import build_ranker, resolve_run
from swrec_prod.schema import FeatureSchema
from swrec_prod.serving.client import make_request
from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.routing.router import Routed, Router
from swrec_prod.serving.scoring.predictor import Predictor
from swrec_prod.serving.scoring.unknown import UnknownIds
from swrec_prod.serving.service.ranking import parse, response

SIZES = (10, 100, 1000)
HEIGHT, BEHAVIOURS = 10_000, 50
OF_USER, OF_ITEM = ("user_id", "segment", "city"), ("item_id", "author", "category", "brand", "shop")
SCENARIOS = ("home", "cart", "search")
CALLS = 1000
WANTED = "<= 0.15"  # milliseconds, of serving_own_ms_n100


def main() -> None:
    """Measure and report."""
    torch.set_num_threads(1)
    report("bench-serving", figures(), {"threads": 1})


def figures() -> list[Figure]:
    """All of them, over packages made for it."""
    with tempfile.TemporaryDirectory() as folder:
        return [figure for model in ("shared_bottom", "mscan") for figure in _of_model(model, Path(folder) / model)]


def make_package(model: str, folder: Path) -> Path:
    """The repository of an untrained model whose score takes the work of a trained one's."""
    schema, rows = _schema(), _rows(64)
    counted = pa.table({"value": np.arange(HEIGHT), "count": np.full(HEIGHT, 9)})
    encoders = Encoders.of_counts(schema, dict.fromkeys((*OF_USER, *OF_ITEM), counted), {}, {})
    encoders.save(folder)
    pq.write_table(rows, folder / "requests.parquet")
    catalog = Catalog(folder, encoders.schema, (), records=(), fingerprint=encoders.fingerprint(), has_split=False)
    run = {"data": {"path": str(folder), "split": "random"}, "model": {"name": model}}
    config = RunConfig.model_validate(run | ({"debias": {"c": 0.0}} if model == "mscan" else {"debias": None}))
    export_package(build_ranker(resolve_run(encoders.schema, config)), config, catalog, folder / "repo" / model, "none")
    return folder / "repo"


def message(candidates: int, seed: int = 0) -> bytes:
    """A serialised request of so many candidates."""
    draw = np.random.default_rng(seed)
    user: dict[str, Any] = {name: int(draw.integers(HEIGHT)) for name in OF_USER}
    user["history.item"] = draw.integers(0, HEIGHT, BEHAVIOURS).tolist()
    user["history.scenario"] = draw.choice(SCENARIOS, BEHAVIOURS).tolist()
    items = {name: draw.integers(0, HEIGHT, candidates) for name in OF_ITEM}
    return make_request("home", user, items).SerializeToString()


def _of_model(model: str, folder: Path) -> list[Figure]:
    folder.mkdir()
    router, short = Router.load(make_package(model, folder)), "serving" if model == "shared_bottom" else model
    found = []
    for candidates in SIZES:
        parts = _parts(router, message(candidates), with_history=model == "mscan")
        own = parts["whole"] - parts["forward"]
        wanted = WANTED if (short, candidates) == ("serving", 100) else ""
        context = {**parts, "candidates": candidates, "columns": len(OF_USER) + len(OF_ITEM), "threads": 1}
        for name, value in (("own", own), ("path", parts["whole"])):
            is_wanted = wanted if name == "own" else ""
            figure = f"{short}_{name}_ms_n{candidates}"
            found.append(Figure(figure, value, "ms", "forward", parts["forward"], is_wanted, "value", context))
    return found


def _parts(router: Router, data: bytes, *, with_history: bool) -> dict[str, float]:
    """Milliseconds of parse, encode, forward, reply (with routing), and of the whole."""
    data = data if with_history else _without_history(data)
    predictor: Predictor = router.route(parse(data)).predictor
    predictor.encoder.unknown = UnknownIds("path", dict.fromkeys((*OF_USER, *OF_ITEM), 0.0))
    timed = {"encode": _Timed(predictor.encoder.encode), "forward": _Timed(predictor.forward)}
    whole, parsed = _Timed(_answered), _Timed(parse)
    with ExitStack() as patches:
        patches.enter_context(patch.object(predictor.encoder, "encode", timed["encode"]))
        patches.enter_context(patch.object(predictor, "forward", timed["forward"]))
        for _ in range(CALLS):
            call = parsed(data)
            whole(call, router.route(call))
    parts = {"parse": parsed.milliseconds(), **{name: part.milliseconds() for name, part in timed.items()}}
    reply = whole.milliseconds() - parts["encode"] - parts["forward"]
    return parts | {"reply": reply, "whole": parts["parse"] + whole.milliseconds()}


def _answered(call: ScoreCall, routed: Routed) -> bytes:
    """What a worker does with a call in its turn."""
    return response(call, routed, routed.predictor.score(call, routed.scenario, routed.strength))


class _Timed:
    """A function, and how long each call took."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self._seconds = function, array("d")

    def __call__(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        result = self._function(*arguments)
        self._seconds.append(time.perf_counter() - start)
        return result

    def milliseconds(self) -> float:
        """The median."""
        return 1e3 * float(np.median(self._seconds))


def _without_history(data: bytes) -> bytes:
    """The request of a service whose model reads no behaviours."""
    request = make_request("home", {}, {})
    request.ParseFromString(data)
    kept = [column for column in request.user if not column.name.startswith("history")]
    del request.user[:]
    request.user.extend(kept)
    return request.SerializeToString()


def _schema() -> FeatureSchema:
    plain = [
        {"name": name, "kind": "id", "side": "item" if name in OF_ITEM else "user", "encoder": "vocab"}
        for name in (*OF_USER, *OF_ITEM)
    ]
    history = {"name": "history", "kind": "sequence", "side": "user", "item": "item_id", "max_length": BEHAVIOURS}
    return FeatureSchema.model_validate(
        {
            "name": "path", "time": "time", "user": "user_id", "labels": [{"name": "click", "column": "click"}],
            "scenario": {"values": SCENARIOS}, "features": [*plain, history],
        }
    )  # fmt: skip


def _rows(rows: int) -> pa.Table:
    """Golden rows."""
    draw = np.random.default_rng(1)
    columns: dict[str, Any] = {name: draw.integers(0, HEIGHT, rows) for name in (*OF_USER, *OF_ITEM)}
    columns["history.item"] = [draw.integers(0, HEIGHT, BEHAVIOURS).tolist() for _ in range(rows)]
    columns["history.scenario"] = [draw.choice(SCENARIOS, BEHAVIOURS).tolist() for _ in range(rows)]
    columns["history.time"] = [list(range(BEHAVIOURS)) for _ in range(rows)]
    return pa.table(
        {"row": np.arange(rows), "time": np.arange(rows), "user": columns["user_id"],
         "scenario": [SCENARIOS[i % 3] for i in range(rows)], **columns}
    )  # fmt: skip


if __name__ == "__main__":
    main()
