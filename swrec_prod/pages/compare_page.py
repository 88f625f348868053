"""A comparison of runs as a folder to pass on: compare.json, compare.md, and compare.html with pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from swrec_prod.compare.comparison import STRENGTHS, Comparison, Contrast
from swrec_prod.compare.text import (
    busiest,
    changed_settings,
    comparison_grid,
    comparison_json,
    comparison_markdown,
    lead,
    note,
    ranked,
    resampled_grid,
    resampled_note,
    scenario_grid,
    scenario_note,
    strength_grid,
    verdict,
)
from swrec_prod.drawing.html import as_html
from swrec_prod.drawing.page import Card, Facts, Page, Section, Table
from swrec_prod.drawing.style import COLORS, DASHES, NARROW, Picture, absent, styled
from swrec_prod.drawing.whiskers import Unit, Whisker, draw_whiskers, seesaw, whiskers_picture
from swrec_prod.evaluate.judged import MAX_BARS
from swrec_prod.evaluate.text import axis_names, interval, several, short, signed
from swrec_prod.files import write_json, write_text

PAGE = "compare.html"
PANELS, ACROSS = 12, 3  # variants in the picture by scenario, and how many are side by side


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write compare.json, compare.md and compare.html into the folder `out`, each whole or not at all."""
    write_json(out / "compare.json", comparison_json(comparison))
    write_text(out / "compare.md", comparison_markdown(comparison))
    write_text(out / PAGE, as_html(comparison_page(comparison)))


def comparison_page(comparison: Comparison) -> Page:
    """The page: the table, pictures of the differences, and the figures of every scenario."""
    sections: list[Section] = [Table("Figures over all rows", comparison_grid(comparison), note(comparison))]
    if comparison.differences:
        sections += [differences_picture(comparison), best_seesaw(comparison), scenarios_picture(comparison)]
    if comparison.resampled:
        how = resampled_note(comparison)
        sections.append(Table("Log loss and GAUC, bootstrapped", resampled_grid(comparison), how))
    inside = f"AUC inside each scenario{scenario_note(comparison)}."
    sections.append(Table("Figures by scenario", scenario_grid(comparison), inside))
    if comparison.strengths:
        sections += [strengths_picture(comparison), Table("Figures by c", strength_grid(comparison))]
    sections.append(Facts("What was compared", list(_facts(comparison))))
    return Page("Comparison of runs", lead(comparison), list(_cards(comparison)), sections)


def differences_picture(comparison: Comparison) -> Picture:
    """The difference of every variant to the baseline with its interval, best first."""
    whiskers = [_whisker(name, comparison.differences[name]) for name in _others(comparison)]
    how = "Filled: significant among all these differences. Each is paired by row, so that rows hard for both cancel."
    against = f"Against {comparison.baseline}, {verdict(comparison.differences)}"
    unit = Unit("AUC less that of the baseline, 95 % interval")
    return whiskers_picture(f"Difference to {comparison.baseline}", whiskers, unit, against, how)


def best_seesaw(comparison: Comparison) -> Picture:
    """What every scenario gains or loses with the variant of the highest AUC."""
    best = _others(comparison)[0]
    whiskers = [
        _whisker(scenario, contrast) for (name, scenario), contrast in comparison.by_scenario.items() if name == best
    ]
    how = (
        "Whiskers are 95\u202f% intervals. Filled: significant among the differences of all variants in all scenarios."
    )
    unit = Unit(f"AUC less that of {comparison.baseline}")
    return seesaw(f"What scenarios gain and lose with {best}", whiskers, unit, how)


