"""A small backfill.json: two models, three days, three scenarios, one of them without clicks on the second day."""

from __future__ import annotations

from typing import Any

DAYS = ("2024-05-01", "2024-05-02", "2024-05-03")
SCENARIOS = ("home", "cart", "search")
METRICS = ("auc", "gauc", "ndcg", "logloss", "ne", "calibration", "ece")


def figures(part: str, auc: float | None, scenario: str | None = None, rows: int = 900) -> dict[str, Any]:
    """One row of metrics.parquet."""
    values = {name: None if auc is None else round(auc + 0.01 * i, 4) for i, name in enumerate(METRICS)}
    return {
        "task": "click",
        "part": part,
        "scenario": scenario,
        "rows": rows,
        "positives": 0 if auc is None else rows // 10,
        "grouped_rows": rows // 3,
        "metrics": values,
        "intervals": {} if auc is None or part == "macro" else {"auc": [auc - 0.02, auc + 0.02]},
        "reasons": {"auc": f"all {rows} labels are 0"} if auc is None else {},
        "unknown": 0.04,
    }


def parts(auc: float, no_clicks_in: str | None = None) -> list[dict[str, Any]]:
    """All parts of a day, or of all days."""
    each = [
        figures("scenario", None if name == no_clicks_in else auc - 0.02 * i, name, 300)
        for i, name in enumerate(SCENARIOS)
    ]
    return [figures("overall", auc), figures("macro", auc - 0.02), *each]


def model(name: str, auc: float) -> dict[str, Any]:
    days = [
        {
            "day": day,
            "trained_through": "2024-04-30",
            "figures": parts(auc - 0.01 * i, "search" if i == 1 else None),
            "unknown_values": {"item": 0.05 * i, "user": 0.01},
        }
        for i, day in enumerate(DAYS)
    ]
    return {"name": name, "kind": "run", "path": f"build/runs/{name}", "days": days, "pooled": parts(auc - 0.01)}


def contrast(value: float, scenario: str | None = None) -> dict[str, Any]:
    """mscan less shared_bottom."""
    days = [{"day": day, "value": value, "low": value - 0.02, "high": value + 0.02} for day in DAYS]
    return {
        "challenger": "mscan",
        "champion": "shared_bottom",
        "task": "click",
        "part": "scenario" if scenario else "overall",
        "scenario": scenario,
        "rows": 2700,
        "positives": 270,
        "users": 200,
        "value": value,
        "error": 0.004,
        "low": value - 0.008,
        "high": value + 0.008,
        "p": 0.01,
        "adjusted_p": 0.02,
        "significant": abs(value) > 0.008,
        "days": days,
        "gauc": {
            "users": 120,
            "value": value / 2,
            "error": 0.005,
            "low": value / 2 - 0.01,
            "high": value / 2 + 0.01,
            "p": 0.3,
            "adjusted_p": 0.4,
            "significant": False,
        },
    }


def verdict() -> dict[str, Any]:
    reason = {
        "check": "auc_loss",
        "passed": False,
        "task": "click",
        "scenario": "search",
        "found": -0.012,
        "allowed": -0.005,
        "text": "search loses 0.0120 of AUC, significantly; at most 0.0050 is allowed",
    }
    return {
        "verdict": "hold",
        "challenger": "mscan",
        "champion": "shared_bottom",
        "task": "click",
        "reasons": [reason],
        "gains": [contrast(0.02, "home")],
        "losses": [contrast(-0.012, "search")],
        "overall": contrast(0.01),
        "checks": 12,
        "rule": {"minimum_rows": 1000},
    }


def backfill() -> dict[str, Any]:
    """The whole of backfill.json."""
    return {
        "version": 1,
        "mode": "frozen",
        "days": list(DAYS),
        "window": None,
        "data": "build/data/shop",
        "data_fingerprint": "f00",
        "tasks": ["click"],
        "scenarios": list(SCENARIOS),
        "models": [model("shared_bottom", 0.7), model("mscan", 0.71)],
        "champion": "shared_bottom",
        "differences": [
            contrast(0.01),
            *(contrast(v, name) for v, name in zip((0.02, 0.001, -0.012), SCENARIOS, strict=True)),
        ],
        "verdict": verdict(),
        "skipped": ["2024-05-04"],
    }
