"""The models of a RUN_DIR or a package over one prepared folder: loaded once, they score any of its rows.

Rows are scored a window of the reader at a time (data.shuffle_rows), so memory does not grow with how many there are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from swrec_prod.checkpoint import config_of, load_run
from swrec_prod.config import DataConfig, RunConfig, SplitName
from swrec_prod.data.catalog import Catalog, DayFile
from swrec_prod.data.decode import Piece
from swrec_prod.data.reader import Reader
from swrec_prod.data.windows import cut
from swrec_prod.evaluate.bookkeeping import bookkeeping, known_columns
from swrec_prod.evaluate.package_scores import BATCH_SIZE, PackageRanker, check_encoders, data_of_package, is_package
from swrec_prod.evaluate.predict import score_sections
from swrec_prod.evaluate.predictions import KEYS, predictions_table
from swrec_prod.evaluate.scenario_models import models_of
from swrec_prod.export.loaded import Package
from swrec_prod.schema.layout import Layout

KEPT = 16  # models that stay loaded, where every scenario has one


class Predicted(NamedTuple):
    """Predictions of a window of rows, ordered by row id. pieces: where the rows lie; seconds: what scoring took."""

    table: pa.Table
    pieces: list[Piece]
    seconds: float


@dataclass(frozen=True)
class Scorer:
    """One model that is loaded. model: a Ranker, or what is called like one; c: of the ranking score."""

    model: nn.Module
    layout: Layout
    batch_size: int
    c: float | Mapping[str, float]


class Models:
    """path: RUN_DIR, or a package REPO/NAME/VERSION. data: where the prepared data are: of a package, and of a run
    whose data were moved.

    catalog: of the prepared folder; rows: the run's data section, of a package all days. Raises CheckpointError when
    `path` holds no trained run, PackageError for a damaged package, ConfigError for one without data.
    """

    def __init__(self, path: Path, data: Path | None = None) -> None:
        self.path = path
        config = None if is_package(path) else config_of(path, data)
        self.rows = config.data if config else data_of_package(path, data, None)
        self._one_for_all = config is None or config.strategy.name == "mix"
        self.catalog = Catalog.open(self.rows.path)
        self._loaded = lru_cache(KEPT)(self._load)

    def columns(self, rows: DataConfig, part: SplitName) -> pa.Schema:
        """What is known of the rows of a part beside their scores."""
        return columns_of(self.catalog, rows, part)

    def predictions(self, rows: DataConfig, part: SplitName) -> Iterator[Predicted]:
        """The predictions of the rows of a part, a window at a time; a run with a model for every scenario scores each
        row with its own scenario's.

        Raises DataError where there are no rows, or some that no model is for.
        """
        columns = self.columns(rows, part)
        if self._one_for_all:
            yield from self._of_model(self.path, self.catalog, rows, part, columns)
            return
        files = self.catalog.files_of(rows, part)
        for window in cut([file.rows for file in files], rows.shuffle_rows):
            yield from self._of_scenarios(files[window.start : window.stop], rows, part, columns)

    def table(self, rows: DataConfig, part: SplitName) -> pa.Table:
        """The predictions of all rows of a part, such as a day's, in the order of row ids."""
        return pa.concat_tables(window.table for window in self.predictions(rows, part)).sort_by("row")

    def _of_scenarios(
        self, files: tuple[DayFile, ...], rows: DataConfig, part: SplitName, columns: pa.Schema
    ) -> Iterator[Predicted]:
        """Those of some files, put together from what every model says of its own rows; nothing where none is of the
        part.
        """
        catalog = replace(self.catalog, files=files)
        models = models_of(self.path, catalog, rows, part)
        parts = [p for path, own in models.items() for p in self._of_model(path, catalog, own, part, columns)]
        if parts:
            table = pa.concat_tables(p.table for p in parts).sort_by("row")
            yield Predicted(table, [Piece(file, file.rows) for file in files], sum(p.seconds for p in parts))

    def _of_model(
        self, path: Path, catalog: Catalog, rows: DataConfig, part: SplitName, columns: pa.Schema
    ) -> Iterator[Predicted]:
        scorer = self._loaded(path)
        reader = Reader(catalog, scorer.layout, part, rows, scorer.batch_size, shuffle=False)
        return predicted(catalog, scorer.model, reader, scorer.c, columns)

    def _load(self, path: Path) -> Scorer:
        if is_package(path):
            package = Package.load(path)
            check_encoders(package, self.catalog.root)
            c = package.manifest.debias_strength if package.manifest.causal else 0.0
            return Scorer(PackageRanker(package), package.layout, BATCH_SIZE, c)
        ranker, config, _ = load_run(path, self.catalog.root)
        return Scorer(ranker, ranker.sparse.layout, config.train.batch_size, strengths_of(self.catalog, config))


def predicted(
    catalog: Catalog,
    model: nn.Module,
    reader: Reader,
    c: float | Mapping[str, float],
    columns: pa.Schema,
    device: torch.device | str = "cpu",
) -> Iterator[Predicted]:
    """The predictions of this rank's rows, a window of the reader at a time; all ranks go through this together.

    reader: in file order; columns: see `bookkeeping`.
    """
    sections = score_sections(model, reader, device)
    while True:
        started = time.perf_counter()
        section = next(sections, None)
        if section is None:
            return
        seconds = time.perf_counter() - started
        yield Predicted(_table(catalog, *section, c, columns), section[0], seconds)


def columns_of(catalog: Catalog, rows: DataConfig, part: SplitName) -> pa.Schema:
    """What is known of the rows of a part beside their scores; the same for all of its windows and ranks."""
    files = [file.path.relative_to(catalog.root) for file in catalog.files_of(rows, part)]
    return known_columns(catalog.root, files, catalog.schema.tasks)


def strengths_of(catalog: Catalog, config: RunConfig) -> float | dict[str, float]:
    """c of every scenario, 0 for a run without the causal split."""
    return config.debias.strengths(catalog.schema.scenario.names) if config.debias else 0.0


def groups_of(catalog: Catalog, pieces: list[Piece]) -> dict[Path, list[int] | None]:
    """The row groups that the pieces are, by their file below the prepared folder; None: all."""
    groups: dict[Path, list[int] | None] = {}
    for piece in pieces:
        path = piece.file.path.relative_to(catalog.root)
        groups[path] = None if piece.groups is None else [*(groups.get(path) or ()), *piece.groups]
    return groups


def _table(
    catalog: Catalog,
    pieces: list[Piece],
    scored: dict[str, np.ndarray],
    c: float | Mapping[str, float],
    columns: pa.Schema,
) -> pa.Table:
    """The predictions of rows that `score_rows` has scored, ordered by row id."""
    order = np.argsort(scored["row"])
    scored = {name: values[order] for name, values in scored.items()}
    tasks = catalog.schema.tasks
    known = bookkeeping(catalog.root, groups_of(catalog, pieces), scored["row"], tasks, columns)
    labels = [f"label_{task}" for task in tasks]
    return predictions_table(
        row=scored["row"],
        day=known["day"],
        user=known["user"],
        scenario=known["scenario"],
        labels_NT=scored["labels"],
        logit_NT=scored["logit"],
        tasks=tasks,
        after=catalog.schema.after,
        interest_NT=scored["interest"],
        scenario_NT=scored["scenario_logit"],
        c=c,
        more={name: known[name] for name in known.column_names if name not in (*KEYS, *labels)},
    )
