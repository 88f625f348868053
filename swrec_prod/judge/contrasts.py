"""Whether a challenger's AUC differs from the champion's over several days, or only its users and days do.

    difference = sum_d rows_d (AUC_challenger,d - AUC_champion,d) / sum_d rows_d

over the days d on which both labels occur, in all rows or in one scenario. A day is compared within itself: that one
day has more clicks than another makes no difference. The error is of other users on these days: components of a user
are summed over all days (user_sums.py). What is marked significant stays so when many scenarios are looked at: of the
marks, FALSE_DISCOVERIES may be false (Benjamini & Hochberg, JRSS B 1995). Differences of GAUC are a family of their own
(gauc_sums.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from swrec_prod.errors import DataError, SingleClassError
from swrec_prod.evaluate.predictions import weights_of
from swrec_prod.judge.day import day_folder, read_scores
from swrec_prod.judge.figures import Part, labels_and_logits, parts_of
from swrec_prod.judge.gauc_sums import GaucSums
from swrec_prod.judge.record import Contrast, DayDifference, GaucDifference
from swrec_prod.judge.user_sums import RowComponents, UserSums
from swrec_prod.metrics.ranks import RankStatistic
from swrec_prod.statistics.multiple import benjamini_hochberg

FALSE_DISCOVERIES = 0.05
AnyT = TypeVar("AnyT", Contrast, GaucDifference)


class ScoredTwice(NamedTuple):
    """Some rows of a day. scores: who saw them, and their weights; labels; mine, theirs: logits of both models, [N]."""

    scores: pa.Table
    labels: np.ndarray
    mine: np.ndarray
    theirs: np.ndarray

    def difference(self) -> RowComponents:
        """Of the difference of both AUCs. Raises SingleClassError where all labels are equal."""
        weights = weights_of(self.scores)
        own, other = (
            RowComponents.of(RankStatistic.of(self.labels, logits, weights), self.labels, logits, weights)
            for logits in (self.mine, self.theirs)
        )
        return own - other


@dataclass
class Differences:
    """What is known of one task and scenario so far. weight: the sum of the rows of `days`."""

    weighted: float = 0.0
    weight: int = 0
    positives: int = 0
    days: list[DayDifference] = field(default_factory=list)
    users: UserSums = field(default_factory=UserSums)
    gauc: GaucSums = field(default_factory=GaucSums)

    def add(self, day: date, pair: ScoredTwice) -> None:
        """One day more. Nothing where all labels are equal."""
        try:
            rows = pair.difference()
        except SingleClassError:
            return
        users, labels = pair.scores["user"], pair.labels
        alone = UserSums()
        alone.add(users, labels, rows)
        spread = alone.spread()
        reach = None if spread is None else spread.quantile() * spread.error
        low, high = (None, None) if reach is None else (rows.auc - reach, rows.auc + reach)
        self.days.append(DayDifference(day=day, value=rows.auc, low=low, high=high))
        self.users.add(users, labels, rows, factor=len(labels))
        self.weighted, self.weight = self.weighted + len(labels) * rows.auc, self.weight + len(labels)
        self.positives += int(labels.sum())
        self.gauc.add(pair.scores, labels, pair.mine, pair.theirs)


def contrasts_of(out: Path, days: Sequence[date], challenger: str, champion: str) -> list[Contrast]:
    """Of every task: over all rows, and inside each scenario that has two users of either label.

    Raises DataError, with counts, where the two were judged on different rows.
    """
    parts: dict[Part, Differences] = {}
    for day in days:
        own, other = (read_scores(day_folder(out, name, day)) for name in (challenger, champion))
        _check_same_rows(own, other, day, (challenger, champion))
        for part, pair in _pairs(own, other):
            parts.setdefault(part, Differences()).add(day, pair)
    return _corrected([_contrast(part, of, challenger, champion) for part, of in parts.items()])


def _pairs(own: pa.Table, other: pa.Table) -> Iterator[tuple[Part, ScoredTwice]]:
    """Of one day, the rows of every task and scenario."""
    for part, at in parts_of(own):
        scores = own.take(at)
        labels, mine = labels_and_logits(scores, part[0])
        yield part, ScoredTwice(scores, labels, mine, labels_and_logits(other.take(at), part[0])[1])


def _contrast(part: Part, of: Differences, challenger: str, champion: str) -> Contrast | None:
    """None where there is no error."""
    spread = of.users.spread(of.weight)
    if spread is None:
        return None
    value, reach = of.weighted / of.weight, spread.quantile() * spread.error
    p = spread.p(value)
    return Contrast(
        challenger=challenger,
        champion=champion,
        task=part[0],
        part="overall" if part[1] is None else "scenario",
        scenario=part[1],
        rows=of.weight,
        positives=of.positives,
        users=of.users.users,
        value=value,
        error=spread.error,
        low=value - reach,
        high=value + reach,
        p=p,
        adjusted_p=p,
        significant=p <= FALSE_DISCOVERIES,
        days=tuple(of.days),
        gauc=of.gauc.found(),
    )


def corrected(family: Sequence[Contrast], rate: float = FALSE_DISCOVERIES) -> list[Contrast]:
    """The differences of one family, those of AUC and those of GAUC each for themselves. rate: of false marks."""
    aucs, gaucs = iter(_marked(family, rate)), iter(_marked([of.gauc for of in family if of.gauc is not None], rate))
    return [next(aucs).model_copy(update={"gauc": next(gaucs) if of.gauc is not None else None}) for of in family]


def _marked(family: Sequence[AnyT], rate: float) -> list[AnyT]:
    adjusted = benjamini_hochberg([of.p for of in family])
    marks = ({"adjusted_p": float(p), "significant": bool(p <= rate)} for p in adjusted)
    return [of.model_copy(update=mark) for of, mark in zip(family, marks, strict=True)]


def _corrected(found: Iterable[Contrast | None]) -> list[Contrast]:
    """All rows first, each alone, and the scenarios of a task as one family."""
    known = [contrast for contrast in found if contrast is not None]
    every = [one for contrast in known if contrast.scenario is None for one in corrected([contrast])]
    for task in dict.fromkeys(contrast.task for contrast in known):
        every += corrected([contrast for contrast in known if contrast.task == task and contrast.scenario is not None])
    return every


def _check_same_rows(own: pa.Table, other: pa.Table, day: date, names: tuple[str, str]) -> None:
    mine, theirs = own["row"].to_numpy(), other["row"].to_numpy()
    if not np.array_equal(mine, theirs):
        shared = len(np.intersect1d(mine, theirs))
        counts = f"{day}: {len(mine):,} and {len(theirs):,} rows, {shared:,} of them the same"
        raise DataError(f"{names[0]} and {names[1]} were not judged on the same rows: {counts}; judge them apart")
    for name in (name for name in own.column_names if name.startswith("label_")):
        if not own[name].equals(other[name]):
            differing = int((own[name].to_numpy() != other[name].to_numpy()).sum())
            raise DataError(
                f"{names[0]} and {names[1]}: {day}: {differing:,} rows have another {name}; judge them apart"
            )
