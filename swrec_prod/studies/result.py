"""What a study has found: its variants compared on the same rows, with one family of differences for all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from swrec_prod.compare.comparison import Comparison, compare_runs, contrasts
from swrec_prod.errors import ConfigError
from swrec_prod.studies.data import Say, StudyData
from swrec_prod.studies.folder import notes_of
from swrec_prod.studies.overlap import Overlap, measured
from swrec_prod.studies.plan import StudyPlan
from swrec_prod.studies.runs import Cost, StudyRun, runs_of, train_missing


class StudyResult(NamedTuple):
    """comparisons: by group, each against its first variant; what they mark as significant is so among all differences
    of the study. costs: means over seeds, by group and variant. notes: what was done to the rows of each. overlap: of
    users and items in the training rows, where the study is about it.
    """

    plan: StudyPlan
    comparisons: dict[str, Comparison]
    costs: dict[tuple[str, str], Cost]
    notes: dict[tuple[str, str], list[dict[str, Any]]]
    overlap: dict[str, Overlap]


def carry_out(plan: StudyPlan, out: Path, say: Say) -> StudyResult:
    """Make the rows, train what is missing and compare. Killed at any moment, the same call goes on.

    Raises ConfigError for what does not fit together, before anything is trained; what training raises; MetricError
    where the test rows have fewer than two users of either label.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file; choose another --out")
    data = StudyData(plan, out, say)
    runs = runs_of(plan, data)
    train_missing(runs, say)
    say("comparing")
    variants = {(run.variant.group, run.variant.name): run.variant for run in runs}
    return StudyResult(
        plan,
        together({group: _compared(group, runs) for group in plan.groups}),
        {key: _mean_cost(key, runs) for key in variants},
        {key: notes_of(data.rows(variant).catalog.root) for key, variant in variants.items()},
        measured(data.unchanged(plan.variants[0])) if "rows.common_users" in plan.study.axes else {},
    )


def together(comparisons: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """The comparisons with the rate of false discoveries held among the differences of all of them."""
    over_all = contrasts(
        {(group, name): c.difference for group, of in comparisons.items() for name, c in of.differences.items()}
    )
    inside = contrasts(
        {(group, *key): c.difference for group, of in comparisons.items() for key, c in of.by_scenario.items()}
    )
    return {
        group: of._replace(
            differences={name: over_all[group, name] for name in of.differences},
            by_scenario={key: inside[group, *key] for key in of.by_scenario},
        )
        for group, of in comparisons.items()
    }


def _compared(group: str, runs: Sequence[StudyRun]) -> Comparison:
    words = [f"{run.variant.name}={run.folder}" for run in _in_order(runs) if run.variant.group == group]
    return compare_runs(words)


def _in_order(runs: Sequence[StudyRun]) -> list[StudyRun]:
    """Variants as they were planned, the seeds of each together."""
    first = {run.variant: at for at, run in reversed(list(enumerate(runs)))}
    return sorted(runs, key=lambda run: first[run.variant])


def _mean_cost(key: tuple[str, str], runs: Sequence[StudyRun]) -> Cost:
    records = [run.record() for run in runs if (run.variant.group, run.variant.name) == key]
    costs = [record.cost.model_dump() for record in records if record is not None]
    means = {name: type(value)(np.mean([cost[name] for cost in costs])) for name, value in costs[0].items()}
    return Cost(**means)
