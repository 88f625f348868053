"""A comparison of runs as a folder to pass on: compare.json, compare.md, and compare.html with pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from swrec_prod.evaluate.compare import Comparison, Contrast
from swrec_prod.evaluate.compare_text import (
    busiest,
    changed_settings,
    comparison_grid,
    comparison_json,
    comparison_markdown,
    difference_text,
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
from swrec_prod.evaluate.judged import MAX_BARS
from swrec_prod.evaluate.text import axis_names, interval, several, short
from swrec_prod.files import write_json, write_text
from swrec_prod.pages.page import Card, facts_section, grid_section, page, picture_section
from swrec_prod.pages.style import COLORS, FAINT, INK, Picture, absent, styled

PANELS, ACROSS = 12, 3  # variants in the picture by scenario, and how many are side by side
ABOVE, BELOW = COLORS[2], COLORS[3]


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write compare.json, compare.md and compare.html into the folder `out`, each whole or not at all."""
    write_json(out / "compare.json", comparison_json(comparison))
    write_text(out / "compare.md", comparison_markdown(comparison))
    write_text(out / "compare.html", comparison_page(comparison))


def comparison_page(comparison: Comparison) -> str:
    """The page: the table, pictures of the differences, and the figures of every scenario."""
    sections = [grid_section("Figures over all rows", comparison_grid(comparison), note(comparison))]
    if comparison.differences:
        pictures = (differences_picture(comparison), scenarios_picture(comparison))
        sections += [picture_section(picture, i) for i, picture in enumerate(pictures)]
    if comparison.resampled:
        how = resampled_note(comparison)
        sections.append(grid_section("Log loss and GAUC, bootstrapped", resampled_grid(comparison), how))
    inside = f"AUC inside each scenario{scenario_note(comparison)}."
    sections.append(grid_section("Figures by scenario", scenario_grid(comparison), inside))
    if comparison.strengths:
        how = "AUC over all rows of the ranking score σ(y_s) · (y_m − c): c takes the scenario's own influence away."
        sections.append(grid_section("Ranking score by c", strength_grid(comparison), how))
    sections.append(facts_section("What was compared", list(_facts(comparison))))
    return page("Comparison of runs", lead(comparison), list(_cards(comparison)), sections)


def differences_picture(comparison: Comparison) -> Picture:
    """The difference of every variant to the baseline with its interval, best first."""
    title = f"Difference to {comparison.baseline}"
    names, figure = _others(comparison), go.Figure()
    _whiskers(figure, axis_names(names), [comparison.differences[name] for name in names])
    figure.update_xaxes(title_text="AUC less that of the baseline, 95 % interval")
    figure.update_yaxes(type="category", range=[len(names) - 0.4, -0.6])
    how = "Filled: significant among all these differences. Each is paired by row, so that rows hard for both cancel."
    against = f"Against {comparison.baseline}, {verdict(comparison.differences)}"
    return Picture(title, against, how, styled(figure, 130 + 34 * len(names)))


def scenarios_picture(comparison: Comparison) -> Picture:
    """The same inside every scenario, one panel a variant."""
    title = "Difference inside each scenario"
    names = _others(comparison)[:PANELS]
    scenarios = [name for name, _ in busiest(comparison) if (names[0], name) in comparison.by_scenario]
    if not scenarios:
        return absent(title, "Left out: no scenario has two users of either label.")
    shown = scenarios[:MAX_BARS]
    labels = axis_names(shown)
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
        _whiskers(figure, labels, [comparison.by_scenario[name, scenario] for scenario in shown], **place)
    figure.update_yaxes(type="category", range=[len(shown) - 0.4, -0.6])
    figure.update_xaxes(showticklabels=True)
    figure.update_xaxes(title_text=f"AUC less that of {short(comparison.baseline)}", row=down)
    figure = styled(figure, 120 + down * (60 + 28 * len(shown)))
    left_out = len(comparison.rows.scenarios) - len(shown)
    how = "Busiest scenario first. Filled: significant among the differences of all variants in all scenarios."
    how += f" {left_out} of {len(comparison.rows.scenarios)} scenarios are left out." if left_out else ""
    how += f" Shown are the {PANELS} best variants." if len(_others(comparison)) > PANELS else ""
    return Picture(title, _scenario_verdict(comparison, names, scenarios), how, figure)


def _whiskers(figure: go.Figure, names: Sequence[str], contrasts: Sequence[Contrast], **place: int) -> None:
    """One dot with its interval a name, and a line at no difference."""
    values = [c.difference.value for c in contrasts]
    colors = [FAINT if not c.significant else ABOVE if c.difference.value > 0 else BELOW for c in contrasts]
    figure.add_scatter(
        x=values,
        y=list(names),
        mode="markers",
        marker={
            "size": 11,
            "color": ["white" if not c.significant else color for c, color in zip(contrasts, colors, strict=True)],
            "line": {"color": colors, "width": 2.2},
        },
        error_x={
            "array": [c.difference.high - c.difference.value for c in contrasts],
            "arrayminus": [c.difference.value - c.difference.low for c in contrasts],
            "color": FAINT,
            "thickness": 1.8,
            "width": 5,
        },
        text=[f"{difference_text(c)}, p = {c.difference.p:.2g}" for c in contrasts],
        hovertemplate="%{y}: %{text}<extra></extra>",
        showlegend=False,
        **place,
    )
    figure.add_vline(x=0, line={"color": INK, "dash": "dash", "width": 1.2}, **place)


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
