"""The models of a backfill, each ready to be judged: what scores a day, and through which day that was trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa

from swrec_prod.checkpoint import config_of
from swrec_prod.config import DataConfig, RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.evaluate.models import Models
from swrec_prod.judge.leaks import check_unseen, trained_through
from swrec_prod.judge.one_day import of_day
from swrec_prod.judge.request import ModelSource, Request
from swrec_prod.judge.training import Trainer
from swrec_prod.schema import FeatureSchema

TRAINED = "trained"  # folder of a model's own, below OUT/<model>


class Scored(NamedTuple):
    """One day's predictions. seen: the last day that the model knew; catalog: the rows' prepared folder."""

    table: pa.Table
    seen: date | None
    catalog: Catalog


def scored(models: Models, day: date, seen: date | None) -> Scored:
    """A day's predictions by loaded models. Raises DataError when the encoders of the data have seen it."""
    return Scored(models.table(of_day(models.rows, day), "test"), seen, models.catalog)


class DayJudge(Protocol):
    """What scores one day after the other. seen: the last day that the first one's model knew; None: not known."""

    seen: date | None

    def score(self, day: date) -> Scored:
        """The day's predictions."""
        ...

    def finished(self, day: date) -> None:
        """Called once the day is committed."""
        ...


@dataclass
class Frozen:
    """One checkpoint for all days. load: what loads it, once."""

    load: Callable[[], Models]
    seen: date | None
    models: Models | None = None

    def score(self, day: date) -> Scored:
        """See DayJudge."""
        self.models = self.models or self.load()
        return scored(self.models, day, self.seen)

    def finished(self, day: date) -> None:
        """Nothing is left to do."""


@dataclass
class Retrained:
    """A model that is trained for every day. last: the last day that is judged, whose model stays."""

    trainer: Trainer
    data: Path
    seen: date | None
    last: date

    def score(self, day: date) -> Scored:
        """See DayJudge."""
        models = Models(self.trainer.model_before(day), self.data)
        return scored(models, day, self.trainer.last_before(day))

    def finished(self, day: date) -> None:
        """Delete what was trained for it."""
        if day != self.last:
            self.trainer.release(day)


def judge_of(source: ModelSource, request: Request, out: Path) -> DayJudge:
    """What judges one model of a request in OUT. Nothing is loaded or trained yet.

    Raises ConfigError for a trained model in a mode that trains, or a run file that cannot be trained here; DataError
    when a model has seen a day that it is to be judged on, or there are no days to train on.
    """
    data, first = Path(source.data), request.days[0]
    if source.kind != "run file":
        if request.mode != "frozen":
            remedy = f"give its run file, {source.path}/run.yaml" if source.kind == "run" else "give its run file"
            raise ConfigError(f"{source.path}: --mode {request.mode} trains, and this is trained already; {remedy}")
        seen = trained_through(source)
        check_unseen(source, seen, first)
        return Frozen(lambda: Models(Path(source.path), data), seen)
    chained = request.mode == "incremental"
    trainer = Trainer(_config(source, request), out / source.name / TRAINED, first, request.window, chained)
    if request.mode == "frozen":
        return Frozen(lambda: Models(trainer.model_before(first), data), trainer.last_before(first))
    last = [trainer.last_before(day) for day in request.days]  # refused now rather than after days of training
    return Retrained(trainer, data, last[0], request.days[-1])


def check_comparable(sources: Sequence[ModelSource], request: Request) -> None:
    """Raises DataError, with counts, where models have other labels or scenarios than the first, or other rows."""
    first = sources[0]
    for source in sources[1:]:
        here, there = (Catalog.open(of.data) for of in (first, source))
        for what, one, other in (
            ("labels", here.schema.tasks, there.schema.tasks),
            ("scenarios", here.schema.scenario.names, there.schema.scenario.names),
        ):
            if one != other:
                both = f"{len(one)} {what} ({', '.join(one)}) and {len(other)} ({', '.join(other)})"
                raise DataError(f"{first.name} and {source.name} cannot be compared: {both}; judge them apart")
        _check_rows(request, (first, here), (source, there))


def rows_to_judge(source: ModelSource, request: Request) -> DataConfig:
    """The rows that a model is judged on, of any days: those of its scenarios, with its features."""
    if source.kind == "package":
        features = FeatureSchema.load(Path(source.path) / "schema.yaml").features
        return DataConfig(path=source.data, split="random", features=tuple(feature.name for feature in features))
    if source.kind == "run":
        return config_of(Path(source.path), Path(source.data)).data
    return _config(source, request).data


def _check_rows(request: Request, *pair: tuple[ModelSource, Catalog]) -> None:
    for day in request.days:
        (one, rows), (other, more) = ((of.name, _rows(catalog, of, request, day)) for of, catalog in pair)
        if rows != more:
            remedy = "prepare both from the same log, and train both on the same scenarios"
            raise DataError(
                f"{one} and {other} cannot be compared: {day} has {rows:,} and {more:,} rows for them; {remedy}"
            )


def _rows(catalog: Catalog, source: ModelSource, request: Request, day: date) -> int:
    record = catalog.manifest.days.get(day) if catalog.manifest else None
    scenarios = rows_to_judge(source, request).scenarios
    if record is None or scenarios is None:
        return record.rows if record else 0
    return sum(record.scenarios[name].rows for name in scenarios if name in record.scenarios)


def _config(source: ModelSource, request: Request) -> RunConfig:
    """A run file's configuration, with its data where they are."""
    config = RunConfig.load(source.path, request.overrides)
    return config.model_copy(update={"data": config.data.model_copy(update={"path": source.data})})
