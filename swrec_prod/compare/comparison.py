"""Which of several variants is better, and whether that is more than chance: `swrec compare`.

Every figure is computed from predictions of finished runs on the same test rows, with the rows of a user (or of another
column's value) as one cluster, and is a mean over seeds. Differences are of AUC, paired by row; what their intervals
cover stands in statistics/paired.py. Those of log loss and GAUC are bootstrapped where asked (evaluate/resampled.py).
What is marked significant stays so when many differences are looked at: of the marks of one family, FALSE_DISCOVERIES
may be false (Benjamini & Hochberg 1995, statistics/multiple.py). One family are the differences of a figure over all
rows, another those inside scenarios.

Shapes: N test rows, R seeds.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from swrec_prod.compare.power import NoiseFloor, Power
from swrec_prod.compare.resampled import resampled
from swrec_prod.compare.runs import Scores, TestRows, Variant, read_scores, variants_of
from swrec_prod.errors import ConfigError, MetricError, SingleClassError, nearest
from swrec_prod.metrics.probabilities import logloss
from swrec_prod.metrics.ranks import Interval
from swrec_prod.metrics.within_groups import gauc
from swrec_prod.statistics.multiple import significant
from swrec_prod.statistics.paired import ClusteredRows, Difference, SeedAucs, auc_mean

FALSE_DISCOVERIES = 0.05
STRENGTHS = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)  # values of c that a table shows
KeyT = TypeVar("KeyT", bound=Hashable)


class Figures(NamedTuple):
    """A variant's figures, each a mean over its seeds. deviation: standard deviation of AUC over seeds, None for one
    seed; scenarios: AUC of each, None where all its labels are equal; macro: their mean; gauc: None where no user has
    both labels.
    """

    variant: str
    seeds: tuple[int, ...]
    auc: Interval
    deviation: float | None
    logloss: float
    scenarios: list[float | None]
    macro: float | None
    gauc: float | None


class Contrast(NamedTuple):
    """A difference of AUC, and whether it stays significant among all that are compared with it."""

    difference: Difference
    significant: bool


class Resamples(NamedTuple):
    """A bootstrapped figure: its interval by variant, and every other variant less the baseline."""

    intervals: dict[str, Interval]
    differences: dict[str, Contrast]


class Comparison(NamedTuple):
    """Variants on the same test rows, in the order in which they were given.

    differences: of every other variant less the baseline; by_scenario: the same inside each scenario, by variant and
    scenario, without scenarios that have fewer than two users of either label. strengths: AUC of the ranking score for
    every c of STRENGTHS, by variant with a causal split. powers: of every other variant against the baseline; floor:
    what difference is due to chance alone; resamples: how many; resampled: by figure, empty without resamples.
    """

    variants: list[Variant]
    rows: TestRows
    baseline: str
    figures: list[Figures]
    differences: dict[str, Contrast]
    by_scenario: dict[tuple[str, str], Contrast]
    strengths: dict[str, list[float]]
    powers: dict[str, Power]
    floor: NoiseFloor
    resamples: int
    resampled: dict[str, Resamples]


class Part(NamedTuple):
    """Some of the test rows, and what the AUCs of every variant's seeds are on them, by variant."""

    rows: ClusteredRows
    aucs: dict[str, SeedAucs]

    @classmethod
    def of(cls, rows: TestRows, scores: Sequence[Scores], at: np.ndarray | slice = slice(None)) -> Part:
        """at: row numbers, all by default. Raises SingleClassError when all their labels are equal."""
        part = ClusteredRows.of(rows.labels_N[at], rows.cluster_N[at])
        return cls(part, {s.variant: part.seeds(s.logit_RN[:, at]) for s in scores})

    def difference(self, variant: str, baseline: str) -> Difference:
        """Raises MetricError when the part has fewer than two clusters of either label."""
        return self.rows.difference(self.aucs[variant], self.aucs[baseline])

    def power(self, variant: str, baseline: str, days: int) -> Power:
        """What difference of the two is seen with these rows, and how much data smaller ones take."""
        variances = self.rows.variances([self.aucs[variant], -self.aucs[baseline]])
        return Power.of(variances, int(self.rows.counts[2]), days)


