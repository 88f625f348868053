"""Exact AUC of rows that are in 100 pieces, and never in memory together.

auc_merge_rows_per_s    rows a second, from labels and scores of every piece in memory, a piece after the other, to the
                        AUC of all; against scikit-learn's roc_auc_score on one piece
auc_merge_peak_gb       the most memory that the process of it held, pieces included
auc_merge_error         the AUC less that of scikit-learn, on as many rows as fit
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.record import Figure
from swrec_prod.metrics.auc_of_pieces import auc_of_pieces
from swrec_prod.metrics.ranks import RankStatistic

PIECES, ROWS, CLICK_RATE = 100, 1_000_000, 0.02
CORES = os.cpu_count() or 1
CHECKED = 3  # pieces that are held together and given to scikit-learn


def figures(quick: bool = False) -> Iterator[Figure]:
    """Measured in a process of its own, so that its memory is that of the merge alone."""
    rows = ROWS // 10 if quick else ROWS
    told = subprocess.run([sys.executable, "-m", __name__, str(rows)], check=True, stdout=subprocess.PIPE).stdout
    found = json.loads(told)
    reference = _reference_rows_per_second(rows)
    context = {"rows": PIECES * rows, "pieces": PIECES, **found}
    name = "scikit-learn's roc_auc_score on one piece"
    wanted = {} if quick else {"wanted": ">= 5e6", "held": "value"}
    yield Figure("auc_merge_rows_per_s", found["rows_per_s"], "rows/s", name, reference, context=context, **wanted)
    yield Figure("auc_merge_peak_gb", found["peak_gb"], "GB", "bound", 2.0, "<= 2", held="value", context=context)
    yield Figure("auc_merge_error", _error(rows), "", "scikit-learn", 0.0, "<= 1e-12", held="value")


def piece(number: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and float32 logits, as a model gives them: ties are rare, and clicks too."""
    draw = np.random.default_rng(number)
    labels = draw.random(rows, np.float32) < CLICK_RATE
    return labels, draw.standard_normal(rows, np.float32) + labels.astype(np.float32) - 4


def merged(pieces: int, rows: int) -> tuple[float, float]:
    """The AUC of all pieces, and the seconds that it took without the making of rows. Statistics are made by a thread
    a core, as ranks make theirs.
    """
    making = 0.0

    def made(numbers: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        nonlocal making
        started = time.perf_counter()
        found = list(pool.map(piece, numbers, [rows] * len(numbers)))
        making += time.perf_counter() - started
        return found

    def statistics() -> Iterator[RankStatistic]:
        for first in range(0, pieces, CORES):
            yield from pool.map(RankStatistic.of, *zip(*made(range(first, min(first + CORES, pieces))), strict=True))

    with ThreadPoolExecutor(CORES) as pool:
        started = time.perf_counter()
        value = auc_of_pieces(statistics())
        return value, time.perf_counter() - started - making


def _error(rows: int) -> float:
    columns = zip(*(piece(number, rows) for number in range(CHECKED)), strict=True)
    labels, logits = (np.concatenate(parts) for parts in columns)
    return abs(merged(CHECKED, rows)[0] - roc_auc_score(labels, logits))


def _reference_rows_per_second(rows: int) -> float:
    labels, logits = piece(0, rows)
    started = time.perf_counter()
    roc_auc_score(labels, logits)
    return rows / (time.perf_counter() - started)


def _main(rows: int) -> None:
    from swrec_prod.evaluate.run import peak_memory_gb

    value, seconds = merged(PIECES, rows)
    print(json.dumps({"auc": value, "rows_per_s": PIECES * rows / seconds, "peak_gb": peak_memory_gb()}))


if __name__ == "__main__":
    _main(int(sys.argv[1]))
