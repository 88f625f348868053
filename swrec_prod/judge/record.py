"""backfill.json: what a backfill found, and all that its page and its Markdown are made from. This file is its format.

    BackfillRecord
    |- models        JudgedModel, in the order in which they were given
    |  |- days       JudgedDay, in order: the figures of one day, the same as in that day's metrics.parquet
    |  '- pooled     Figures of the rows of all days together
    |- differences   Contrast of every challenger with the champion: overall, and inside each scenario
    '- verdict       what the gate said, where one was asked

Nothing in it depends on the clock: the same command over the same inputs gives the same bytes.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Literal

import pydantic

from swrec_prod.errors import DataError
from swrec_prod.files import read_json, write_json
from swrec_prod.strict import Strict, parse

BACKFILL_JSON = "backfill.json"
PartName = Literal["overall", "macro", "scenario"]
Mode = Literal["frozen", "incremental", "rolling"]


class Record(Strict):
    """A part of backfill.json; what later versions add is passed over."""

    model_config = pydantic.ConfigDict(extra="ignore")


class Figures(Record):
    """The figures of one part of some rows. part: `overall`, `macro` (the mean of the scenarios), or one `scenario`.

    metrics: every metric by its name (metrics/summary.py), None where it has no value, and `reasons` then says why.
    intervals: of 95 %, by metric, where it has one; other users, for the model as it is trained. unknown: which share
    of the features' values has no entry in a vocabulary, None where that was not counted.
    """

    task: str
    part: PartName
    scenario: str | None = None
    rows: int
    positives: int
    grouped_rows: int = 0
    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float]] = pydantic.Field(default_factory=dict)
    reasons: dict[str, str] = pydantic.Field(default_factory=dict)
    unknown: float | None = None


class JudgedDay(Record):
    """One day. trained_through: the last day whose rows changed or chose the weights, None where it is not known.
    unknown_values: by feature, the share of its values that are unknown.
    """

    day: date
    trained_through: date | None
    figures: tuple[Figures, ...]
    unknown_values: dict[str, float] = pydantic.Field(default_factory=dict)


class JudgedModel(Record):
    """One model. kind: what was given. path: as it was given. pooled: `unknown` is there the mean over values."""

    name: str
    kind: Literal["run", "package", "run file"]
    path: str
    days: tuple[JudgedDay, ...]
    pooled: tuple[Figures, ...]


class DayDifference(Record):
    """The difference on one day, with its 95 % interval; None where users of both labels are too few for one."""

    day: date
    value: float
    low: float | None
    high: float | None


class GaucDifference(Record):
    """The GAUC of a challenger less that of the champion, over all days together, with users as clusters: `users` that
    have both labels on a day, and of it what `Contrast` says of AUC.
    """

    users: int
    value: float
    error: float
    low: float
    high: float
    p: float
    adjusted_p: float
    significant: bool


class Contrast(Record):
    """The AUC of a challenger less that of the champion, on the same rows: the mean of the days' differences, weighted
    by rows, with users as clusters over all days.

    error, low, high, p: of other users, on these days. adjusted_p: after control of false discoveries among the
    scenarios (p itself where part is overall). significant: whether that is at most the rate that was asked for. days:
    with both labels; the others do not count. gauc: None with fewer than two users that have both labels, and in files
    from before it was tested.
    """

    challenger: str
    champion: str
    task: str
    part: PartName
    scenario: str | None = None
    rows: int
    positives: int
    users: int
    value: float
    error: float
    low: float
    high: float
    p: float
    adjusted_p: float
    significant: bool
    days: tuple[DayDifference, ...]
    gauc: GaucDifference | None = None


class Reason(Record):
    """One check of the gate. check: the rule's key. passed: False where it speaks against the challenger. found and
    allowed: its numbers, None where there is nothing to count. text: one sentence for people.
    """

    check: str
    passed: bool
    task: str
    scenario: str | None = None
    found: float | None = None
    allowed: float | None = None
    text: str


class Verdict(Record):
    """What the gate says of one challenger. reasons: every check that failed, or `promote`'s grounds. gains, losses:
    the scenarios that are significantly better and worse. checks: how many checks were made. rule: the rule's file, in
    full.
    """

    verdict: Literal["promote", "hold"]
    challenger: str
    champion: str
    task: str
    reasons: tuple[Reason, ...]
    gains: tuple[Contrast, ...]
    losses: tuple[Contrast, ...]
    overall: Contrast | None
    checks: int
    rule: dict[str, Any]


class BackfillRecord(Record):
    """backfill.json. days: those that were judged. window: of the rolling mode, days. scenarios: those with rows,
    busiest first. champion: whom the others are held to, None for one model. skipped: days that were asked for and hold
    no rows.
    """

    version: Literal[1] = 1
    mode: Mode
    days: tuple[date, ...]
    window: int | None = None
    data: str
    data_fingerprint: str
    tasks: tuple[str, ...]
    scenarios: tuple[str, ...]
    models: tuple[JudgedModel, ...]
    champion: str | None = None
    differences: tuple[Contrast, ...] = ()
    verdict: Verdict | None = None
    skipped: tuple[date, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return self.model_dump(mode="json")

    def write(self, out: Path) -> None:
        """backfill.json in the folder `out`, whole or not at all."""
        write_json(out / BACKFILL_JSON, self.to_json())

    @classmethod
    def read(cls, out: Path) -> BackfillRecord:
        """Of the folder `out`. Raises DataError when it is missing, damaged or of a later version."""
        path = out / BACKFILL_JSON
        try:
            content = read_json(path, DataError, "run swrec backfill again, it goes on where it stopped")
        except FileNotFoundError:
            raise DataError(f"{out}: no {BACKFILL_JSON}; `swrec backfill ... --out {out}` writes it") from None
        return parse(cls, content, str(path), DataError)
