"""A simulated experiment as the two logs that a product has: one row an impression, and one row a click."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.judging.experiment_world import Traffic, simulate

START = pd.Timestamp("2024-03-01")
SCENARIOS = ("feed", "search")
COLUMNS: dict[str, Any] = {
    "name": "ranker",
    "unit": "user_id",
    "variant": "arm",
    "control": "old",
    "time": "ts",
    "scenario": "tab",
    "request": "request_id",
    "outcomes": {"request": "request_id", "unit": "user_id", "time": "ts", "id": "event_id", "pre_days": 14},
    "metrics": [{"name": "ctr", "value": "click", "per": "exposure"}],
}


@dataclass
class Logs:
    """Both logs. exposures: user_id, arm, ts, tab, request_id, differs.

    outcomes: event_id, request_id, user_id, ts, click.
    """

    exposures: pd.DataFrame
    outcomes: pd.DataFrame

    def write(self, folder: Path, columns: dict[str, Any]) -> tuple[Path, Path, Path]:
        """Paths of exposures, outcomes and the columns file."""
        paths = folder / "exposures.parquet", folder / "outcomes.parquet", folder / "columns.yaml"
        self.exposures.to_parquet(paths[0])
        self.outcomes.to_parquet(paths[1])
        paths[2].write_text(yaml.safe_dump(columns))
        return paths


def logs(seed: int = 0, users: int = 600, days: int = 4, lift: float = 0.0, fading: float = 0.0) -> Logs:
    """The logs of `simulate`d traffic; clicks come half a minute after their impression."""
    rng = np.random.default_rng(seed)
    traffic = simulate(rng, users, days, lift, fading)
    exposures = _impressions(traffic, rng)
    clicks = exposures[exposures.pop("clicked")]
    outcomes = pd.DataFrame(
        {"request_id": clicks.request_id, "user_id": clicks.user_id, "ts": clicks.ts + pd.Timedelta(seconds=30)}
    )
    before = np.repeat(np.arange(users), traffic.clicks_before_U)
    ago = pd.to_timedelta(rng.uniform(0, 10, len(before)), unit="D")
    past = pd.DataFrame({"request_id": "", "user_id": [f"u{u}" for u in before], "ts": START - ago})
    outcomes = pd.concat([outcomes, past], ignore_index=True)
    return Logs(exposures, outcomes.assign(click=1, event_id=[f"e{i}" for i in range(len(outcomes))]))


def _impressions(traffic: Traffic, rng: np.random.Generator) -> pd.DataFrame:
    users, days = traffic.shown_UD.shape
    shown = traffic.shown_UD.ravel()
    user, day = (np.repeat(index.ravel(), shown) for index in np.indices((users, days)))
    first = np.repeat(np.cumsum(shown) - shown, shown)
    clicked = np.arange(shown.sum()) - first < np.repeat(traffic.clicks_UD.ravel(), shown)
    times = pd.to_timedelta(day + rng.uniform(0, 0.9, len(day)), unit="D")
    return pd.DataFrame(
        {
            "user_id": [f"u{u}" for u in user],
            "arm": np.where(traffic.treated_U[user], "new", "old"),
            "ts": START + times,
            "tab": np.array(SCENARIOS)[(rng.random(len(user)) < 0.4).astype(int)],
            "request_id": [f"r{i}" for i in range(len(user))],
            "differs": rng.random(len(user)) < 0.3,
            "clicked": clicked,
        }
    )
