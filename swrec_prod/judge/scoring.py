"""A model that is loaded once and scores one day after the other: a run's best weights, or a package's programs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pyarrow as pa
from torch import nn

from swrec_prod.checkpoint import config_of, load_run
from swrec_prod.config import DataConfig, DayRanges
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.reader import Reader
from swrec_prod.evaluate.package_scores import BATCH_SIZE, PackageRanker, check_encoders
from swrec_prod.evaluate.predict import score_rows
from swrec_prod.evaluate.run import predictions_of, strengths_of
from swrec_prod.evaluate.scenario_models import models_of
from swrec_prod.export.loaded import Package
from swrec_prod.schema.layout import Layout


class Scorer:
    """One model. data: its rows, of any days; c: of the ranking score, by scenario or for all."""

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        catalog: Catalog,
        data: DataConfig,
        batch_size: int,
        c: float | Mapping[str, float],
    ) -> None:
        self.model, self.layout, self.catalog = model, layout, catalog
        self.data, self.batch_size, self.c = data, batch_size, c

    @classmethod
    def of_run(cls, run_dir: Path, data: Path) -> Scorer:
        """The best weights of a run with one model."""
        ranker, config, catalog = load_run(run_dir, data)
        c, batch_size = strengths_of(catalog, config), config.train.batch_size
        return cls(ranker, ranker.sparse.layout, catalog, config.data, batch_size, c)

    @classmethod
    def of_package(cls, path: Path, data: Path) -> Scorer:
        """The programs of a package. Raises DataError when the rows were not encoded as it encodes requests."""
        package, catalog = Package.load(path), Catalog.open(data)
        check_encoders(package, data)
        c = package.manifest.debias_strength if package.manifest.causal else 0.0
        features = tuple(feature.name for feature in package.encoders.schema.features)
        rows = DataConfig(path=str(data), split="random", features=features)
        return cls(PackageRanker(package), package.layout, catalog, rows, BATCH_SIZE, c)

    def score(self, day: date, scenarios: tuple[str, ...] | None = None) -> pa.Table:
        """The predictions of a day's rows, of some scenarios or of those of `data`; in the order of row ids.

        Raises DataError when the encoders have seen the day.
        """
        rows = of_day(self.data, day)
        rows = rows if scenarios is None else rows.model_copy(update={"scenarios": scenarios})
        reader = Reader(self.catalog, self.layout, "test", rows, self.batch_size, shuffle=False)
        return predictions_of(self.catalog, rows, "test", score_rows(self.model, reader.epoch(0)), self.c)


class ScenarioScorer:
    """A run of the strategies single and finetune: every row is scored by the model of its own scenario."""

    def __init__(self, run_dir: Path, data: Path) -> None:
        self.run_dir, self.folder = run_dir, data
        self.data = config_of(run_dir, data).data
        self.catalog = Catalog.open(data)
        self._loaded: dict[Path, Scorer] = {}

    def score(self, day: date) -> pa.Table:
        """As `Scorer.score`."""
        parts = models_of(self.run_dir, of_day(self.data, day), "test")
        tables = [self._model(folder).score(day, rows.scenarios) for folder, rows in parts.items()]
        return pa.concat_tables(tables).sort_by("row")

    def _model(self, folder: Path) -> Scorer:
        if folder not in self._loaded:
            self._loaded[folder] = Scorer.of_run(folder, self.folder)
        return self._loaded[folder]


def scorer_of_run(run_dir: Path, data: Path) -> Scorer | ScenarioScorer:
    """Of a run of any strategy."""
    is_one = config_of(run_dir, data).strategy.name == "mix"
    return Scorer.of_run(run_dir, data) if is_one else ScenarioScorer(run_dir, data)


def of_day(data: DataConfig, day: date) -> DataConfig:
    """The same data, on one day alone."""
    ranges = DayRanges.model_construct(train=str(day), valid=str(day), test=str(day))
    return data.model_copy(update={"split": "days", "days": ranges})
