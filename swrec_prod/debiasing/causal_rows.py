"""Rows whose interest and scenario logits are known: a run's predictions, or any table of exposures that logged both.

    interest_logit, scenario_logit   y_m and y_s; with several tasks suffixed by the first one
    scenario, user                   what is blended, and whose rows make a page; `--page-by` names another column
    label_<task>                     what happened; a table without labels is replayed, and not judged
    row                              joins the simulator's truth

Shapes: N rows, S scenarios.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from swrec_prod.errors import DataError, nearest
from swrec_prod.evaluate.predictions import Split, codes_of, split_of, tasks_of
from swrec_prod.metrics.probabilities import sigmoid

NO_SPLIT = "no causal split (columns interest_logit and scenario_logit): set debias in the run file, or train mscan"


@dataclass(frozen=True, eq=False)
class CausalRows:
    """Rows and their causal split. label_N: of {0, 1}, or None; page_N: codes of whose page a row is on; user_N: codes
    of clusters; scenario_N: indices into scenarios; liked_N: the true probability of a click without direct effects,
    where it is known; random_N: which rows chance chose, where a column says so.
    """

    split: Split
    label_N: np.ndarray | None
    page_N: np.ndarray
    user_N: np.ndarray
    scenario_N: np.ndarray
    scenarios: tuple[str, ...]
    row_N: np.ndarray | None = None
    liked_N: np.ndarray | None = None
    random_N: np.ndarray | None = None

    @classmethod
    def of(cls, table: pa.Table, page_by: str = "user", random: str | None = None) -> CausalRows:
        """The first task of a table. Raises DataError for one without rows, split or column."""
        for name in ("scenario", page_by, *([random] if random else [])):
            if name not in table.column_names:
                raise DataError(f"no column {name!r}; {nearest(name, table.column_names)}")
        task = next(iter(tasks_of(table)), "")
        split = split_of(table, task)
        if split is None or not len(table):
            raise DataError(NO_SPLIT if len(table) else "there are no rows")
        _refuse_missing(split)
        page_N, (scenario_N, names) = codes_of(table, page_by)[0], codes_of(table, "scenario")
        return cls(
            split,
            table[f"label_{task}"].to_numpy().astype(np.float64) if task else None,
            page_N,
            codes_of(table, "user")[0] if "user" in table.column_names else page_N,
            scenario_N,
            tuple(names),
            table["row"].to_numpy() if "row" in table.column_names else None,
            random_N=_flags(table, random) if random else None,
        )

    def __len__(self) -> int:
        return len(self.page_N)

    def scores(self, c: float | np.ndarray) -> np.ndarray:
        """The ranking score for c, a number or [S]: float64 [N]."""
        return self.split.rescored(c[self.scenario_N] if isinstance(c, np.ndarray) else c)

    def take(self, at: np.ndarray) -> CausalRows:
        """Some of the rows. at: bool [N] or row numbers."""
        rows = {name: value[at] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, split=_taken(self.split, at), **rows)

    def mean_S(self, values_N: np.ndarray) -> np.ndarray:
        """The mean of a row value in each scenario; NaN in one without rows."""
        size = len(self.scenarios)
        rows_S = np.bincount(self.scenario_N, minlength=size)
        sums_S = np.bincount(self.scenario_N, values_N, minlength=size)
        return np.divide(sums_S, rows_S, out=np.full(size, np.nan), where=rows_S > 0)


def read_causal(path: Path, page_by: str = "user", random: str | None = None) -> CausalRows:
    """Of a Parquet file or folder. Raises DataError naming it when it cannot be read, or is not what `of` takes."""
    try:
        table = pq.ParquetDataset(path, partitioning=None).read()
        return CausalRows.of(table, page_by, random)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder") from None
    except pa.ArrowException as failure:
        raise DataError(f"{path}: cannot be read: {' '.join(str(failure).split())}") from None
    except DataError as failure:
        raise DataError(f"{path}: {failure}") from None


def with_truth(rows: CausalRows, folder: Path) -> CausalRows:
    """The rows with the simulator's truth: P(click) of each row without the scenario's direct effect.

    folder: the `truth` that `swrec simulate` wrote, or the folder that it is in. Raises DataError when it has not every
    row, or the rows have no numbers.
    """
    folder = folder / "truth" if (folder / "truth").is_dir() else folder
    if rows.row_N is None:
        raise DataError("the rows have no column 'row' to find their truth by")
    try:
        wanted = ds.field("row").isin(pa.array(np.unique(rows.row_N)))
        truth = ds.dataset(folder, format="parquet").to_table(["row", "interest"], filter=wanted).sort_by("row")
    except (pa.ArrowException, OSError, KeyError) as failure:
        raise DataError(f"{folder}: no truth of `swrec simulate` here: {' '.join(str(failure).split())}") from None
    if len(truth) != len(np.unique(rows.row_N)):
        raise DataError(f"{folder}: truth of {len(truth):,} of {len(rows):,} rows; is it of another simulation?")
    at_N = np.searchsorted(truth["row"].to_numpy(), rows.row_N)
    return replace(rows, liked_N=sigmoid(truth["interest"].to_numpy()[at_N]))


def _taken(split: Split, at: np.ndarray) -> Split:
    first = None if split.first is None else _taken(split.first, at)
    return Split(split.interest[at], split.scenario[at], first)


def _flags(table: pa.Table, column: str) -> np.ndarray:
    """bool [N]: where a column of 0 and 1, or of true and false, is true. Raises DataError where none or all are."""
    try:
        flag_N = table[column].cast(pa.float64()).fill_null(0).to_numpy() == 1
    except pa.ArrowException:
        raise DataError(f"column {column!r} is {table[column].type}, expected 0 and 1") from None
    if not flag_N.any():
        raise DataError(f"column {column!r}: no row of {len(table):,} is 1, so that there is no random exposure")
    return flag_N


def _refuse_missing(split: Split) -> None:
    for name, values_N in (("interest", split.interest), ("scenario", split.scenario)):
        missing = int((~np.isfinite(values_N)).sum())
        if missing:
            raise DataError(f"{name} logits: {missing:,} of {len(values_N):,} rows have no finite number")


def numbers_of(words: Sequence[str]) -> tuple[float, ...]:
    """The values of c that words like "-2" and "0,1,4" name, rising. Raises DataError for what is no number."""
    try:
        values = sorted({float(part) for word in words for part in word.split(",")} | {0.0})
    except ValueError:
        raise DataError(f"--c {' '.join(words)}: expected numbers, as in --c -2,0,2") from None
    if not np.isfinite(values).all():
        raise DataError(f"--c {' '.join(words)}: expected finite numbers")
    return tuple(values)
