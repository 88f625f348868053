"""Pictures of curves: what c changes in the rows of one model, and what alpha changed in several.

Shapes: C values of c, S scenarios.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from swrec_prod.debiasing.curves import Curve
from swrec_prod.debiasing.curves_text import FIGURES
from swrec_prod.debiasing.strengths import Strength
from swrec_prod.drawing.areas import areas_of, draw_areas
from swrec_prod.drawing.by_day import DayFigure, draw_band
from swrec_prod.drawing.style import COLORS, DASHES, INK, NARROW, Picture, absent, styled
from swrec_prod.evaluate.judged import MAX_CURVES
from swrec_prod.evaluate.text import several, share, short, signed
from swrec_prod.metrics.ranks import Interval

PANEL = 150  # pixels of height
CLICKS = "Clicks have the direct effect in them, so that a c which takes it out lowers every figure that clicks judge"


def figures_by_c(curve: Curve, title: str, random: bool = False) -> Picture:
    """Every known figure over c, one panel each. random: of the rows that chance chose."""
    points = _numbered(curve.at_random if random else curve.at)
    known = [name for name in FIGURES if points and getattr(points[0], name) is not None]
    if not known:
        return absent(title, "Left out: the rows have no labels, or too few of either.")
    figure = make_subplots(len(known), 1, shared_xaxes=True, vertical_spacing=0.12 / len(known))
    at_C = [float(one.name) for one in points]
    for row, name in enumerate(known, 1):
        values = [_value(getattr(one, name)) for one in points]
        draw_band(figure, at_C, values, COLORS[0], row, 1)
        _line(figure, at_C, values, FIGURES[name], row)
    for c in _marks(curve):
        figure.add_vline(x=c, line={"color": INK, "dash": "dash", "width": 1.2}, row="all", col=1)
    figure.update_xaxes(title_text="c", row=len(known))
    how = f"Bands are 95\u202f% intervals of other users. Dashed: c = 0{_own_text(curve)}. {CLICKS}."
    return Picture(title, _best(points, known), how, styled(figure, 90 + PANEL * len(known)), NARROW)


def shares_by_c(curve: Curve, title: str) -> Picture:
    """Which scenarios take the first places of pages, over c."""
    points, names = _numbered(curve.at), [one.name for one in curve.by_scenario]
    order = [curve.scenarios.index(name) for name in names]
    share_CS = np.array([[one.shares[at] for at in order] for one in points])
    figure = go.Figure()
    draw_areas(figure, [float(one.name) for one in points], areas_of(names, share_CS), "first places")
    figure.update_xaxes(title_text="c")
    figure.update_yaxes(title_text="share of first places", tickformat="~%", range=[0, 1])
    how = "All rows of a page are in one list, by σ(y<sub>s</sub>) · (y<sub>m</sub> − c); shown are its first places."
    figure = styled(figure, 380).update_layout(legend_traceorder="normal")
    return Picture(title, _moved(points), how, figure, NARROW)


def figures_by_alpha(curves: Sequence[Curve]) -> Picture:
    """AUC over all rows, and how well true interest is ordered where it is known, at c = 0 and at each run's own c."""
    known = [name for name in ("auc", "liked") if all(getattr(curve.at[0], name) is not None for curve in curves)]
    title = "Runs by alpha, pooled"
    if not known:
        return absent(title, "Left out: the rows have no labels, or too few of either.")
    figure = make_subplots(len(known), 1, shared_xaxes=True, vertical_spacing=0.12)
    for row, name in enumerate(known, 1):
        for i, (label, points) in enumerate(_at_zero_and_own(curves).items()):
            values = [_value(getattr(one, name)) for one in points]
            _dots(figure, _alphas(curves), values, label, i, row)
        figure.update_yaxes(title_text=FIGURES[name], tickformat=".3f", row=row)
    _alpha_axis(figure, curves, len(known))
    how = f"Whiskers are 95\u202f% intervals of other users. {CLICKS}."
    figure = styled(figure, 120 + 190 * len(known))
    return Picture(title, _alpha_finding(curves), how, figure, NARROW)


def scenarios_by_alpha(curves: Sequence[Curve]) -> Picture:
    """AUC inside the busiest scenarios, which no c changes."""
    title, names = "Runs by alpha, inside each scenario", [one.name for one in curves[0].by_scenario[:MAX_CURVES]]
    figure = go.Figure()
    for i, name in enumerate(names):
        values = [_inside(curve, name) for curve in curves]
        if any(value is not None for value in values):
            _dots(figure, _alphas(curves), values, short(name), i)
    if not figure.data:
        return absent(title, "Left out: no scenario has two users of either label.")
    figure.update_yaxes(title_text="AUC inside", tickformat=".3f")
    _alpha_axis(figure, curves, None)
    scenarios = len(curves[0].by_scenario)
    finding = f"{several(scenarios, 'scenario')}; no c changes the order inside one, so that alpha alone moves these."
    cut = f" Shown are the {MAX_CURVES} busiest." if scenarios > MAX_CURVES else ""
    return Picture(
        title, finding, f"Whiskers are 95\u202f% intervals of other users.{cut}", styled(figure, 360), NARROW
    )