@dataclass(frozen=True, eq=False)
class JudgedVariants:
    """Variants and their AUCs on the same rows: `whole` on all, `parts` inside each scenario, None where all labels of
    one are equal.
    """

    rows: TestRows
    scores: dict[str, Scores]
    whole: Part
    parts: list[Part | None]

    @classmethod
    def of(cls, rows: TestRows, scores: Sequence[Scores]) -> JudgedVariants:
        """Raises SingleClassError when all labels are equal."""
        parts = [_part(rows, scores, at) for at in _rows_of_scenarios(rows)]
        return cls(rows, {s.variant: s for s in scores}, Part.of(rows, scores), parts)

    def figures(self, variant: str) -> Figures:
        """All plain figures of one variant. Raises MetricError when fewer than two users have a row of either label."""
        scores, aucs = self.scores[variant], self.whole.aucs[variant]
        by_scenario = [part.aucs[variant].value if part else None for part in self.parts]
        known = [value for value in by_scenario if value is not None]
        return Figures(
            variant,
            scores.seeds,
            self.whole.rows.mean(aucs),
            float(np.std(aucs.auc_R, ddof=1)) if len(aucs.auc_R) > 1 else None,
            float(np.mean([logloss(self.rows.labels_N, logit_N) for logit_N in scores.logit_RN])),
            by_scenario,
            float(np.mean(known)) if known else None,
            _mean_gauc(self.rows, scores.logit_RN),
        )

    def against(self, baseline: str) -> dict[str, Contrast]:
        """Every other variant less `baseline`, by variant; empty when the baseline has no finished run."""
        others = [name for name in self.scores if name != baseline] if baseline in self.scores else []
        return contrasts({name: self.whole.difference(name, baseline) for name in others})

    def against_by_scenario(self, baseline: str) -> dict[tuple[str, str], Contrast]:
        """The same inside each scenario that has two users of either label, by variant and scenario."""
        differences: dict[tuple[str, str], Difference] = {}
        for scenario, part in zip(self.rows.scenarios, self.parts, strict=True):
            if part and part.rows.has_errors:
                others = (name for name in part.aucs if name != baseline)
                differences |= {(name, scenario): part.difference(name, baseline) for name in others}
        return contrasts(differences)


def compare_runs(
    words: Sequence[str], baseline: str | None = None, clusters: str = "user", resamples: int = 0
) -> Comparison:
    """Compare finished runs, each given as RUN_DIR or NAME=RUN_DIR (see `variants_of`), with `baseline`, or the first.

    clusters: the column of predictions whose rows of one value are not independent; resamples: of the bootstrap of log
    loss and GAUC, 0 for none.

    Raises ConfigError for a baseline or column that does not exist, CheckpointError for a run that has not finished,
    DataError when runs were judged by different rows, MetricError when these have fewer than two clusters of either
    label.
    """
    variants = variants_of(words)
    names = [variant.name for variant in variants]
    if baseline is not None and baseline not in names:
        raise ConfigError(f"--baseline {baseline}: no such variant; {nearest(baseline, names)}")
    rows, scores = read_scores({variant.name: variant.runs for variant in variants}, clusters)
    try:
        return _compared(variants, JudgedVariants.of(rows, scores), baseline or names[0], resamples)
    except MetricError as failure:
        raise type(failure)(f"{variants[0].runs[0].folder}: test rows: {failure}") from None


def contrasts(differences: Mapping[KeyT, Difference]) -> dict[KeyT, Contrast]:
    """One family of differences, with the rate of false discoveries among them held."""
    marks = significant([difference.p for difference in differences.values()], FALSE_DISCOVERIES)
    pairs = zip(differences.items(), marks, strict=True)
    return {key: Contrast(difference, mark) for (key, difference), mark in pairs}


def strengths_of(labels_N: np.ndarray, scores: Scores) -> list[float]:
    """AUC of the ranking score over all scenarios for every c of STRENGTHS, mean of seeds.

    labels_N: or probabilities.
    """
    return [auc_mean(labels_N, np.stack([split.rescored(c) for split in scores.splits])).value for c in STRENGTHS]


def _compared(variants: list[Variant], judged: JudgedVariants, baseline: str, resamples: int) -> Comparison:
    causal = {name: scores for name, scores in judged.scores.items() if scores.splits}
    return Comparison(
        variants,
        judged.rows,
        baseline,
        [judged.figures(variant.name) for variant in variants],
        judged.against(baseline),
        judged.against_by_scenario(baseline),
        {name: strengths_of(judged.rows.labels_N, scores) for name, scores in causal.items()},
        {name: judged.whole.power(name, baseline, judged.rows.days) for name in judged.scores if name != baseline},
        NoiseFloor.of([judged.whole.aucs[variant.name] for variant in variants], judged.whole.rows),
        resamples,
        _resampled(judged, baseline, resamples) if resamples else {},
    )


def _resampled(judged: JudgedVariants, baseline: str, resamples: int) -> dict[str, Resamples]:
    found = resampled(judged.rows, list(judged.scores.values()), resamples)
    return {
        figure: Resamples(
            {name: draws.interval() for name, draws in by_variant.items()},
            contrasts({n: (d - by_variant[baseline]).difference() for n, d in by_variant.items() if n != baseline}),
        )
        for figure, by_variant in found.items()
    }


def _rows_of_scenarios(rows: TestRows) -> list[np.ndarray]:
    """The row numbers of each scenario."""
    ends = np.cumsum(np.bincount(rows.scenario_N, minlength=len(rows.scenarios)))
    return np.split(np.argsort(rows.scenario_N, kind="stable"), ends[:-1])


def _part(rows: TestRows, scores: Sequence[Scores], at: np.ndarray) -> Part | None:
    try:
        return Part.of(rows, scores, at)
    except SingleClassError:
        return None


def _mean_gauc(rows: TestRows, logit_RN: np.ndarray) -> float | None:
    try:
        return float(np.mean([gauc(rows.labels_N, logit_N, rows.user_N).value for logit_N in logit_RN]))
    except SingleClassError:
        return None
