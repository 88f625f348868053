"""One judged day of one model: predictions in, figures of every task and scenario out, and the day's folder.

    day=YYYY-MM-DD/day.json              JudgedDay, which backfill.json is made of
    day=YYYY-MM-DD/metrics.parquet       the same as a table:
        model, day, trained_through        who was judged, when, and the last day that it had seen
        task, part, scenario               of which rows: overall, macro (the mean of scenarios), or one scenario
        rows, positives, grouped_rows      how many; the last: in groups with both labels, which GAUC and NDCG are of
        auc, gauc, ...                     every metric; null where it has no value
        auc_low, auc_high                  the 95 % interval, of other users
        unknown                            share of the features' values that are unknown
    day=YYYY-MM-DD/scores.parquet        row, scenario, user and weight, and of every task label and logit:
                                         what differences of models are made of
    day=YYYY-MM-DD/piece.npz             what the rows add up to (metrics/pieces.py): what days are pooled by
    day=YYYY-MM-DD/predictions.parquet   on request: all that evaluate/predictions.py writes

The folder is committed by a rename: it is there whole, or not at all.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.errors import DataError
from swrec_prod.evaluate.judging import piece_of
from swrec_prod.evaluate.predictions import write_predictions
from swrec_prod.files import committed, read_json, write_json
from swrec_prod.judge.figures import COUNTS, AucIntervals, figures_of, scores_table, statistics_of
from swrec_prod.judge.record import Figures, JudgedDay
from swrec_prod.judge.unknown_shares import Unknown
from swrec_prod.metrics.pieces import Piece
from swrec_prod.metrics.summary import METRICS
from swrec_prod.strict import parse

DAY_FILE, METRICS_FILE, PIECE_FILE = "day.json", "metrics.parquet", "piece.npz"
SCORES_FILE, PREDICTIONS_FILE = "scores.parquet", "predictions.parquet"


def day_folder(out: Path, model: str, day: date) -> Path:
    """Where a day of a model lies."""
    return out / model / f"day={day}"


def is_judged(folder: Path) -> bool:
    """Whether the day is done."""
    return (folder / DAY_FILE).is_file()


def read_day(folder: Path) -> JudgedDay:
    """What `write_day` wrote. Raises DataError when it is damaged."""
    remedy = f"remove {folder} and run swrec backfill again"
    return parse(JudgedDay, read_json(folder / DAY_FILE, remedy=remedy), str(folder / DAY_FILE), DataError)


def read_scores(folder: Path) -> pa.Table:
    """The scores of a judged day, in the order of row ids."""
    return pq.read_table(folder / SCORES_FILE, partitioning=None)


def judged(table: pa.Table, day: date, seen: date | None, unknown: Unknown) -> tuple[JudgedDay, Piece]:
    """The figures of one day's predictions, and what its rows add up to. seen: the last day that the model knew."""
    piece, scores = piece_of(table), scores_table(table)
    intervals = AucIntervals(statistics_of(piece))
    intervals.add(scores)
    figures = figures_of(piece, intervals.found(), unknown)
    return JudgedDay(day=day, trained_through=seen, figures=tuple(figures), unknown_values=unknown.by_feature), piece


def write_day(folder: Path, model: str, day: JudgedDay, piece: Piece, table: pa.Table, *, predictions: bool) -> None:
    """Commit the folder of a judged day. table: its predictions, which are kept whole where `predictions` says so."""
    with committed(folder) as aside:
        pq.write_table(metrics_table(model, day), aside / METRICS_FILE)
        pq.write_table(scores_table(table), aside / SCORES_FILE, compression="zstd")
        write_piece(aside / PIECE_FILE, piece)
        if predictions:
            write_predictions(table, aside / PREDICTIONS_FILE)
        write_json(aside / DAY_FILE, day.model_dump(mode="json"))


def metrics_table(model: str, day: JudgedDay) -> pa.Table:
    """metrics.parquet."""
    known = {"model": model, "day": day.day, "trained_through": day.trained_through}
    return pa.Table.from_pylist([known | _row(figures) for figures in day.figures], METRICS_SCHEMA)


METRICS_SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("day", pa.date32()),
        ("trained_through", pa.date32()),
        *((name, pa.string()) for name in ("task", "part", "scenario")),
        *((name, pa.int64()) for name in COUNTS),
        *((name, pa.float64()) for name in (*METRICS, "auc_low", "auc_high", "unknown")),
    ]
)


def _row(figures: Figures) -> dict[str, Any]:
    plain = figures.model_dump(include={"task", "part", "scenario", "unknown", *COUNTS})
    low, high = figures.intervals.get("auc", (None, None))
    return plain | figures.metrics | {"auc_low": low, "auc_high": high}


def write_piece(path: Path, piece: Piece) -> None:
    """piece.npz: arrays alone, no objects."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **piece.to_arrays())


def read_piece(folder: Path) -> Piece:
    """What the rows of a judged day add up to."""
    with np.load(folder / PIECE_FILE, allow_pickle=False) as arrays:
        return Piece.from_arrays(arrays)
