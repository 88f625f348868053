"""The predictions file: one row a scored candidate, everything that judging it later needs, no inference.

    row int64, day string, scenario string, user      who was shown what, where and when
    time timestamp, request string, item, weight      the same, where the prepared folder has it; item as in the raw log
    <column>                                          one that the data file's `keep` names, as in the raw log
    label_<task>, prob_<task>, score_<task>           what happened, the calibrated probability, the ranking score
    interest_logit, scenario_logit                    models with the causal split; suffixed _<task> with several tasks
    logit_<task>_given_<first>                        tasks that follow another (the schema's `after`):
                                                      of P(task | first)

With the split, logit = interest * sigmoid(scenario) and score = sigmoid(scenario) * (interest - c), so that any other c
can be tried on the file (`rescored`). Without it, score is the logit.

Of a task that follows another one, prob is that of every row, P(first) P(task | first), and score the chain of both
tasks' scores. Its causal split is of P(task | first) alone, and the last column names the task that it follows.

Shapes: N rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.data.day_files import TASK_COLUMNS
from swrec_prod.errors import DataError, nearest
from swrec_prod.files import replaced
from swrec_prod.metrics.probabilities import sigmoid

KEYS = ("row", "day", "scenario", "user")


class Split(NamedTuple):
    """The causal split of one task.

    interest: y_m, scenario: y_s; float64 [N] logits. first: that of the task that it follows.
    """

    interest: np.ndarray
    scenario: np.ndarray
    first: Split | None = None

    def rescored(self, c: float | np.ndarray) -> np.ndarray:
        """The ranking score sigmoid(y_s) * (y_m - c) (M-scan eq. 12) for another counterfactual reference c,
        chained with the first's.
        """
        own = sigmoid(self.scenario) * (self.interest - c)
        return own if self.first is None else _both(self.first.rescored(c), own)


def predictions_table(
    *,
    row: np.ndarray,
    day: Sequence[str] | pa.Array | pa.ChunkedArray,
    user: Sequence[Any] | pa.Array | pa.ChunkedArray,
    scenario: Sequence[str] | pa.Array | pa.ChunkedArray,
    labels_NT: np.ndarray,
    logit_NT: np.ndarray,
    tasks: Sequence[str],
    after: Sequence[int] = (),
    interest_NT: np.ndarray | None = None,
    scenario_NT: np.ndarray | None = None,
    c: float | Mapping[str, float] = 0.0,
    more: Mapping[str, pa.ChunkedArray] | None = None,
) -> pa.Table:
    """The predictions of N rows as a table.

    row: int64 [N]; day, user, scenario: columns of N values; labels_NT of {0, 1}; logit_NT of the labels. after:
    FeatureSchema.after. interest_NT, scenario_NT: y_m and y_s (both or neither), [N, 0] the latter without the causal
    split; needed with it, and where a task follows another. c: the counterfactual reference, one or one a scenario
    value. more: columns of N values beside these, by name. Raises DataError when the shapes do not fit, or c lacks a
    scenario.
    """
    if labels_NT.shape != (len(row), len(tasks)) or logit_NT.shape != labels_NT.shape:
        raise DataError(
            f"predictions: labels {labels_NT.shape} and logits {logit_NT.shape} "
            f"are not {len(row)} rows of {', '.join(tasks)}"
        )
    if (interest_NT is None) != (scenario_NT is None):
        raise DataError("predictions: the causal split needs interest and scenario logits, and only one is given")
    if interest_NT is None and max(after, default=-1) >= 0:
        raise DataError("predictions: a task follows another, and its own logits (interest) are not given")
    columns: dict[str, Any] = dict(zip(KEYS, (row, day, scenario, user), strict=True)) | dict(more or {})
    c_N = c if isinstance(c, (int, float)) else _of_scenario(c, scenario)
    splits = _splits(interest_NT, scenario_NT, after)
    for t, task in enumerate(tasks):
        logit = np.asarray(logit_NT[:, t], np.float32)
        columns[f"label_{task}"] = np.asarray(labels_NT[:, t], np.float32)
        columns[f"prob_{task}"] = sigmoid(logit).astype(np.float32)
        columns[f"score_{task}"] = splits[t].rescored(c_N).astype(np.float32) if splits else logit
        if splits:
            columns |= dict(
                zip(_split_names(task, tasks), (half.astype(np.float32) for half in splits[t][:2]), strict=True)
            )
        if interest_NT is not None and after and after[t] >= 0:
            own = splits[t]._replace(first=None).rescored(0.0) if splits else interest_NT[:, t]
            columns[_given(task, tasks[after[t]])] = own.astype(np.float32)
    return pa.table(columns)


def write_predictions(table: pa.Table, path: str | Path) -> None:
    """Write `table` to `path`; a killed write leaves the old file or none."""
    with replaced(Path(path)) as aside:
        pq.write_table(table, aside, compression="zstd")


def read_predictions(path: str | Path, *, scores_only: bool = False) -> pa.Table:
    """The table at `path`, a file, or a folder of parts, whose rows are put in order. Raises DataError when it is
    missing, no Parquet, or lacks columns.

    scores_only: row ids, labels, scores and logits alone, which is what a further model says of rows that are known.
    """
    try:
        file = pq.ParquetDataset(path, partitioning=None)
        names = file.schema.names
        _check_columns(path, names)
        table = file.read([name for name in names if is_score(name) or not scores_only])
        return table.sort_by("row") if Path(path).is_dir() else table
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such predictions file; `swrec evaluate RUN_DIR --predictions {path}` writes it"
        ) from None
    except pa.ArrowInvalid as failure:
        raise DataError(f"{path}: not a Parquet file: {failure}") from None


def _check_columns(path: str | Path, names: Sequence[str]) -> None:
    tasks = _tasks_among(names)
    wanted = [*KEYS, *(f"{kind}_{task}" for task in tasks for kind in ("prob", "score"))]
    missing = [name for name in wanted if name not in names] + ([] if tasks else ["label_<task>"])
    if missing:
        raise DataError(f"{path}: predictions lack column {missing[0]!r}; {nearest(missing[0], names)}")


def is_score(name: str) -> bool:
    """Whether a column says what a model says of a row, or what happened; or which row it is."""
    return name == "row" or (name.startswith(TASK_COLUMNS) and not name.startswith("prob_"))


def tasks_of(table: pa.Table) -> tuple[str, ...]:
    """The tasks that a predictions table holds, in order."""
    return _tasks_among(table.column_names)


def first_of(table: pa.Table, task: str) -> str | None:
    """The task that `task` follows, or None for one that may happen by itself."""
    return next((first for first in tasks_of(table) if _given(task, first) in table.column_names), None)


def split_of(table: pa.Table, task: str) -> Split | None:
    """The causal split of `task`, with that of the task that it follows, or None for a model without one."""
    names, first = _split_names(task, tasks_of(table)), first_of(table, task)
    if not set(names) <= set(table.column_names):
        return None
    interest, scenario = (table[name].to_numpy().astype(np.float64) for name in names)
    return Split(interest, scenario, split_of(table, first) if first else None)


def logit_of(table: pa.Table, task: str) -> np.ndarray:
    """float64 [N]: the logit of the calibrated probability, without the rounding of `prob`."""
    split = split_of(table, task)
    return table[f"score_{task}"].to_numpy().astype(np.float64) if split is None else split.rescored(0.0)


def given_logit_of(table: pa.Table, task: str, first: str) -> np.ndarray:
    """float32 [N]: the logit of P(task | first), of every row."""
    return table[_given(task, first)].to_numpy()


def codes_of(table: pa.Table, column: str) -> tuple[np.ndarray, list[str]]:
    """A column as int64 [N] codes and the sorted values that they stand for; nulls are a value of their own, "null"."""
    values = pc.fill_null(table[column].cast(pa.string()), "null").combine_chunks().dictionary_encode()
    names = values.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return rank[values.indices.to_numpy()], [names[i] for i in order]


def weights_of(table: pa.Table) -> np.ndarray | None:
    """float64 [N]: what each row counts; None where every row counts once."""
    return table["weight"].to_numpy().astype(np.float64) if "weight" in table.column_names else None


def _of_scenario(c: Mapping[str, float], scenario: Any) -> np.ndarray:
    """c of each row, float64 [N]."""
    column = scenario if isinstance(scenario, (pa.Array, pa.ChunkedArray)) else pa.array(scenario, pa.string())
    codes, values = codes_of(pa.table({"scenario": column}), "scenario")
    for value in values:
        if value not in c:
            raise DataError(f"predictions: no c for scenario {value!r}; {nearest(value, c)}")
    return np.array([c[value] for value in values], np.float64)[codes]


def _splits(interest_NT: np.ndarray | None, scenario_NT: np.ndarray | None, after: Sequence[int]) -> list[Split]:
    """The causal split of each task, with that of the one that it follows; [] for a model without."""
    splits: list[Split] = []
    if interest_NT is None or scenario_NT is None or not scenario_NT.shape[1]:
        return splits
    for t in range(scenario_NT.shape[1]):
        first = splits[after[t]] if after and after[t] >= 0 else None
        splits.append(Split(interest_NT[:, t].astype(np.float64), scenario_NT[:, t].astype(np.float64), first))
    return splits


def _tasks_among(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.removeprefix("label_") for name in names if name.startswith("label_"))


def _both(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The logit of sigmoid(first) sigmoid(then), as blocks.entire_space.both; judging a file needs no torch."""
    return -np.logaddexp(np.logaddexp(-first, -then), -first - then)


def _given(task: str, first: str) -> str:
    return f"logit_{task}_given_{first}"


def _split_names(task: str, tasks: Sequence[str]) -> tuple[str, str]:
    ending = f"_{task}" if len(tasks) > 1 else ""
    return f"interest_logit{ending}", f"scenario_logit{ending}"
