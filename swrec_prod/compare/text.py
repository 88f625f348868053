"""A comparison of runs in words and numbers: JSON for programs, a table for the terminal, Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Console

from swrec_prod.compare.comparison import FALSE_DISCOVERIES, STRENGTHS, Comparison, Contrast, Figures
from swrec_prod.compare.power import POWER, TARGET, Power
from swrec_prod.compare.runs import Variant
from swrec_prod.evaluate.judged import MAX_BARS
from swrec_prod.evaluate.terminal import terminal_table
from swrec_prod.evaluate.text import Grid, change, count, interval, markdown_table, number, several, share
from swrec_prod.metrics.improvement import improvements

MARK = "*"  # of a significant difference
WIDEST = 500  # columns of a table on the terminal
UNDECIDED = "no significant difference"
STRENGTH_NAMES = tuple(f"c = {c:g}".replace("-", "−") for c in STRENGTHS)
FIGURES = (
    "Every figure is the mean of a variant's seeds. Beside AUC is half its 95 % interval, which covers other users "
    "and, with several seeds, other seeds; sd is the standard deviation of AUC over seeds, macro the mean of the "
    "scenarios' AUC."
)
DIFFERENCES = (
    f" Differences are paired by row; {MARK} marks what stays significant when {share(FALSE_DISCOVERIES)} of the marks "
    "may be false."
)


RESAMPLED_NAMES = {"logloss": "log loss", "gauc": "GAUC"}


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """compare.json; docs/comparing.md says what its keys mean."""
    rows = comparison.rows
    sizes, positives = (np.bincount(rows.scenario_N, mass) for mass in (np.ones_like(rows.labels_N), rows.labels_N))
    return {
        "task": rows.task,
        "rows": len(rows.row_N),
        "positives": int(rows.labels_N.sum()),
        "users": _users(comparison),
        "scenarios": {
            name: {"rows": int(size), "positives": int(clicks)}
            for name, size, clicks in zip(rows.scenarios, sizes, positives, strict=True)
        },
        "baseline": comparison.baseline,
        "clusters": rows.clusters,
        "resamples": comparison.resamples,
        "noise_floor": comparison.floor._asdict(),
        "false_discoveries": FALSE_DISCOVERIES,
        "variants": [
            _variant_json(comparison, variant, figures)
            for variant, figures in zip(comparison.variants, comparison.figures, strict=True)
        ],
    }


def comparison_grid(comparison: Comparison) -> Grid:
    """One line a variant, best AUC first, with its difference to the baseline where there are others."""
    header = ["variant", "seeds", "AUC", "sd", "log loss", "macro", "GAUC"]
    if len(comparison.figures) > 1:
        header.append(f"less {comparison.baseline}")
    return Grid(header, [_row(comparison, figures)[: len(header)] for figures in ranked(comparison)])


def scenario_grid(comparison: Comparison) -> Grid:
    """AUC inside each of the busiest scenarios and its difference to the baseline, one column a variant."""
    order = ranked(comparison)
    rows = []
    for scenario, size in busiest(comparison)[:MAX_BARS]:
        at = comparison.rows.scenarios.index(scenario)
        cells = [_scenario_cell(comparison, figures, scenario, figures.scenarios[at]) for figures in order]
        rows.append([scenario, count(size), *cells])
    return Grid(["scenario", "rows", *(figures.variant for figures in order)], rows)


def strength_grid(comparison: Comparison) -> Grid:
    """AUC of the ranking score for several c, one line a variant with a causal split."""
    return Grid(
        ["variant", *STRENGTH_NAMES], [[name, *map(number, aucs)] for name, aucs in comparison.strengths.items()]
    )


def resampled_grid(comparison: Comparison) -> Grid:
    """The bootstrapped figures with their intervals and differences, one line a variant."""
    header, others = ["variant"], len(comparison.figures) > 1
    for figure in comparison.resampled:
        header += [RESAMPLED_NAMES[figure], *([f"less {comparison.baseline}"] if others else [])]
    return Grid(header, [[f.variant, *_resampled_cells(comparison, f.variant, others)] for f in ranked(comparison)])


def resampled_note(comparison: Comparison) -> str:
    """What the intervals of `resampled_grid` are."""
    return f"95 % intervals of {several(comparison.resamples, 'bootstrap resample')} of {comparison.rows.clusters}s."


def seen(comparison: Comparison) -> list[str]:
    """Which differences of AUC these rows can show, and what it would take to see one of TARGET: a sentence each."""
    floor = comparison.floor
    sentences = [_seen(comparison, name, power) for name, power in comparison.powers.items()]
    if floor.seeds is not None:
        sentences.append(f"Two runs of one variant differ by up to {number(floor.seeds)} AUC by their seeds alone.")
    if floor.halves is not None:
        unit = comparison.rows.clusters
        sentences.append(f"One run differs by up to {number(floor.halves)} AUC between two halves of the {unit}s.")
    return sentences


def comparison_markdown(comparison: Comparison) -> str:
    """compare.md."""
    return "\n\n".join(("# Comparison of runs", lead(comparison), *_tables(comparison))) + "\n"


def lead(comparison: Comparison) -> str:
    """What was compared, by which rows."""
    rows = comparison.rows
    runs = sum(len(variant.runs) for variant in comparison.variants)
    judged = f"{several(len(rows.row_N), 'row')} by {several(_users(comparison), 'user')}"
    return (
        f"{several(len(comparison.variants), 'variant')} in {several(runs, 'run')}, judged on {judged} in "
        f"{several(len(rows.scenarios), 'scenario')}; {share(rows.labels_N.mean())} are {rows.task}s."
    )


def ranked(comparison: Comparison) -> list[Figures]:
    """The variants' figures, best AUC first."""
    return sorted(comparison.figures, key=lambda figures: -figures.auc.value)


