"""Rows that are judged as they are scored: of all ranks, and of any number of days, though nobody holds all of them.

    predictions --> what judging needs of them, dealt out by group      shares/dealt_rows.py
                --> a Piece of each share: what is inside its groups    metrics/pieces.py
                --> the scores by range, and what they add up to        shares/all_pieces.py, all_scores.py
                --> metrics.json's figures                              metrics/summary.py

Figures are those of all rows at once; where every row counts once, AUC is to the bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from swrec_prod.data.familiar import Familiar
from swrec_prod.errors import MetricError
from swrec_prod.evaluate.judging import BITS, Judging, judged_columns, metrics_of_piece, piece_of
from swrec_prod.metrics.pieces import Piece
from swrec_prod.metrics.summary import record_of
from swrec_prod.peers import ALONE, Peers, of_all
from swrec_prod.shares.all_pieces import AllPieces
from swrec_prod.shares.dealt_rows import DealtRows

SEEN = "seen:"  # and a feature: in how many training rows the row's value is
AT_ONCE = 4_000_000  # rows that a rank judges at once, of some hundred bytes each


class JudgedRows:
    """Takes this rank's predictions table by table; `metrics` are those of the rows of all ranks.

    rows: how many there are, of all ranks, or more. at_once: how many of them a rank may hold; where its share is more,
    it is judged in turns, and waits on the disk, in the folder of temporary files. Leaving the block removes that.
    """

    def __init__(self, judging: Judging, rows: int, peers: Peers = ALONE, at_once: int = AT_ONCE) -> None:
        self._judging, self._peers, self._stack = judging, peers, ExitStack()
        turns = max(1, -(-rows // (at_once * peers.world_size)))
        temporary = tempfile.TemporaryDirectory(prefix="swrec-judged-") if turns > 1 else None
        folder = Path(self._stack.enter_context(temporary)) if temporary else None
        self._dealt = DealtRows(judging.group_by, peers, turns, folder)
        self._pieces = AllPieces(peers, turns, folder)
        self._weighted = False

    def __enter__(self) -> JudgedRows:
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def add(self, table: pa.Table, familiar: Familiar) -> None:
        """Some more rows, and how well training knew what they are about."""
        self._weighted = self._judging.weighted and "weight" in table.column_names
        kept = table.select(judged_columns(table.column_names, self._judging))
        for name, times in familiar.times.items():
            kept = kept.append_column(SEEN + name, pa.array(times))
        if familiar.bits is not None:
            kept = kept.append_column(BITS, pa.array(familiar.bits))
        self._dealt.add(kept)

    def metrics(self) -> dict[str, Any]:
        """`metrics_of` all rows; and by feature, where there are both, the figures of the rows apart: in `unknown_rows`
        of those whose id is `unknown` and of those where it is `known`, in `cold_rows` of those whose value is in few
        training rows, `cold`, and of the others, `warm`; in `scenarios` the same of each that has such rows. The same
        on all ranks, which call this together, once.

        Raises MetricError where there are no rows.
        """
        for table in self._dealt.shares():
            of_all(self._peers, partial(self._judge, table))
        whole, weighted = self._pieces.whole(), any(self._peers.to_all(self._weighted))
        if whole is None:
            raise MetricError("there are no rows to judge")
        figures = metrics_of_piece(whole, self._judging, weighted=weighted)
        return {
            **figures,
            "unknown_rows": _halves(whole, "unknown", "known"),
            "cold_rows": _halves(whole, "cold", "warm"),
        }

    def _judge(self, table: pa.Table | None) -> None:
        """Keep what a share of the rows adds up to."""
        if table is None:
            return
        piece = piece_of(table, self._judging)
        for name in table.column_names:
            if name.startswith(SEEN):
                for half, rows in _rows_apart(table[name].to_numpy(), self._judging.cold_below).items():
                    if rows.any():
                        part = table.filter(pa.array(rows)).drop_columns(list({"item", BITS} & {*table.column_names}))
                        piece.apart[f"{name.removeprefix(SEEN)}/{half}"] = piece_of(part, self._judging)
        self._pieces.add(piece)


def _rows_apart(times_N: np.ndarray, cold_below: int) -> dict[str, np.ndarray]:
    """bool [N] each."""
    unknown, cold = times_N == 0, times_N < cold_below
    return {"unknown": unknown, "known": ~unknown, "cold": cold, "warm": ~cold}


def _halves(whole: Piece, *halves: str) -> dict[str, Any]:
    """By feature, the figures of the rows of either half, where there are both; and by scenario."""
    features = dict.fromkeys(name.rpartition("/")[0] for name in whole.apart)
    found = {of: {half: f"{of}/{half}" for half in halves if f"{of}/{half}" in whole.apart} for of in features}
    return {
        feature: _half_records({half: record_of(whole.apart[name]) for half, name in names.items()})
        for feature, names in found.items()
        if len(names) == len(halves)
    }


def _half_records(records: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Of each half all rows, and in `scenarios` of each scenario the halves that have rows in it."""
    scenarios: dict[str, dict[str, Any]] = {}
    for half, record in records.items():
        for name, of in record["scenarios"].items():
            if of["rows"]:
                scenarios.setdefault(name, {})[half] = of
    overall = {half: record["overall"] for half, record in records.items()}
    return {**overall, "scenarios": dict(sorted(scenarios.items()))}
