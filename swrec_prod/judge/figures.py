"""Figures of every task and scenario, with intervals, from what rows add up to: of one day, or of all of them.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from swrec_prod.errors import SingleClassError
from swrec_prod.evaluate.predictions import codes_of, logit_of, tasks_of, weights_of
from swrec_prod.judge.record import Figures, PartName
from swrec_prod.judge.unknown_shares import Unknown
from swrec_prod.judge.user_sums import RowComponents, UserSums
from swrec_prod.metrics.pieces import Piece
from swrec_prod.metrics.ranks import Interval, RankStatistic, auc_interval_around
from swrec_prod.metrics.summary import METRICS, record_of

COUNTS = ("rows", "positives", "grouped_rows")
Part = tuple[str, str | None]  # a task and a scenario; None: all rows


def figures_of(piece: Piece, intervals: Mapping[Part, Interval], unknown: Unknown) -> Iterator[Figures]:
    """Of each task those of all rows, their mean over scenarios, and those of each scenario with rows."""
    record = record_of(piece)
    for task in piece.tasks:
        own = record["tasks"][task] if len(piece.tasks) > 1 else record
        yield _figures(task, "overall", None, own["overall"], intervals, unknown.overall)
        yield _figures(task, "macro", None, own["macro"], {}, None)
        for name, figures in own["scenarios"].items():
            if figures["rows"]:
                yield _figures(task, "scenario", name, figures, intervals, unknown.by_scenario.get(name))


class AucIntervals:
    """Intervals of the AUCs of some rows, with users as clusters over all days: the rows are shown a day at a time.

    statistics: of all of the rows, by task and scenario.
    """

    def __init__(self, statistics: Mapping[Part, RankStatistic]) -> None:
        self._statistics = statistics
        self._sums = {part: UserSums() for part in self._statistics}
        self._aucs: dict[Part, float] = {}

    def add(self, scores: pa.Table) -> None:
        """Rows of the piece, as in scores.parquet."""
        for part, at in parts_of(scores):
            if part in self._statistics:
                self._add(part, scores.take(at) if part[1] is not None else scores)

    def found(self) -> dict[Part, Interval]:
        """By task and scenario; those with fewer than two users of either label have none."""
        spreads = {part: self._sums[part].spread() for part in self._aucs}
        return {
            part: auc_interval_around(self._aucs[part], spread.error, spread.quantile())
            for part, spread in spreads.items()
            if spread is not None
        }

    def _add(self, part: Part, scores: pa.Table) -> None:
        labels, logits = labels_and_logits(scores, part[0])
        try:
            rows = RowComponents.of(self._statistics[part], labels, logits, weights_of(scores))
        except SingleClassError:
            return
        self._aucs[part] = rows.auc
        self._sums[part].add(scores["user"], labels, rows)


def statistics_of(piece: Piece) -> dict[Part, RankStatistic]:
    """Its scores by task and scenario, and over all rows."""
    found: dict[Part, RankStatistic] = {}
    for task, tally in piece.tasks.items():
        found[task, None] = tally.overall().scores
        found |= {(task, name): of.scores for name, of in tally.scenarios.items()}
    return found


def parts_of(scores: pa.Table) -> Iterator[tuple[Part, np.ndarray]]:
    """Every task and scenario of a day with the numbers of its rows; first, for scenario None, all of them."""
    codes, names = codes_of(scores, "scenario")
    order = np.argsort(codes, kind="stable")
    rows = np.split(order, np.searchsorted(codes[order], np.arange(1, len(names))))
    for task in tasks_of(scores):
        yield (task, None), np.arange(len(scores))
        yield from (((task, name), at) for name, at in zip(names, rows, strict=True))


def labels_and_logits(scores: pa.Table, task: str) -> tuple[np.ndarray, np.ndarray]:
    """float64 [N] both, of scores.parquet."""
    return scores[f"label_{task}"].to_numpy().astype(np.float64), scores[f"logit_{task}"].to_numpy()


def scores_table(table: pa.Table) -> pa.Table:
    """The columns of a predictions table that other days and models are compared by: scores.parquet."""
    columns = {name: table[name] for name in ("row", "scenario", "user", "weight") if name in table.column_names}
    for task in tasks_of(table):
        columns[f"label_{task}"] = table[f"label_{task}"].cast(pa.int8())
        columns[f"logit_{task}"] = pa.array(logit_of(table, task))
    return pa.table(columns)


def _figures(
    task: str,
    part: PartName,
    scenario: str | None,
    record: Mapping[str, Any],
    intervals: Mapping[Part, Interval],
    unknown: float | None,
) -> Figures:
    interval = intervals.get((task, scenario))
    return Figures(
        task=task,
        part=part,
        scenario=scenario,
        **{name: record[name] for name in COUNTS},
        metrics={name: record[name] for name in METRICS},
        intervals={"auc": (interval.low, interval.high)} if interval else {},
        reasons=record.get("reasons", {}),
        unknown=unknown,
    )