def busiest(comparison: Comparison) -> list[tuple[str, int]]:
    """Scenarios by falling number of test rows, with that number."""
    sizes = np.bincount(comparison.rows.scenario_N).tolist()
    return sorted(zip(comparison.rows.scenarios, sizes, strict=True), key=lambda item: -item[1])


def difference_text(contrast: Contrast | None) -> str:
    """A difference with half its interval, and a mark where it is significant; "" for None."""
    if contrast is None:
        return ""
    value, _, low, high, _ = contrast.difference
    return f"{change(value)} ± {(high - low) / 2:.4f}{f' {MARK}' if contrast.significant else ''}"


def verdict(differences: Mapping[str, Contrast]) -> str:
    """What a family of differences says, after "Against the baseline, "; by name."""
    groups: dict[str, list[str]] = {"significantly higher": [], "significantly lower": [], UNDECIDED: []}
    for name, (difference, significant) in sorted(differences.items(), key=lambda item: -item[1].difference.value):
        direction = "higher" if difference.value > 0 else "lower"
        groups[f"significantly {direction}" if significant else UNDECIDED].append(
            f"{name} ({change(difference.value)})"
        )
    verdicts = "; ".join(f"{which}: {', '.join(names) or 'none'}" for which, names in groups.items())
    return f"of {several(len(differences), 'comparison')}, {verdicts}."


def print_comparison(comparison: Comparison) -> None:
    """The table of all rows on the terminal."""
    table = terminal_table(comparison_grid(comparison))
    needed = Console(width=WIDEST).measure(table).maximum  # in a narrower terminal lines wrap, and no figure is cut
    console = Console(width=max(Console().width, needed), highlight=False, markup=False)
    console.print(lead(comparison), soft_wrap=True)
    console.print(table)
    console.print(note(comparison), soft_wrap=True)
    if comparison.resampled:
        console.print(terminal_table(resampled_grid(comparison)))
        console.print(resampled_note(comparison), soft_wrap=True)
    for sentence in seen(comparison):
        console.print(sentence, soft_wrap=True)


