"""Answers for the tests of the exposure log, and what is in a log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as dataset
from tiny_world import ITEMS, USER

from swrec_prod.experiments.assignment import Assignment
from swrec_prod.exposures.answer import Answer
from swrec_prod.exposures.bounds import Bounds
from swrec_prod.exposures.converter import convert_finished
from swrec_prod.exposures.log import Described, Log
from swrec_prod.exposures.schema import FeatureColumn
from swrec_prod.serving.client.request import make_request

REQUEST = make_request("home", USER, ITEMS)
COLUMNS = (
    FeatureColumn("user", "user_id", "string", False),
    FeatureColumn("user", "age", "int64", False),
    FeatureColumn("user", "hour", "float64", False),
    FeatureColumn("user", "history.item", "int64", True),
    FeatureColumn("user", "history.scenario", "string", True),
    FeatureColumn("items", "item_id", "int64", False),
    FeatureColumn("items", "tags", "string", True),
    FeatureColumn("items", "price", "float64", False),
)
PACKAGES = {"mscan/1": Described(("click", "buy"), COLUMNS)}
FIRST = Assignment("all", "rank", "strength", "high", 17)
SECOND = Assignment("all", "look", "order", "old", 9_000, forced=True)


def answer(number: int = 0, variants: Sequence[Assignment] = (FIRST,), **other: Any) -> Answer:
    """An answer of two candidates and two tasks, whose first score is `number`. other: its other fields."""
    scores = np.arange(4, dtype=np.float32).reshape(2, 2) + number
    fields = {
        "ts": time.time_ns() // 1000,
        "latency_us": 700,
        "request": REQUEST.SerializeToString(),
        "request_id": f"r-{number}",
        "unit": "u1",
        "scenario": "home",
        "scored_scenario": "home",
        "fallback": False,
        "variants": tuple(variants),
        "config_version": bytes(8),
        "model": "mscan",
        "model_version": "1",
        "debias_strength": 0.25,
        "sample_rate": 1.0,
        **dict.fromkeys(("probability", "score", "interest_logit", "scenario_logit"), scores),
    }
    return Answer(**{**fields, **other})


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """All rows of a log, by event id."""
    files = sorted(map(str, folder.rglob("*.parquet")))
    rows = dataset.dataset(files, format="parquet").to_table().to_pylist() if files else []
    return sorted(rows, key=lambda row: row["event_id"])


def logged(folder: Path, *answers: Answer, bounds: Bounds | None = None) -> Log:
    """A log of these answers, closed and converted."""
    of = Log(folder, PACKAGES, bounds)
    for one in answers:
        of.add(one)
    of.close()
    convert_finished(folder)
    return of
