"""Finished runs on drawn test rows, as `swrec train` leaves them, without training: for the tests of comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from swrec_prod.config import RunConfig
from swrec_prod.evaluate.predictions import predictions_table, write_predictions

SCENARIOS = ("feed", "cart", "ads")
DAYS = {"train": "..2024-01-01", "valid": "2024-01-02", "test": "2024-01-03.."}


class World:
    """Test rows, and finished runs on them. quality: how much a run's logits know of the label."""

    def __init__(self, folder: Path, rows: int = 900, users: int = 60, seed: int = 3) -> None:
        self.folder, self.draw = folder, np.random.default_rng(seed)
        self.row = self.draw.permutation(5 * rows)[:rows]
        self.users = self.draw.integers(0, users, rows)
        self.scenario = np.minimum(self.draw.geometric(0.5, rows) - 1, 2)
        taste = self.draw.normal(size=users)[self.users]
        self.labels = (self.draw.random(rows) < 1 / (1 + np.exp(0.5 - taste))).astype(float)
        self.noise: dict[str, np.ndarray] = {}
        self.logits: dict[Path, np.ndarray] = {}

    def run(self, path: str, quality: float = 0.5, seed: int = 1, model: str | None = None, **more: Any) -> Path:
        """A finished RUN_DIR of `model` (default: named after the path's first part), whose seeds err alike."""
        model = model or path.split("/")[0]
        shared = self.noise.setdefault(model, self.draw.normal(size=len(self.row)))
        logits = quality * self.labels + shared + 0.3 * self.draw.normal(size=len(self.row))
        out = self.folder / path
        self.logits[out] = logits.astype(np.float32).astype(float)
        self.write(out, self.logits[out], **more)
        config = {"data": {"path": "data", "days": DAYS}, "model": {"name": model}, "train": {"seed": seed}}
        RunConfig.model_validate(config).save(out / "run.yaml")
        (out / "metrics.json").write_text("{}")
        return out

    def write(self, out: Path, logits: np.ndarray, order: np.ndarray | None = None, **more: Any) -> None:
        """predictions.parquet. order: of the rows in the file; more: other columns than the world's."""
        order = np.arange(len(self.row)) if order is None else order
        columns = {"row": self.row, "labels": self.labels, "users": self.users, "scenario": self.scenario, **more}
        at = {name: np.asarray(column)[order] for name, column in columns.items()}
        out.mkdir(parents=True, exist_ok=True)
        table = predictions_table(
            row=at["row"],
            day=pa.array(["2024-01-03"] * len(order)),
            user=pa.array([f"u{user}" for user in at["users"]]),
            scenario=pa.array([SCENARIOS[s] for s in at["scenario"]]),
            labels_NT=at["labels"][:, None],
            logit_NT=logits[order][:, None],
            tasks=("click",),
        )
        write_predictions(table, out / "predictions.parquet")

    def of(self, *paths: str) -> np.ndarray:
        """Logits [R, N] of runs."""
        return np.stack([self.logits[self.folder / path] for path in paths])

    def __truediv__(self, path: str) -> str:
        return str(self.folder / path)


def by_name(record: Mapping[str, Any]) -> dict[str, Any]:
    """The variants of compare.json."""
    return {variant["name"]: variant for variant in record["variants"]}
