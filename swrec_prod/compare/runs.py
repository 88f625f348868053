"""Finished runs, read to be compared: which of them are seeds of one variant, their test rows once, and the scores of
every seed beside them.

Only predictions are read, so that runs of any strategy can be compared. Users and scenarios are those of the first run.

Shapes: N test rows, R seeds, S scenarios.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from swrec_prod.config import RunConfig
from swrec_prod.data.day_files import TASK_COLUMNS
from swrec_prod.errors import ConfigError, DataError, nearest
from swrec_prod.evaluate.predictions import Split, codes_of, logit_of, read_predictions, split_of, tasks_of
from swrec_prod.run_dir import RunDir

SEED_FOLDER = re.compile(r"(seed|run)?[-_.]?\d+")  # such a folder's name says nothing of what was trained
WITHOUT_EFFECT = ("train.seed", "debias.c")  # on what a variant's predictions mean: no probability depends on c
HELPS = (
    "compare runs on the same data and days, or score the same days with both: "
    "`swrec evaluate RUN_DIR --days A..B --predictions RUN_DIR/predictions.parquet`"
)


class SeedRun(NamedTuple):
    """One finished run. folder: RUN_DIR."""

    folder: Path
    seed: int


class Variant(NamedTuple):
    """Runs that differ in train.seed alone. settings: `section.key` -> value, of what their predictions depend on."""

    name: str
    runs: tuple[SeedRun, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class TestRows:
    """What all runs are judged by. row_N: ids; scenario_N: indices into scenarios; task: the first of the schema.

    cluster_N: ids of the rows that are not independent, of equal values in the column `clusters`; days: how many there
    are.
    """

    __test__ = False  # to pytest its name says otherwise

    task: str
    row_N: np.ndarray
    labels_N: np.ndarray
    user_N: np.ndarray
    scenario_N: np.ndarray
    scenarios: list[str]
    clusters: str
    cluster_N: np.ndarray
    days: int

    @classmethod
    def of(cls, table: pa.Table, clusters: str = "user") -> TestRows:
        """Of a predictions table. Raises ConfigError when it has no such column to cluster by."""
        task = tasks_of(table)[0]
        labels = table[f"label_{task}"].to_numpy().astype(np.float64)
        users, cluster_N = codes_of(table, "user")[0], _clusters(table, clusters)
        scenarios, days = codes_of(table, "scenario"), len(codes_of(table, "day")[1])
        return cls(task, table["row"].to_numpy(), labels, users, *scenarios, clusters, cluster_N, days)


@dataclass(frozen=True, eq=False)
class Scores:
    """A variant's finished seeds. logit_RN: of the calibrated probability; score_RN: what ranks, which differs where
    the causal split takes the scenario's part away; splits: that split of every seed, empty without one.
    """

    variant: str
    seeds: tuple[int, ...]
    logit_RN: np.ndarray
    score_RN: np.ndarray
    splits: tuple[Split, ...]


def variants_of(words: Sequence[str]) -> list[Variant]:
    """The variants that RUN_DIR or NAME=RUN_DIR, given by a user, make; in the order in which they begin.

    A name that is not given is that of the run's folder, or of the folder that all runs of the variant share, with as
    many folders above it as make it unique. A run that is given twice counts once; another one of a seed that its
    variant has already is a variant of its own. Raises ConfigError when runs of one given NAME are not seeds of one
    variant, CheckpointError for a folder without a finished run.
    """
    given: dict[Path, tuple[str, Path]] = {}
    for word in words:
        name, folder = _name_and_folder(word)
        given.setdefault(folder.resolve(), (name, folder))
    variants: list[Variant] = []
    for name, folder in given.values():
        config = _config_of_finished(RunDir(folder))
        run, settings = SeedRun(folder, config.train.seed), _settings(config)
        at = next((i for i, variant in enumerate(variants) if _takes(variant, name, run, settings)), None)
        if at is None:
            variants.append(Variant(name, (run,), settings))
        else:
            variants[at] = variants[at]._replace(runs=(*variants[at].runs, run))
    return _named(variants)


def read_scores(variants: Mapping[str, Sequence[SeedRun]], clusters: str = "user") -> tuple[TestRows, list[Scores]]:
    """The test rows, and the scores of at least one variant, by its name and runs.

    Raises DataError when predictions are missing or damaged, or two runs were not judged by the same rows, ConfigError
    when they have no column `clusters`.
    """
    first = next(iter(variants.values()))[0].folder
    rows = TestRows.of(read_predictions(RunDir(first).predictions_file), clusters)
    if not len(rows.row_N):
        raise DataError(f"{RunDir(first).predictions_file}: no rows to compare runs by")
    return rows, [_scores(name, runs, rows, first) for name, runs in variants.items()]


def _clusters(table: pa.Table, column: str) -> np.ndarray:
    """int64 [N]: one code for the rows of a value; a row without a value is a cluster of its own."""
    known = [name for name in table.column_names if not name.startswith(TASK_COLUMNS)]
    if column not in known:
        raise ConfigError(f"--clusters {column}: no such column of the predictions; {nearest(column, known)}")
    codes = codes_of(table, column)[0]
    return np.where(table[column].is_null().to_numpy(), len(codes) + np.arange(len(codes)), codes)


def _config_of_finished(run: RunDir) -> RunConfig:
    config = run.config()
    run.metrics()  # raises where training has not finished
    return config


def _name_and_folder(word: str) -> tuple[str, Path]:
    """The parts of NAME=RUN_DIR; "" for the name of a RUN_DIR alone, also of one that has a = in its path."""
    name, equals, folder = word.partition("=")
    if not equals or Path(word).is_dir():
        return "", Path(word)
    if not name or not folder:
        raise ConfigError(f"{word!r}: give RUN_DIR, or NAME=RUN_DIR")
    return name, Path(folder)


def _settings(config: RunConfig) -> dict[str, Any]:
    """`section.key` -> value, without what changes no meaning of the predictions."""
    sections = config.model_dump(mode="json", exclude={"export"})
    keys = {f"{section}.{key}": value for section, values in sections.items() for key, value in (values or {}).items()}
    return {key: value for key, value in keys.items() if key not in WITHOUT_EFFECT}


def _takes(variant: Variant, name: str, run: SeedRun, settings: Mapping[str, Any]) -> bool:
    """Whether `run` is one more seed of `variant`. Raises ConfigError where its name says so and it is not."""
    if variant.name != name:
        return False
    reason = _why_not(variant, run, settings)
    if name and reason:
        raise ConfigError(f"{name}: {reason}; runs of one name are seeds of one configuration")
    return not reason


def _why_not(variant: Variant, run: SeedRun, settings: Mapping[str, Any]) -> str:
    """Why a run is no further seed of a variant; "" where it is one."""
    first = variant.runs[0]
    for key in {**variant.settings, **settings}:
        value, its = settings.get(key), variant.settings.get(key)
        if value != its:
            return f"{run.folder} has {key} {value!r}, but {first.folder} {its!r}"
    same = next((other.folder for other in variant.runs if other.seed == run.seed), None)
    return f"{run.folder} has seed {run.seed}, as {same} has" if same else ""


def _named(variants: Sequence[Variant]) -> list[Variant]:
    """The variants with unique names."""
    parts = [_place(variant, variants).parts for variant in variants]
    depths = [1] * len(variants)
    while True:
        names = [v.name or "/".join(p[-d:]) for v, p, d in zip(variants, parts, depths, strict=True)]
        clashing = [i for i, v in enumerate(variants) if not v.name and names.count(names[i]) > 1]
        longer = [i for i in clashing if depths[i] < len(parts[i])]
        if not longer:
            return [v._replace(name=name) for v, name in zip(variants, names, strict=True)]
        for i in longer:
            depths[i] += 1


def _place(variant: Variant, variants: Sequence[Variant]) -> Path:
    """The folder that a variant is named after: its only run's, or the one that has all its runs and no other's."""
    mine = [run.folder.resolve() for run in variant.runs]
    others = [run.folder.resolve() for other in variants if other is not variant for run in other.runs]
    parent = mine[0].parent
    shared = all(folder.parent == parent for folder in mine)
    alone = not any(folder.is_relative_to(parent) for folder in others)
    telling = len(mine) == 1 and not SEED_FOLDER.fullmatch(mine[0].name)
    return parent if shared and alone and not telling else mine[0]


def _scores(variant: str, runs: Sequence[SeedRun], rows: TestRows, first: Path) -> Scores:
    """first: the RUN_DIR whose test rows `rows` are."""
    tables = [_scores_of_rows(run.folder, rows, first) for run in runs]
    logit_RN = np.stack([logit_of(table, rows.task) for table in tables])
    splits = tuple(split for table in tables if (split := split_of(table, rows.task)) is not None)
    score_RN = np.stack([table[f"score_{rows.task}"].to_numpy().astype(np.float64) for table in tables])
    for run, logit_N in zip(runs, logit_RN, strict=True):
        if not (finite_N := np.isfinite(logit_N)).all():
            wrong = f"{(~finite_N).sum():,} of {len(finite_N):,} scores of {rows.task} are not finite numbers"
            raise DataError(f"{RunDir(run.folder).predictions_file}: {wrong}")
    return Scores(variant, tuple(run.seed for run in runs), logit_RN, score_RN, splits)


def _scores_of_rows(folder: Path, rows: TestRows, first: Path) -> pa.Table:
    """What a run says of the test rows, in their order."""
    table = read_predictions(RunDir(folder).predictions_file, scores_only=True)
    row_N = table["row"].to_numpy()
    if not np.array_equal(row_N, rows.row_N):
        order, wanted = np.argsort(row_N, kind="stable"), np.argsort(rows.row_N, kind="stable")
        if not np.array_equal(row_N[order], rows.row_N[wanted]):
            apart = len(np.setxor1d(row_N, rows.row_N))
            sizes = f"{len(row_N):,} and {len(rows.row_N):,} rows"
            raise _other_rows(folder, first, f"{sizes}, of which {apart:,} are in one of them only")
        table = table.take(order[np.argsort(wanted)])
    if f"label_{rows.task}" not in table.column_names:
        raise _other_rows(folder, first, f"it has no {rows.task}, only {', '.join(tasks_of(table))}")
    other = int((table[f"label_{rows.task}"].to_numpy() != rows.labels_N).sum())
    if other:
        raise _other_rows(folder, first, f"{other:,} of {len(row_N):,} rows have another {rows.task}")
    return table


def _other_rows(folder: Path, first: Path, what: str) -> DataError:
    return DataError(f"{folder}: judged by other test rows than {first}: {what}; {HELPS}")
