"""`swrec backfill`: models judged on past days, one day after the other, in any number of processes.

    OUT/backfill.yaml              the request (request.py)
    OUT/<model>/day=YYYY-MM-DD/    a judged day (day.py)
    OUT/<model>/trained/           models that were trained for it (training.py)
    OUT/backfill.json, .md, .html  what was found over all days (summary.py)

A day is judged by one process and committed whole; one that is there is not judged again. So a backfill may be killed
at any moment, and processes share its days by their numbers alone: share (i, n) has every n-th day from the i-th on.
What is found over all days is written by whoever sees that no day is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

from swrec_prod.errors import ConfigError
from swrec_prod.evaluate.text import count, number
from swrec_prod.judge.day import day_folder, is_judged, judged, write_day
from swrec_prod.judge.models import DayJudge, check_comparable, judge_of, rows_to_judge
from swrec_prod.judge.record import Figures, JudgedDay
from swrec_prod.judge.request import ModelSource, Request, claim
from swrec_prod.judge.unknown_shares import unknown_of_days

Say = Callable[[str], None]


class Share(NamedTuple):
    """Which part of a backfill one process does: every `of`-th piece of work from the number `at` on."""

    at: int = 0
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Share:
        """Of AT/OF, counted from 0. Raises ConfigError for anything else."""
        at, slash, of = text.partition("/")
        if not (slash and at.isdigit() and of.isdigit() and int(at) < int(of)):
            raise ConfigError(f"--share {text}: give AT/OF, AT from 0 to OF - 1, for example 0/4")
        return cls(int(at), int(of))

    def part(self, number: int, parts: int) -> Share:
        """One of `parts` equal parts of this share."""
        return Share(self.at * parts + number, self.of * parts)


WHOLE = Share()


def check(request: Request, out: Path, say: Say) -> None:
    """Whether a request can be done and OUT is free for it, which is then its own.

    Raises what `judge_of` and `check_comparable` raise, and ConfigError when OUT is another request's.
    """
    for source in request.models:
        if judge_of(source, request, out).seen is None:
            say(
                f"{source.name}: the package does not say through which day it was trained; days it has seen flatter it"
            )
    check_comparable(request.models, request)
    claim(out, request)
    if request.skipped:
        say(f"not in the data, and left out: {', '.join(map(str, request.skipped))}")


def judge_share(request: Request, out: Path, share: Share, say: Say) -> None:
    """Judge the days of a share that are not judged yet."""
    for source, days in work_of(request, share):
        todo = [day for day in days if not is_judged(day_folder(out, source.name, day))]
        if len(todo) < len(days):
            say(f"{source.name}: {len(days) - len(todo)} of {len(days)} days were judged before")
        judge = judge_of(source, request, out)
        for day in todo:
            _judge_day(request, out, source, judge, day, say)


def work_of(request: Request, share: Share) -> list[tuple[ModelSource, list[date]]]:
    """The models and days of a share. A model that is trained incrementally has its days one after the other."""
    if request.mode == "incremental":
        return [(source, list(request.days)) for source in request.models[share.at :: share.of]]
    pairs = [(source, day) for source in request.models for day in request.days][share.at :: share.of]
    return [
        (source, [day for of, day in pairs if of is source])
        for source in request.models
        if any(of is source for of, _ in pairs)
    ]


def missing_days(request: Request, out: Path) -> int:
    """How many days of all models are not judged yet."""
    return sum(not is_judged(day_folder(out, source.name, day)) for source in request.models for day in request.days)


def _judge_day(request: Request, out: Path, source: ModelSource, judge: DayJudge, day: date, say: Say) -> None:
    started = time.perf_counter()
    scored = judge.score(day)
    unknown = unknown_of_days(scored.catalog, rows_to_judge(source, request), [day])
    record, piece = judged(scored.table, day, scored.seen, unknown)
    folder = day_folder(out, source.name, day)
    write_day(folder, source.name, record, piece, scored.table, predictions=request.predictions)
    judge.finished(day)
    speed = len(scored.table) / (time.perf_counter() - started)
    say(f"{source.name} {day_line(record)}  {count(speed)} rows/s")


def day_line(day: JudgedDay) -> str:
    """A judged day in one line: 2024-05-01: 12,345 rows, 4.1 % click, AUC 0.7123 (0.7011 to 0.7235)."""
    overall = next(figures for figures in day.figures if figures.part == "overall")
    line = f"{day.day}: {count(overall.rows)} rows, {count(overall.positives)} {overall.task}"
    return f"{line}, {_auc(overall)}"


def _auc(overall: Figures) -> str:
    if overall.metrics["auc"] is None:
        return f"no AUC: {overall.reasons.get('auc', 'not known')}"
    low, high = overall.intervals.get("auc", (None, None))
    interval = "" if low is None else f" ({number(low)} to {number(high)})"
    return f"AUC {number(overall.metrics['auc'])}{interval}, calibration {number(overall.metrics['calibration'], 3)}"