def strengths_picture(comparison: Comparison) -> Picture:
    """AUC of the ranking score over c, one line a variant with a causal split."""
    figure = go.Figure()
    for i, (name, aucs) in enumerate(comparison.strengths.items()):
        line = {"color": COLORS[i % len(COLORS)], "dash": DASHES[i // len(COLORS) % len(DASHES)], "width": 2.2}
        hover = f"{name}: AUC %{{y:.4f}} at c = %{{x}}<extra></extra>"
        figure.add_scatter(x=STRENGTHS, y=aucs, name=short(name), mode="lines+markers", line=line, hovertemplate=hover)
    figure.update_xaxes(title_text="c", tickvals=STRENGTHS)
    figure.update_yaxes(title_text="AUC, all rows", tickformat=".3f")
    how = "AUC over all rows of the ranking score σ(y<sub>s</sub>) · (y<sub>m</sub> − c): c takes the scenario's own "
    how += "influence away."
    return Picture("Ranking score by c", _best_strengths(comparison), how, styled(figure, 360), NARROW)


def scenarios_picture(comparison: Comparison) -> Picture:
    """The same inside every scenario, one panel a variant."""
    title = "Difference inside each scenario"
    names = _others(comparison)[:PANELS]
    scenarios = [name for name, _ in busiest(comparison) if (names[0], name) in comparison.by_scenario]
    if not scenarios:
        return absent(title, "Left out: no scenario has two users of either label.")
    shown = scenarios[:MAX_BARS]
    labels = axis_names(shown)
    unit = Unit(f"AUC less that of {short(comparison.baseline)}")
    down, across = math.ceil(len(names) / ACROSS), min(ACROSS, len(names))
    figure = make_subplots(
        down,
        across,
        shared_yaxes=True,
        shared_xaxes="all",
        subplot_titles=axis_names(names),
        horizontal_spacing=0.03,
        vertical_spacing=0.2 / down,
    )
    for panel, name in enumerate(names):
        place = {"row": panel // ACROSS + 1, "col": panel % ACROSS + 1}
        whiskers = [_whisker(scenario, comparison.by_scenario[name, scenario]) for scenario in shown]
        draw_whiskers(figure, whiskers, unit, labels, **place)
    figure.update_yaxes(type="category", range=[len(shown) - 0.4, -0.6])
    figure.update_xaxes(showticklabels=True)
    figure.update_xaxes(title_text=unit.name, row=down)
    figure = styled(figure, 120 + down * (60 + 28 * len(shown)))
    left_out = len(comparison.rows.scenarios) - len(shown)
    how = "Busiest scenario first. Filled: significant among the differences of all variants in all scenarios."
    how += f" {left_out} of {len(comparison.rows.scenarios)} scenarios are left out." if left_out else ""
    how += f" Shown are the {PANELS} best variants." if len(_others(comparison)) > PANELS else ""
    return Picture(title, _scenario_verdict(comparison, names, scenarios), how, figure)


def _whisker(name: str, contrast: Contrast) -> Whisker:
    difference = contrast.difference
    mark: Literal["gain", "loss", ""] = "gain" if difference.value > 0 else "loss"
    note = f"p = {difference.p:.2g}"
    return Whisker(name, difference.value, difference.low, difference.high, mark if contrast.significant else "", note)


def _best_strengths(comparison: Comparison) -> str:
    """The best c of every variant, of those in the picture."""
    best = ((name, aucs, max(range(len(aucs)), key=aucs.__getitem__)) for name, aucs in comparison.strengths.items())
    told = [f"{name} at c = {signed(STRENGTHS[at], 0)} ({aucs[at]:.4f})" for name, aucs, at in best]
    return f"AUC is highest for {', '.join(told)}."


def _scenario_verdict(comparison: Comparison, names: Sequence[str], scenarios: Sequence[str]) -> str:
    contrasts = [comparison.by_scenario[name, scenario] for name in names for scenario in scenarios]
    higher = sum(c.significant and c.difference.value > 0 for c in contrasts)
    lower = sum(c.significant and c.difference.value < 0 for c in contrasts)
    return (
        f"Of {several(len(contrasts), 'difference')} to {comparison.baseline}, significantly higher: {higher}; "
        f"significantly lower: {lower}."
    )


def _cards(comparison: Comparison) -> Iterator[Card]:
    best = ranked(comparison)[0]
    yield Card("Highest AUC", f"{best.auc.value:.4f}", f"{best.variant}, {interval(best.auc)}")
    if comparison.differences:
        significant = sum(contrast.significant for contrast in comparison.differences.values())
        yield Card(
            "Significant", f"{significant} of {len(comparison.differences)}", f"differences to {comparison.baseline}"
        )


def _facts(comparison: Comparison) -> Iterator[tuple[str, str]]:
    settings = changed_settings(comparison)
    for variant in comparison.variants:
        folders = ", ".join(f"{run.folder} (seed {run.seed})" for run in variant.runs)
        changed = ", ".join(f"{key} {value}" for key, value in settings[variant.name].items())
        yield variant.name, f"{folders}{'; ' if changed else ''}{changed}"


def _others(comparison: Comparison) -> list[str]:
    """The variants but the baseline, best AUC first."""
    return [figures.variant for figures in ranked(comparison) if figures.variant in comparison.differences]
