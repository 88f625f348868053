"""`swrec off-policy`: the value of a policy, estimated from a log of another one, overall and part by part.

Estimators and what their intervals mean stand in statistics/off_policy.py. Rows that cannot be used are counted and
refused, never dropped: which rows are missing may have to do with what is estimated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from swrec_prod.errors import ConfigError, DataError, MetricError, nearest
from swrec_prod.evaluate.predictions import codes_of
from swrec_prod.statistics.off_policy import LoggedActions, OffPolicy

FEW_ROWS, FEW_REWARDS = 100, 10  # effective ones, below which an estimate is one of a few rows


class LogColumns(NamedTuple):
    """Which column of a log is what, as `LoggedActions.of` takes them. by: cuts the log into parts, None for none."""

    reward: str
    propensity: str
    target: str
    cluster: str | None = None
    predicted: str | None = None
    expected: str | None = None
    by: str | None = None


@dataclass(frozen=True)
class JudgedLog:
    """What a log says. overall: of all rows; parts: of the rows of each value of `by`, or why there is no estimate."""

    overall: OffPolicy
    parts: Mapping[str, OffPolicy | str]

    def to_json(self) -> dict[str, Any]:
        """off_policy.json; docs/off_policy.md says what its keys mean."""
        parts = {name: one if isinstance(one, str) else _record(one) for name, one in self.parts.items()}
        return {"overall": _record(self.overall), "parts": parts}


def judge_log(log: pa.Table, columns: LogColumns, clip: float | None = None) -> JudgedLog:
    """Raises DataError for a missing column or one without numbers, MetricError as `LoggedActions.of` does, overall."""
    arrays = {name: _array(log, column) for name, column in _numbers(columns).items()}
    if columns.cluster is not None:
        arrays["clusters"] = codes_of(_with(log, columns.cluster), columns.cluster)[0]
    overall = LoggedActions.of(**arrays).judged(clip)
    if columns.by is None:
        return JudgedLog(overall, {})
    code_N, names = codes_of(_with(log, columns.by), columns.by)
    return JudgedLog(overall, {name: _part(arrays, code_N == i, clip) for i, name in enumerate(names)})


def read_log(path: Path, columns: Sequence[str], where: Sequence[str] = ()) -> pa.Table:
    """The columns of a Parquet or CSV file or of a folder of them, of rows that all of `where`, COLUMN=VALUE, allow.

    Raises DataError when there is nothing to read, a column is missing, or no row is left; ConfigError for another
    form of `where`.
    """
    conditions = [_condition(word) for word in where]
    try:
        files = ds.dataset(path, format=_format(path))
        for name in (*columns, *(name for name, _ in conditions)):
            if name not in files.schema.names:
                raise DataError(f"{path}: column {name!r} is missing; {nearest(name, files.schema.names)}")
        table = files.to_table(sorted({*columns, *(name for name, _ in conditions)}))
    except (pa.ArrowException, OSError) as failure:
        raise DataError(f"{path}: cannot be read: {' '.join(str(failure).split())}") from None
    for name, value in conditions:
        table = table.filter(pc.equal(table[name].cast(pa.string()), value))
        if not table.num_rows:
            raise DataError(f"{path}: no row has {name} {value!r}")
    return table


def warnings_of(judged: OffPolicy) -> list[str]:
    """What a reader must know before the figures are believed."""
    weights, said = judged.weights, []
    if weights.is_off:
        said.append(
            f"weights have mean {weights.mean.value:.3f}, not 1: propensities or target are not those of this log, "
            "or the target takes actions that it never logged"
        )
    if weights.effective_rows < FEW_ROWS or weights.effective_rewards < FEW_REWARDS:
        said.append(
            f"of {weights.rows:,} rows only {weights.effective_rows:,.0f} count in effect, and "
            f"{weights.effective_rewards:,.0f} of the rewarded: a few rows make the estimate"
        )
    if weights.clipped_mass > 0:
        said.append(
            f"clipping at {weights.clip:g} cuts {weights.clipped_rows:,} weights and ignores "
            f"{weights.clipped_mass:.1%} of the target: with rewards up to 1 clipped_ips may be too low by that"
        )
    return said


def _part(arrays: Mapping[str, np.ndarray], own_N: np.ndarray, clip: float | None) -> OffPolicy | str:
    try:
        return LoggedActions.of(**{name: values[own_N] for name, values in arrays.items()}).judged(clip)
    except MetricError as failure:
        return str(failure)


def _numbers(columns: LogColumns) -> dict[str, str]:
    """The columns of numbers that are given, by what they are."""
    given = columns._asdict()
    return {name: given[name] for name in ("reward", "propensity", "target", "predicted", "expected") if given[name]}


def _with(log: pa.Table, column: str) -> pa.Table:
    if column not in log.column_names:
        raise DataError(f"the log has no column {column!r}; {nearest(column, log.column_names)}")
    return log


def _array(log: pa.Table, column: str) -> np.ndarray:
    """float64 [N], NaN where a value is missing. Raises DataError for a column that is missing or holds no numbers."""
    try:
        return _with(log, column)[column].cast(pa.float64()).to_numpy()
    except pa.ArrowException:
        raise DataError(f"column {column!r} is {log[column].type}, expected numbers") from None


def _condition(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not name or not equals:
        raise ConfigError(f"--where {word}: expected COLUMN=VALUE")
    return name, value


def _format(path: Path) -> str:
    """What `path` is read as."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    return "csv" if path.suffix == ".csv" or (path.is_dir() and any(path.rglob("*.csv"))) else "parquet"


def _record(judged: OffPolicy) -> dict[str, Any]:
    weights = judged.weights._asdict() | {"mean": judged.weights.mean._asdict()}
    return {
        "logged": judged.logged._asdict(),
        "estimates": {name: one._asdict() for name, one in judged.estimates.items()},
        "weights": weights,
        "warnings": warnings_of(judged),
    }
