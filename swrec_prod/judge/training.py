"""A model as it would have been on the morning of a day: trained through the day before, and on nothing later.

    OUT/<model>/trained/fit=X/       an ordinary run on days before X, whose best weights day X chose
    OUT/<model>/trained/through=X/   that run, or the model of the day before X, after one pass over the rows of day X

Notable choices. Without a day that nobody trains on, nothing can say when to stop; so the last day validates, and then
one pass over it makes the model as fresh as one in production is. A pass goes on with the optimisers' state, at the
rates of the run file. Each folder is a RUN_DIR, which can be evaluated and exported; one of `through` is committed by a
rename, and a `fit` that was cut off goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import filelock

from swrec_prod import checkpoint
from swrec_prod.config import DayRanges, RunConfig, day_range
from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.files import committed
from swrec_prod.judge.one_day import of_day
from swrec_prod.ranker import resolve_run
from swrec_prod.run_dir import RunDir
from swrec_prod.train.distributed import process_group
from swrec_prod.train.loop import Fit, FitState
from swrec_prod.train.run import make_fit, make_reader, train
from swrec_prod.train.saving import save
from swrec_prod.train.session import recorded

FIT, THROUGH = "fit=", "through="
LEAST_DAYS = 2
ONE_DAY = timedelta(days=1)


class Trainer:
    """One run file's models, by day. folder: OUT/<model>/trained; first: the first day that is judged; window: days
    before each one that a model sees, None for all of the run file's; chained: whether a model goes on from that of the
    day before it (incremental).

    Raises ConfigError for a run file that does not train one model.
    """

    def __init__(self, config: RunConfig, folder: Path, first: date, window: int | None, chained: bool) -> None:
        if config.strategy.name != "mix":
            name = config.strategy.name
            raise ConfigError(f"strategy.name: {name} has a model for every scenario; a backfill trains mix only")
        self.config, self.folder, self.first, self.window, self.chained = config, folder, first, window, chained
        self.catalog = Catalog.open(config.data.path)

    def last_before(self, day: date) -> date:
        """The last day that the model of the morning of `day` is trained on. Raises as `model_before`."""
        return self._days_before(day)[-1]

    def model_before(self, day: date) -> Path:
        """The RUN_DIR of the model as it was on the morning of `day`.

        Of several processes that ask for one model, one trains it. Raises DataError where fewer than two days before it
        have rows.
        """
        days = self._days_before(day)
        made = self._through(days[-1])
        self.folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.folder / f".{made.name}.lock"):
            self._train(days, day)
        return made

    def release(self, day: date) -> None:
        """Delete the models that no day after `day` needs: those before its own where they are chained, else its own.

        Called once `day` is judged; not for the last day, whose models stay.
        """
        last = self.last_before(day)
        for path in (*self.folder.glob(f"{FIT}*"), *self.folder.glob(f"{THROUGH}*")):
            trained = date.fromisoformat(path.name.partition("=")[2])
            if trained < last if self.chained else trained == last:
                shutil.rmtree(path)

    def _train(self, days: Sequence[date], judged: date) -> None:
        """Make the model of the last of `days`, from the newest one that it may go on from."""
        start = self._days_before(self.first)[-1] if self.chained else days[-1]
        chain = [day for day in days if day >= start]
        made = [at for at, day in enumerate(chain) if self._through(day).exists()]
        for day in chain[made[-1] + 1 if made else 0 :]:
            seen = days[: days.index(day) + 1]
            begin = self._fit(seen, judged) if day == start else self._through(seen[-2])
            self._pass(begin, seen)

    def _fit(self, days: Sequence[date], judged: date) -> Path:
        """The ordinary run that the last of `days` validates; a finished one is taken as it is."""
        run = RunDir(self.folder / f"{FIT}{days[-1]}")
        ranges = DayRanges(train=f"{days[0]}..{days[-2]}", valid=str(days[-1]), test=str(judged))
        if not run.finished:
            with contextlib.redirect_stdout(io.StringIO()):  # log.txt has it
                train(_of_days(self.config, ranges), run.path)
        return run.path

    def _pass(self, begin: Path, days: Sequence[date]) -> None:
        """One pass over the last of `days`, from the best weights of the run in `begin`."""
        config, day = RunDir(begin).config(), days[-1]
        ranges = DayRanges(train=f"{days[0]}..{days[-2]}", valid=str(day), test=f"{day + ONE_DAY}..")
        written = _of_days(config, ranges, begin=None)
        run = resolve_run(self.catalog.schema, config.model_copy(update={"data": of_day(config.data, day)}))
        with committed(self._through(day)) as folder, process_group(config.train.threads) as ranks:
            made = RunDir(folder)
            reader = make_reader(self.catalog, run, "train", ranks)
            fit = make_fit(self.catalog, run, {"train": reader, "valid": reader}, ranks)  # nothing validates
            with recorded(made, self.catalog, ranks):
                state = _passed_once(fit, checkpoint.best(begin, self.catalog))
                save(made.checkpoints, fit, state, self.catalog.fingerprint)
            made.write_config(written)

    def _through(self, day: date) -> Path:
        return self.folder / f"{THROUGH}{day}"

    def _days_before(self, day: date) -> list[date]:
        """The days with rows that a model of the morning of `day` may know."""
        begin = day - self.window * ONE_DAY if self.window else self._begin()
        days = [other for other in self.catalog.days if begin <= other < day]
        if len(days) < LEAST_DAYS:
            span = f"{begin}..{day - ONE_DAY}" if begin > date.min else f"before {day}"
            needed = "one or more train it, and the last one validates"
            raise DataError(f"{self.catalog.root}: {len(days)} of the days {span} have rows; {needed}: begin later")
        return days

    def _begin(self) -> date:
        """The first day that the run file lets a model see."""
        return day_range(self.config.data.days.train)[0] if self.config.data.days else date.min


def _of_days(config: RunConfig, ranges: DayRanges, **train: Any) -> RunConfig:
    """The configuration for other days. train: keys of that section that change."""
    data = config.data.model_copy(update={"split": "days", "days": ranges})
    return config.model_copy(update={"data": data, "train": config.train.model_copy(update=train)})


def _passed_once(fit: Fit, checkpoint_path: Path) -> FitState:
    """Train on every row of the fit's reader once, from a checkpoint; how far that is."""
    before = FitState(**checkpoint.restore(checkpoint_path, fit.model, fit.optimizer)["fit"])
    state = FitState(step=before.step, rows=before.rows, seconds=before.seconds)
    for _ in fit.epoch(state, 1, lambda *_: None):
        pass
    state.best_step, state.history = state.step, [{"step": state.step, "rows": state.rows}]
    return state
