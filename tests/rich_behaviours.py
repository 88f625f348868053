"""Behaviours of which everything is known, in the log of dated_log, and what a naive loop says that they are."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from dated_log import SCHEMA, day

from swrec_prod.encoding.stable_hash import hash_integers
from swrec_prod.schema.feature import AGES

Row = dict[str, Any]
HOUR = 3600.0
SEQUENCES: list[dict[str, Any]] = [
    {"name": "seen", "fields": ["author", "near", "price"], "age": True, "max_length": 4},
    {
        "name": "clicks",
        "where": {"click": 1, "scenario": ["home", "cart"]},
        "fields": [
            {"name": "paid", "kind": "dense", "column": "price", "encoder": "minmax"},
            {"name": "sitting", "kind": "id", "column": "session", "encoder": {"kind": "vocab", "min_count": 3}},
            {"name": "kin", "kind": "bag", "column": "near", "encoder": "vocab"},
        ],
        "age": [HOUR, 5 * HOUR],
        "max_length": 3,
    },
    {
        "name": "skips",
        "where": {"click": 0},
        "fields": [{"name": "place", "shared_with": "city", "column": "scenario"}],
    },
    {"name": "buys", "where": "buy", "fields": ["visits"]},
]


def rich_schema() -> dict[str, Any]:
    """Keys of dated_log.SCHEMA to change."""
    plain = [feature for feature in SCHEMA["features"] if feature["kind"] != "sequence"]
    rest = {"kind": "sequence", "side": "user", "item": "item"}
    return {"features": [*plain, *(sequence | rest for sequence in SEQUENCES)]}


def behaviours_of(name: str, row: Row, rows: list[Row]) -> list[Row]:
    """The behaviours of a raw row, oldest first."""
    is_one = {
        "seen": lambda r: True,
        "clicks": lambda r: r["clicked"] == 1 and r["scenario"] in ("home", "cart"),
        "skips": lambda r: r["clicked"] == 0,
        "buys": lambda r: r["bought"],
    }[name]
    mine = [r for r in rows if r["user_id"] == row["user_id"] and r["time"] < row["time"] and is_one(r)]
    longest = next(sequence.get("max_length", 10**9) for sequence in SEQUENCES if sequence["name"] == name)
    return mine[-longest:]


class Reference:
    """What encoders fitted on the rows of the first two days make of raw values."""

    def __init__(self, rows: list[Row], fitted: int = 2) -> None:
        self.training = [r for r in rows if r["time"].date() <= day(fitted)]
        items = [r["item"] for r in self.training] + [i for r in self.training for i in r["near"] or ()]
        self.item = vocabulary(items)
        self.city = vocabulary([r["city"] for r in self.training] + [r["scenario"] for r in self.training])
        self.sitting = vocabulary([r["session"] for r in self.training], 3)
        self.kin = vocabulary([i for r in self.training for i in r["near"] or ()])
        self.scenario = vocabulary([r["scenario"] for r in rows])
        prices = [r["price"] for r in self.training if r["price"] is not None]
        self.mean, self.std, self.low, self.high = np.mean(prices), np.std(prices), min(prices), max(prices)

    def lists(self, name: str, row: Row, mine: list[Row]) -> dict[str, list[Any]]:
        """The prepared lists of a row's behaviours."""
        lists: dict[str, list[Any]] = {
            "item": [self.item.get(r["item"], 0) for r in mine],
            "scenario": [self.scenario[r["scenario"]] - 1 for r in mine],
        }
        if name in ("skips", "buys"):
            lists["time"] = [r["time"] for r in mine]
        if name == "seen":
            lists |= {"age": [bucket(AGES, row["time"], r["time"]) for r in mine]}
            lists |= {
                "author": [hashed(r["author"]) for r in mine],
                **bags("near", [r["near"] for r in mine], self.item),
            }
            lists |= {"price": [self.standard(r["price"]) for r in mine]}
        if name == "clicks":
            lists |= {"age": [bucket((HOUR, 5 * HOUR), row["time"], r["time"]) for r in mine]}
            lists |= {"paid": [self.minmax(r["price"]) for r in mine]}
            lists |= {"sitting": [self.sitting.get(r["session"], 0) for r in mine]}
            lists |= bags("kin", [r["near"] for r in mine], self.kin)
        if name == "skips":
            lists |= {"place": [self.city[r["scenario"]] for r in mine]}
        return lists

    def standard(self, price: float | None) -> float:
        return 0.0 if price is None else (price - self.mean) / self.std

    def minmax(self, price: float | None) -> float:
        price = self.mean if price is None else price
        return min(max((price - self.low) / (self.high - self.low), 0.0), 1.0)


def vocabulary(values: list[Any], min_count: int = 1) -> dict[Any, int]:
    """Ids by falling count, then by value."""
    counted = [(-n, value) for value, n in Counter(values).items() if value is not None and n >= min_count]
    return {value: i for i, (_, value) in enumerate(sorted(counted), 1)}


def bucket(boundaries: tuple[float, ...], now: datetime, then: datetime) -> int:
    return 1 + sum(limit <= (now - then).total_seconds() for limit in boundaries)


def hashed(value: int | None) -> int:
    return 0 if value is None else 1 + int(hash_integers(np.array([value]))[0] % np.uint64(7))


def bags(name: str, values: list[list[Any] | None], ids: dict[Any, int]) -> dict[str, list[int]]:
    """The values of all behaviours, and how many each has."""
    flat = [ids.get(value, 0) for bag in values for value in bag or ()]
    return {name: flat, f"{name}.length": [len(bag or ()) for bag in values]}


def raw_rows(raw: Path) -> list[Row]:
    """The rows with their users' attributes in order of (time, all columns by name), missing values last."""
    users = {row["user_id"]: row for row in pq.read_table(raw / "users.parquet").to_pylist()}
    files = sorted((raw / "log").rglob("*.parquet"))
    rows = [row for path in files for row in pq.ParquetFile(path).read().to_pylist()]
    rows = [{"city": None, "age": None} | row | users.get(row["user_id"], {}) for row in rows]
    return sorted(rows, key=lambda row: [row["time"], *(_rank(row[name]) for name in sorted(row))])


def _rank(value: Any) -> Any:
    return (value is None, [_rank(element) for element in value] if isinstance(value, list) else value)
