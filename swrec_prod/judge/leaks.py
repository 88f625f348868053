"""Which days a model knows already: figures of such days would say nothing of days to come."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from swrec_prod.config import RunConfig
from swrec_prod.errors import DataError
from swrec_prod.export.package import verify_package
from swrec_prod.judge.request import ModelSource
from swrec_prod.run_dir import RunDir


def trained_through(source: ModelSource) -> date | None:
    """The last day whose rows changed a trained model's weights, or chose them. None where a package does not say.

    Raises DataError for a run that was trained on rows of all days (a random split).
    """
    if source.kind == "package":
        return verify_package(Path(source.path)).trained_through
    return through(Path(source.path), RunDir(source.path).config())


def through(run_dir: Path, config: RunConfig) -> date:
    """The same of a run, and of the one that it began with."""
    own = config.trained_through
    if own is None:
        remedy = "judge a run of data.split days, or a run file in the mode rolling"
        raise DataError(f"{run_dir}: trained on rows of all days (data.split random), so none is unseen; {remedy}")
    begin = Path(config.train.begin) if config.train.begin else None
    if begin is None or not RunDir(begin).run_file.is_file():
        return own
    return max(own, through(begin, RunDir(begin).config()))


def check_unseen(source: ModelSource, seen: date | None, first: date) -> None:
    """Raises DataError when a model has seen the first of the days that it is to be judged on."""
    if seen is not None and first <= seen:
        known = f"its weights know the days up to {seen}, and {first} is one of them"
        raise DataError(f"{source.path}: {known}; begin with the day after, or let a run file train (--mode rolling)")