def changed_settings(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """What the variants' configurations differ in: variant -> `section.key` -> value."""
    keys = dict.fromkeys(key for variant in comparison.variants for key in variant.settings)
    settings = {variant.name: variant.settings for variant in comparison.variants}
    first = comparison.variants[0].settings
    apart = [key for key in keys if any(own.get(key) != first.get(key) for own in settings.values())]
    return {name: {key: own.get(key) for key in apart} for name, own in settings.items()}


def _variant_json(comparison: Comparison, variant: Variant, figures: Figures) -> dict[str, Any]:
    strengths = comparison.strengths.get(variant.name)
    base = next((of for of in comparison.figures if of.variant == comparison.baseline), None)
    of_base = base.scenarios if base else [None] * len(figures.scenarios)
    scenarios = zip(comparison.rows.scenarios, figures.scenarios, of_base, strict=True)
    return {
        "name": variant.name,
        "runs": [str(run.folder) for run in variant.runs],
        "seeds": list(figures.seeds),
        "settings": changed_settings(comparison)[variant.name],
        "auc": figures.auc._asdict(),
        "auc_sd": figures.deviation,
        "logloss": figures.logloss,
        "macro_auc": figures.macro,
        "gauc": figures.gauc,
        **improvements(figures.auc.value, base.auc.value if base else None),
        "difference": _contrast_json(comparison.differences.get(variant.name)),
        "power": _power_json(comparison.powers.get(variant.name)),
        "resampled": {
            figure: {
                "interval": found.intervals[variant.name]._asdict(),
                "difference": _contrast_json(found.differences.get(variant.name)),
            }
            for figure, found in comparison.resampled.items()
        },
        "scenarios": {
            name: {
                "auc": auc,
                **improvements(auc, auc_of_base),
                "difference": _contrast_json(comparison.by_scenario.get((variant.name, name))),
            }
            for name, auc, auc_of_base in scenarios
        },
        "strengths": {f"{c:g}": auc for c, auc in zip(STRENGTHS, strengths, strict=True)} if strengths else None,
    }


def _contrast_json(contrast: Contrast | None) -> dict[str, Any] | None:
    return {**contrast.difference._asdict(), "significant": contrast.significant} if contrast else None


def _power_json(power: Power | None) -> dict[str, Any] | None:
    return {"target": TARGET, "chance": POWER, **power._asdict()} if power else None


def _resampled_cells(comparison: Comparison, variant: str, others: bool) -> Iterator[str]:
    for found in comparison.resampled.values():
        yield interval(found.intervals[variant])
        if others:
            yield "baseline" if variant == comparison.baseline else difference_text(found.differences[variant])


def _seen(comparison: Comparison, variant: str, power: Power) -> str:
    unit = comparison.rows.clusters
    needed = f"would be seen with no number of {unit}s, as seeds vary too much: train more seeds"
    if power.clusters is not None and power.times is not None and power.days is not None:
        more = f"{number(power.times, 1)} times these, about {several(power.days, 'day')}"
        needed = f"would be seen with {several(power.clusters, unit)} ({more})"
    here = several(len(np.unique(comparison.rows.cluster_N)), unit)
    return (
        f"{variant} less {comparison.baseline}: with these {here} a difference of {number(power.smallest)} AUC is seen "
        f"in {share(POWER)} of cases; a difference of {TARGET:g} {needed}."
    )


def _row(comparison: Comparison, figures: Figures) -> list[str]:
    less = "baseline" if figures.variant == comparison.baseline else None
    return [
        figures.variant,
        str(len(figures.seeds)),
        interval(figures.auc),
        number(figures.deviation),
        number(figures.logloss),
        number(figures.macro),
        number(figures.gauc),
        less or difference_text(comparison.differences.get(figures.variant)),
    ]


def _scenario_cell(comparison: Comparison, figures: Figures, scenario: str, auc: float | None) -> str:
    contrast = comparison.by_scenario.get((figures.variant, scenario))
    if auc is None or contrast is None:
        return number(auc)
    return f"{number(auc)} ({change(contrast.difference.value)}{f' {MARK}' if contrast.significant else ''})"


def _tables(comparison: Comparison) -> Iterator[str]:
    yield _markdown(comparison_grid(comparison))
    yield note(comparison).replace(MARK, f"\\{MARK}")
    if comparison.resampled:
        yield _markdown(resampled_grid(comparison))
        yield resampled_note(comparison)
    yield "\n".join(f"- {sentence}" for sentence in seen(comparison))
    yield f"AUC inside each scenario{scenario_note(comparison)}:"
    yield _markdown(scenario_grid(comparison))
    if comparison.strengths:
        yield "AUC of the ranking score by the strength c with which the scenario is taken away:"
        yield _markdown(strength_grid(comparison))


def _markdown(grid: Grid) -> str:
    return markdown_table(grid.header, grid.rows)


def note(comparison: Comparison) -> str:
    """How to read the table of all rows."""
    return FIGURES + (DIFFERENCES if comparison.differences else "")


def scenario_note(comparison: Comparison) -> str:
    """What the table of scenarios has beside AUC, and leaves out; "" for nothing."""
    scenarios = len(comparison.rows.scenarios)
    left_out = f" (the {MAX_BARS} busiest of {scenarios})" if scenarios > MAX_BARS else ""
    return left_out + (f", and its difference to {comparison.baseline}" if comparison.differences else "")


def _users(comparison: Comparison) -> int:
    return len(np.unique(comparison.rows.user_N))