def _numbered(points: Sequence[Strength]) -> list[Strength]:
    """Those with one c for all scenarios."""
    return [one for one in points if one.name != "own"]


def _value(one: Interval | None) -> DayFigure | None:
    return None if one is None else DayFigure(one.value, one.low, one.high)


def _line(figure: go.Figure, at_C: Sequence[float], values: Sequence[DayFigure | None], name: str, row: int) -> None:
    figure.add_scatter(
        x=list(at_C),
        y=[None if v is None else v.value for v in values],
        mode="lines+markers",
        line={"color": COLORS[0], "width": 2.2},
        showlegend=False,
        hovertemplate=f"{name} %{{y:.4f}} at c = %{{x:g}}<extra></extra>",
        row=row,
        col=1,
    )
    figure.update_yaxes(title_text=name, tickformat=".3f", nticks=5, row=row)


def _dots(
    figure: go.Figure, alphas: Sequence[str], values: Sequence[DayFigure | None], label: str, i: int, row: int = 0
) -> None:
    """A line over runs, with whiskers. i: of so many lines; row: the panel, 0 where there is one."""
    known = [(alpha, v) for alpha, v in zip(alphas, values, strict=True) if v is not None]
    reach = {
        "array": [0 if v.high is None else v.high - v.value for _, v in known],
        "arrayminus": [0 if v.low is None else v.value - v.low for _, v in known],
        "width": 4,
        "thickness": 1.4,
    }
    figure.add_scatter(
        x=[alpha for alpha, _ in known],
        y=[v.value for _, v in known],
        error_y=reach,
        name=label,
        legendgroup=label,
        showlegend=row < 2,
        mode="lines+markers",
        line={"color": COLORS[i % len(COLORS)], "dash": DASHES[i // len(COLORS) % len(DASHES)], "width": 2},
        hovertemplate=f"{label}: %{{y:.4f}} at alpha %{{x}}<extra></extra>",
        row=row or None,
        col=1 if row else None,
    )


def _alpha_axis(figure: go.Figure, curves: Sequence[Curve], row: int | None) -> None:
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=_alphas(curves))
    figure.update_xaxes(title_text="alpha, the weight of the scenario loss", row=row)


def _alphas(curves: Sequence[Curve]) -> list[str]:
    """One text a run: its alpha, with its name where two runs have the same."""
    texts = [f"{curve.source.alpha:g}" for curve in curves]
    pairs = zip(texts, curves, strict=True)
    return [text if texts.count(text) == 1 else f"{text} ({short(of.source.name)})" for text, of in pairs]


def _at_zero_and_own(curves: Sequence[Curve]) -> dict[str, list[Strength]]:
    at = {"c = 0": [curve.point("0") for curve in curves]}
    return at | {"the run's own c": [curve.point(curve.own) for curve in curves]}


def _inside(curve: Curve, name: str) -> DayFigure | None:
    return next((_value(one.auc) for one in curve.by_scenario if one.name == name), None)


def _marks(curve: Curve) -> list[float]:
    """0, and the run's own c where it is one number."""
    return sorted({0.0, *([] if curve.own == "own" else [float(curve.own)])})


def _own_text(curve: Curve) -> str:
    marks = [c for c in _marks(curve) if c]
    return f", and the run's own c = {signed(marks[0])}" if marks else ""


def _best(points: Sequence[Strength], known: Sequence[str]) -> str:
    """Where each figure is highest."""
    told = []
    for name in known:
        best = max(points, key=lambda one: getattr(one, name).value if getattr(one, name) else -1.0)
        told.append(f"{FIGURES[name]} at c = {signed(float(best.name))} ({getattr(best, name).value:.4f})")
    return f"Highest are {', '.join(told)}."


def _moved(points: Sequence[Strength]) -> str:
    most = max(points, key=lambda one: one.moved)
    return f"At c = {signed(float(most.name))} {share(most.moved)} of the first places have other rows than at c = 0."


def _alpha_finding(curves: Sequence[Curve]) -> str:
    by_liked = [curve for curve in curves if curve.point(curve.own).liked is not None]
    figure, among = ("liked", by_liked) if by_liked else ("auc", list(curves))
    best = max(among, key=lambda curve: getattr(curve.point(curve.own), figure).value)
    value = getattr(best.point(best.own), figure).value
    return (
        f"At its own c {FIGURES[figure]} is highest for {best.source.name}, alpha {best.source.alpha:g} ({value:.4f})."
    )
