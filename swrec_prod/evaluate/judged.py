"""The predictions of one task, cut by scenario, busiest first: what the pictures of a report are drawn from.

Shapes: N rows, S scenarios that have rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from swrec_prod.errors import MetricError
from swrec_prod.evaluate.predictions import Split, codes_of, logit_of, split_of, tasks_of, weights_of
from swrec_prod.evaluate.text import axis_names

MAX_BARS = 30  # scenarios in a picture with one line each
MAX_CURVES = 6  # scenarios in a picture with one colour each


@dataclass(frozen=True)
class Judged:
    """labels, logits: float64 [N]; weights: float64 [N], or None where every row counts once; split: y_m and y_s or
    None; names: S scenario values by falling rows, scenarios: int64 [N] indices into names; parts: the row numbers of
    each scenario.
    """

    task: str
    labels: np.ndarray
    logits: np.ndarray
    weights: np.ndarray | None
    split: Split | None
    names: list[str]
    scenarios: np.ndarray
    parts: list[np.ndarray]

    @classmethod
    def of(cls, table: pa.Table) -> Judged:
        """The first task of a predictions table with rows. Raises MetricError when a logit is not a finite number."""
        task = tasks_of(table)[0]
        codes, values = codes_of(table, "scenario")
        rows = np.bincount(codes, minlength=len(values))
        busiest = np.argsort(-rows, kind="stable")
        scenarios = np.argsort(busiest)[codes]
        parts = np.split(np.argsort(scenarios, kind="stable"), np.cumsum(rows[busiest])[:-1])
        labels = table[f"label_{task}"].to_numpy().astype(np.float64)
        logits = logit_of(table, task)
        if not np.isfinite(logits).all():
            raise MetricError(
                f"{(~np.isfinite(logits)).sum()} of {len(logits)} scores of {task} are not finite numbers"
            )
        weights = weights_of(table)
        return cls(task, labels, logits, weights, split_of(table, task), [values[i] for i in busiest], scenarios, parts)

    @property
    def axis_names(self) -> list[str]:
        """Names short enough for an axis."""
        return axis_names(self.names)

    @property
    def rows_S(self) -> np.ndarray:
        """Rows of each scenario."""
        return np.array([len(part) for part in self.parts])

    def weights_in(self, part: np.ndarray) -> np.ndarray | None:
        """The weights of some rows, as metrics take them."""
        return None if self.weights is None else self.weights[part]

    def mean_S(self, values: np.ndarray) -> np.ndarray:
        """The mean of a row value in each scenario; values: [N]."""
        return np.bincount(self.scenarios, values, minlength=len(self.names)) / self.rows_S

    def cut(self, limit: int) -> str:
        """The sentence that says which scenarios a picture of at most `limit` leaves out; empty when none."""
        return "" if len(self.names) <= limit else f" Shown are the {limit} busiest of {len(self.names)} scenarios."
