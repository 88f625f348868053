"""A study in words and numbers: study.json for programs, study.md for readers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from swrec_prod.compare.comparison import FALSE_DISCOVERIES
from swrec_prod.compare.text import (
    MARK,
    comparison_grid,
    comparison_json,
    lead,
    note,
    scenario_grid,
    scenario_note,
    verdict,
)
from swrec_prod.evaluate.text import Grid, count, markdown_table, number, several, share
from swrec_prod.files import write_json, write_text
from swrec_prod.studies.overlap import Overlap
from swrec_prod.studies.result import StudyResult

LONG = 8  # values of a list, and scenarios beside each other, that study.md shows
FAMILY = (
    f"What is marked {MARK} is significant among all differences of this study, those over all rows and those inside "
    f"scenarios each for themselves: {share(FALSE_DISCOVERIES)} of the marks may be false."
)


def write_study(result: StudyResult, out: Path) -> None:
    """Write study.json and study.md into the folder `out`, each whole or not at all."""
    write_json(out / "study.json", study_json(result))
    write_text(out / "study.md", study_markdown(result))


def study_json(result: StudyResult) -> dict[str, Any]:
    """study.json: `groups` as in compare.json, by group; docs/studies.md says what else there is."""
    plan = result.plan
    return {
        **plan.to_json(),
        "question": plan.study.question,
        "false_discoveries": FALSE_DISCOVERIES,
        "groups": {group: comparison_json(comparison) for group, comparison in result.comparisons.items()},
        "costs": [{"group": g, "name": n, **cost.model_dump()} for (g, n), cost in result.costs.items()],
        "rows": [{"group": g, "name": n, "changes": notes} for (g, n), notes in result.notes.items() if notes],
        "overlap": {what: overlap.to_json() for what, overlap in result.overlap.items()},
    }


def study_markdown(result: StudyResult) -> str:
    """study.md."""
    return "\n\n".join(_parts(result)) + "\n"


def _parts(result: StudyResult) -> Iterator[str]:
    plan = result.plan
    yield f"# Study: {plan.name}"
    yield plan.study.question
    seeds = f"{several(len(plan.seeds), 'seed')} ({', '.join(map(str, plan.seeds))})"
    yield f"{several(len(plan.variants), 'variant')} of `{plan.run}`, {seeds}. {FAMILY}".replace(MARK, f"\\{MARK}")
    for group, comparison in result.comparisons.items():
        yield f"## {group or 'Figures'}"
        yield lead(comparison)
        yield _table(comparison_grid(comparison))
        if comparison.differences:
            yield f"Against {comparison.baseline}, {verdict(comparison.differences)}"
        yield f"AUC inside each scenario{scenario_note(comparison)}:"
        yield _table(scenario_grid(comparison))
    yield note(next(iter(result.comparisons.values()))).replace(MARK, f"\\{MARK}")
    yield "## Costs"
    yield "Means over seeds. Memory is the most that a run's process had, with the rows that it held."
    yield _table(cost_grid(result))
    for what, overlap in result.overlap.items():
        yield f"## {what.capitalize()} that scenarios share"
        shared = f"shared over those in either{_cut(overlap)}"
        yield f"In the training rows before anything was changed. Below another scenario: {shared}."
        yield _table(overlap_grid(what, overlap))
    if any(result.notes.values()):
        yield "## Changed rows"
        yield _table(notes_grid(result))


def cost_grid(result: StudyResult) -> Grid:
    """One line a variant."""
    header = ["variant", "rows/s", "in tables", "above tables", "peak MB", "minutes"]
    rows = [
        [
            ", ".join(filter(None, key)),
            count(cost.rows_per_second),
            count(cost.tables),
            count(cost.dense),
            count(cost.peak_mb),
            f"{cost.seconds / 60:.1f}",
        ]
        for key, cost in result.costs.items()
    ]
    return Grid(header, rows)


def overlap_grid(what: str, overlap: Overlap) -> Grid:
    """One line for each of the largest scenarios: its number, how many are elsewhere too, and each of the others."""
    own_S = overlap.shared_SS.diagonal()
    order = np.argsort(-own_S, kind="stable")[:LONG]
    header = ["scenario", what, "elsewhere too", *(overlap.scenarios[t] for t in order)]
    rows = [
        [
            overlap.scenarios[s],
            count(own_S[s]),
            share(float(overlap.elsewhere_S[s] / max(own_S[s], 1))),
            *("" if s == t else number(float(overlap.jaccard_SS[s, t]), 3) for t in order),
        ]
        for s in order
    ]
    return Grid(header, rows)


def _cut(overlap: Overlap) -> str:
    """Which scenarios the table leaves out; "" for none."""
    return f", of the {LONG} largest of {len(overlap.scenarios)}" if len(overlap.scenarios) > LONG else ""


def notes_grid(result: StudyResult) -> Grid:
    """What was done to the rows of each variant."""
    rows = [
        [", ".join(filter(None, key)), "; ".join(_note(note) for note in notes)]
        for key, notes in result.notes.items()
        if notes
    ]
    return Grid(["variant", "what was done"], rows)


def _note(note: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_shown(value)}" for key, value in note.items())


def _shown(value: Any) -> str:
    """A value of a note; of a long list how many there are, as study.json has them."""
    if isinstance(value, list) and len(value) > LONG:
        return f"({len(value)})"
    return value if isinstance(value, str) else json.dumps(value)


def _table(grid: Grid) -> str:
    return markdown_table(grid.header, grid.rows)
