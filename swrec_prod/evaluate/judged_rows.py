"""Rows that are to be judged, as they are scored: what judging needs of them is kept, and nothing else.

Shapes: N rows of one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from swrec_prod.evaluate.judging import Judging, judged_columns, metrics_of
from swrec_prod.peers import ALONE, Peers

UNKNOWN = "unknown:"  # and a feature: whether its id is unknown in the row


class JudgedRows:
    """Takes predictions piece by piece; `metrics` are those of all of them."""

    def __init__(self, judging: Judging, peers: Peers = ALONE) -> None:
        self._judging, self._peers = judging, peers
        self._tables: list[pa.Table] = []

    def add(self, table: pa.Table, unknown: Mapping[str, np.ndarray]) -> None:
        """Some more rows. unknown: bool [N] by feature: whether its id is unknown."""
        kept = table.select(judged_columns(table.column_names, self._judging))
        for name, rows in unknown.items():
            kept = kept.append_column(UNKNOWN + name, pa.array(rows))
        self._tables.append(kept)

    def metrics(self) -> dict[str, Any]:
        """`metrics_of` all rows; and in `unknown_rows`, by feature, the figures of rows whose id is `unknown` and of
        those where it is `known`, where there are both.
        """
        own = [pa.concat_tables(self._tables)] if self._tables else []
        table = pa.concat_tables([of for rank in self._peers.to_all(own) for of in rank])
        flags = {name.removeprefix(UNKNOWN): table[name].to_numpy() for name in table.column_names if UNKNOWN in name}
        both = {name: rows for name, rows in flags.items() if rows.any() and not rows.all()}
        halves = {
            name: {
                half: self._overall(table.filter(pa.array(rows == (half == "unknown"))))
                for half in ("unknown", "known")
            }
            for name, rows in both.items()
        }
        return {**metrics_of(table, self._judging), "unknown_rows": halves}

    def _overall(self, table: pa.Table) -> dict[str, Any]:
        return metrics_of(table, self._judging)["overall"]
