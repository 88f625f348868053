"""The exposure log of `swrec serve` as a raw log: a row for each candidate of each answer, with the features that the
request had and the outcomes that were logged elsewhere.

    ts, request_id, unit, scenario, model, model_version, ...   of the answer, as in exposures/schema.py
    position                                                    of the candidate in its request, from 0
    <feature>, <sequence>.<part>                                as the request had them, without their `user.` and
                                                                `items.`; one that is called as a column above keeps it
    <outcome>                                                   of the candidate; 0 where none was logged

Histories are those that were sent, so that nothing of them is computed anew: a sequence names them in its `columns`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.exposures.schema import BASE, ITEMS, USER
from swrec_prod.logs.folders import described
from swrec_prod.logs.moments import OF_LOG, Time, limits
from swrec_prod.raw.columns import check_join
from swrec_prod.raw.source import Dataset, PlacedOptions, RawFile, RawFiles
from swrec_prod.strict import Strict
from swrec_prod.zones import clock_of

if TYPE_CHECKING:
    import ibis.expr.types as ir

ANSWERED = "ts"
OF_CANDIDATES = ("probability", "score", "interest_logit", "scenario_logit", "tasks", "candidates")  # lists, or of them
OF_ANSWER = tuple(name for name in BASE.names if name not in (*OF_CANDIDATES, "event_id"))
POSITION = "position"


class Outcomes(Strict):
    """What came of impressions: a table with one or several rows for each candidate that something came of.

    file: its path or glob below --raw. by: the columns that it has in common with the log, an answer's and a
    candidate's. Of several rows for one candidate the largest number counts, as of a click and no click.
    """

    file: str
    by: tuple[str, ...] = pydantic.Field(min_length=2)


class ExposuresOptions(PlacedOptions):
    """What is read of an exposure log.

    log: glob of its files below --raw: of one model, whose columns they have.
    outcomes: of the candidates; none where every label is a column of requests.
    time: the column of moments, `ts`, when the answer was ready; or one of the request, and then files are of no day.
    forced: whether answers are read whose variant was forced by the request, as tests do.
    """

    log: str = "dt=*/hour=*/*.parquet"
    outcomes: Outcomes | None = None
    time: Time = Time(column=ANSWERED)
    forced: bool = False


def locate(raw: Path | None, cache: Path, options: ExposuresOptions) -> RawFiles:
    """The log's files with their days, and the outcomes. Raises DataError saying what was looked for."""
    if raw is None or not raw.is_dir():
        raise DataError(f"exposures: {raw or 'no folder'} is no exposure log; give the server's folder with --raw DIR")
    log = sorted(path for path in raw.glob(options.log) if path.is_file())
    if not log:
        waits = "; its answers still wait in wal/" if any(raw.glob("wal/*.arrow")) else ""
        raise DataError(f"{raw}: no file matches options.log {options.log!r}{waits}")
    return (*_with_days(log, raw, options), *_outcome_files(raw, options))


def _with_days(log: list[Path], root: Path, options: ExposuresOptions) -> RawFiles:
    dated = options.time.column == ANSWERED and options.clock == clock_of("+00:00")
    files = described(log, root)
    return tuple(RawFile(file.path, file.day if dated else None) for file in files)


def _outcome_files(root: Path, options: ExposuresOptions) -> RawFiles:
    if options.outcomes is None:
        return ()
    paths = sorted(path for path in root.glob(options.outcomes.file) if path.is_file())
    if not paths:
        raise DataError(f"{root}: no {options.outcomes.file} here, which options.outcomes names")
    return tuple(RawFile(path, table=options.outcomes.file) for path in paths)


def read(engine: Engine, files: RawFiles, options: ExposuresOptions) -> ir.Table:
    """The candidates with their outcomes. Raises DataError naming a column that is missing."""
    log, place = [file.path for file in files if file.table is None], str(files[0].path)
    answers = engine.parquet(log)
    if missing := [name for name in BASE.names if name not in answers.columns]:
        raise DataError(f"{place}: column {missing[0]!r} is missing; expected files that swrec serve --exposures wrote")
    candidates = _candidates(_read_answers(answers, options))
    if options.outcomes is None:
        return candidates
    outcomes = engine.parquet([file.path for file in files if file.table is not None])
    return _with_outcomes(candidates, outcomes, options.outcomes)


def _read_answers(answers: ir.Table, options: ExposuresOptions) -> ir.Table:
    """Each answer once, whose request was kept."""
    once = answers.filter(answers.event_id == answers.answer_id, answers.sample_rate.notnull())
    if options.forced:
        return once
    forced = answers.filter(answers.forced).select("answer_id").distinct()
    return once.anti_join(forced, "answer_id")


def _candidates(answers: ir.Table) -> ir.Table:
    """A row for each candidate."""
    import ibis

    at = answers.mutate(**{POSITION: ibis.range(0, answers.candidates.cast("int64")).unnest()})
    of_request = {
        name: name.partition(".")[2] for name in answers.columns if name.startswith((f"{USER}.", f"{ITEMS}."))
    }
    taken = {*OF_ANSWER, POSITION}
    named = {name: name if short in taken else short for name, short in of_request.items()}
    values = {
        called: at[name][at[POSITION]] if name.startswith(f"{ITEMS}.") else at[name] for name, called in named.items()
    }
    return at.select(*OF_ANSWER, POSITION, **values)


def _with_outcomes(candidates: ir.Table, outcomes: ir.Table, options: Outcomes) -> ir.Table:
    """The outcomes beside them; numbers are 0 where nothing came of a candidate."""
    check_join(candidates, outcomes, options.by, options.file)
    rest = [name for name in outcomes.columns if name not in options.by]
    best = outcomes.group_by(*options.by).aggregate(**{name: outcomes[name].max() for name in rest})
    found = candidates.left_join(best, list(options.by), rname="{name}__right")
    numbers = [name for name in rest if best[name].type().is_numeric()]
    found = found.mutate(**{name: found[name].fill_null(0) for name in numbers})
    return found.drop(*(f"{name}__right" for name in options.by))


def span(path: Path, options: ExposuresOptions) -> tuple[int, int] | None:
    """First and last moment of a file, in microseconds since 1970; None when it has none that can be read as such."""
    return limits(path, options.time, OF_LOG)


EXPOSURES = Dataset(
    name="exposures",
    summary="the exposure log of swrec serve, joined with outcomes: what the next model trains on",
    rows=0,
    size="yours",
    scenarios="those of the requests",
    licence="yours",
    how_to_get="--raw DIR of swrec serve --exposures DIR, and a copy of configs/data/exposures.yaml",
    data_file="exposures.yaml",
    options=ExposuresOptions,
    locate=locate,
    read=read,
    numbers_rows=False,
    span=span,
)
