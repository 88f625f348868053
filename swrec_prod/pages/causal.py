"""Pictures of the causal split (M-scan, Zhu et al., WWW 2024): what the model books to the scenario and what to the
interest, and what removing the scenario's part does to a list that blends scenarios.

Shapes: N rows, S scenarios, C values of the counterfactual reference c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from swrec_prod.drawing.areas import EDGE, areas_of, draw_areas
from swrec_prod.drawing.style import COLORS, INK, NARROW, Picture, absent, styled
from swrec_prod.errors import MetricError
from swrec_prod.evaluate.judged import MAX_BARS, Judged
from swrec_prod.evaluate.predictions import Split
from swrec_prod.evaluate.text import share, signed
from swrec_prod.metrics.probabilities import sigmoid
from swrec_prod.metrics.ranks import auc

TOP = 0.1  # the part of a blended list that users see
SWEEP_ROWS = 200_000  # more rows are sampled: the shares move by less than a pixel
NO_SPLIT = "Left out: the model has no causal split (set debias in the run file, or train mscan)."


def scenario_influence(judged: Judged) -> Picture:
    """Observed rate, the scenario's factor sigmoid(y_s) and the mean interest y_m, side by side."""
    title = "What is the scenario's doing, and what is interest?"
    if judged.split is None:
        return absent(title, NO_SPLIT)
    names = judged.axis_names[:MAX_BARS]
    panels = (
        (f"observed rate of {judged.task}", judged.mean_S(judged.labels), share, COLORS[6]),
        ("scenario's factor σ(y<sub>s</sub>)", judged.mean_S(sigmoid(judged.split.scenario)), signed, COLORS[3]),
        ("mean interest y<sub>m</sub>", judged.mean_S(judged.split.interest), signed, COLORS[0]),
    )
    figure = make_subplots(1, 3, shared_yaxes=True, subplot_titles=[p[0] for p in panels], horizontal_spacing=0.04)
    for col, (_, values_S, text, color) in enumerate(panels, 1):
        _lollipops(figure, col, names, values_S[:MAX_BARS], text, color)
    figure.update_xaxes(tickformat="~%", row=1, col=1)
    figure.update_yaxes(type="category", range=[len(names) - 0.4, -0.6])
    figure = styled(figure, 120 + 40 * len(names)).update_layout(showlegend=False)
    how = (
        "The model reads an impression as interest times scenario: "
        "logit = y<sub>m</sub> · σ(y<sub>s</sub>). Busiest scenario first."
    )
    return Picture(title, _influence_caption(judged, judged.split), how + judged.cut(MAX_BARS), figure)


def _lollipops(
    figure: go.Figure, col: int, names: list[str], values: np.ndarray, text: Callable[[float], str], color: str
) -> None:
    """One dot on a stem a scenario, its value beside it, in panel `col`."""
    stem = {
        "array": np.maximum(-values, 0),
        "arrayminus": np.maximum(values, 0),
        "width": 0,
        "thickness": 3,
        "color": color,
    }
    figure.add_scatter(
        x=values,
        y=names,
        mode="markers+text",
        error_x=stem,
        marker={"size": 13, "color": color},
        text=[f" {text(v)} " for v in values],
        textposition=["middle left" if v < 0 else "middle right" for v in values],
        hovertemplate="%{y}: %{text}<extra></extra>",
        row=1,
        col=col,
    )
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    room = 0.4 * (high - low)  # for the text beside the outermost dot
    figure.update_xaxes(range=[low - room * (low < 0), high + room * (high > 0)], row=1, col=col)


def _influence_caption(judged: Judged, split: Split) -> str:
    rate, factor, interest = (judged.mean_S(v) for v in (judged.labels, sigmoid(split.scenario), split.interest))
    if len(rate) < 2:
        return "There is one scenario only, so nothing can be told apart."
    least, most = int(rate.argmin()), int(rate.argmax())
    times = f", a factor of {rate[most] / rate[least]:.1f}" if rate[least] > 0 else ""
    ranges = (
        f"The rate of {judged.task} runs from {share(rate[least])} ({judged.names[least]}) "
        f"to {share(rate[most])} ({judged.names[most]}){times}. "
        f"The scenario's factor runs from {factor.min():.2f} to {factor.max():.2f}, "
        f"the mean interest from {signed(interest.min())} to {signed(interest.max())}."
    )
    if len(rate) < 4:
        return ranges
    by_factor, by_interest = _rank_correlation(rate, factor), _rank_correlation(rate, interest)
    return (
        f"{ranges} Their rank correlation with the rate is {signed(by_factor)} "
        f"and {signed(by_interest)}, over {len(rate)} scenarios."
    )


def blending(judged: Judged, default_c: float | None) -> Picture:
    """Share of each scenario in the top of one blended list, and pooled AUC, as c moves.

    default_c: the run's c, None where each scenario has its own.
    """
    title = "A blended list as the scenario's part is removed"
    if judged.split is None:
        return absent(title, NO_SPLIT)
    if len(judged.names) < 2:
        return absent(title, "Left out: there is one scenario only, so nothing is blended.")
    grid = _grid(judged.split.interest, default_c or 0.0)
    shares_CS, auc_C = sweep(judged, grid)
    panels = [[{}, {}], [{}, None]]
    figure = make_subplots(
        2,
        2,
        specs=panels,
        column_widths=[0.93, 0.07],
        row_heights=[0.66, 0.34],
        vertical_spacing=0.1,
        horizontal_spacing=0.02,
    )
    _shares(figure, judged, grid, shares_CS)
    line = {"color": COLORS[0], "width": 2.5}
    hover = "c = %{x:.2f}: AUC %{y:.4f}<extra></extra>"
    figure.add_scatter(x=grid, y=auc_C, mode="lines", line=line, showlegend=False, hovertemplate=hover, row=2, col=1)
    for c, name, side in _marks(default_c):
        place = {"yanchor": "bottom", "xanchor": side, "xshift": 3 if side == "left" else -3}
        for row in (1, 2):
            figure.add_vline(x=c, line={"color": INK, "dash": "dash", "width": 1.4}, row=row, col=1)
        figure.add_annotation(x=c, y=0, yref="y3 domain", text=name, showarrow=False, row=2, col=1, **place)
    figure.update_yaxes(title_text=f"share of the top {share(TOP)}", tickformat="~%", range=[0, 1], row=1, col=1)
    figure.update_yaxes(range=[0, 1], showticklabels=False, row=1, col=2)
    figure.update_yaxes(title_text="AUC, all rows", row=2, col=1)
    figure.update_xaxes(range=[grid[0], grid[-1]], col=1)
    figure.update_xaxes(title_text="counterfactual reference c", row=2, col=1)
    how = (
        "All rows are sorted into one list by σ(y<sub>s</sub>) · (y<sub>m</sub> − c). "
        "At c = 0 that is the order of the probability."
    )
    if max(np.ptp(judged.split.scenario[part]) for part in judged.parts) < 1e-3:
        how += " Inside a scenario c changes nothing: there σ(y<sub>s</sub>) is constant."
    figure = styled(figure, 560).update_layout(legend_traceorder="normal", bargap=0)
    caption = _blending_caption(judged, grid, shares_CS, auc_C, default_c)
    return Picture(title, caption, how, figure, NARROW, _sweep_json(judged.names, grid, shares_CS, auc_C))


def _sweep_json(names: list[str], grid: np.ndarray, shares_CS: np.ndarray, auc_C: np.ndarray) -> dict[str, Any]:
    aucs = [None if np.isnan(value) else float(value) for value in auc_C]
    shares = {name: shares.tolist() for name, shares in zip(names, shares_CS.T, strict=True)}
    return {"strengths": {"c": grid.tolist(), "auc": aucs, "share_of_top": shares}}


def _shares(figure: go.Figure, judged: Judged, grid: np.ndarray, shares_CS: np.ndarray) -> None:
    """Stacked areas over c, and beside them one stacked bar with the mix of all rows."""
    draw_areas(figure, grid, areas_of(judged.names, shares_CS), "the top", row=1, col=1)
    for area in areas_of(judged.names, judged.rows_S[None] / judged.rows_S.sum()):
        hover = f"{area.name}: {share(area.share_X[0])} of all rows<extra></extra>"
        bar = {"color": area.color, "line": EDGE}
        figure.add_bar(x=["all rows"], y=area.share_X, marker=bar, showlegend=False, hovertemplate=hover, row=1, col=2)
    figure.update_layout(barmode="stack")


def _marks(default_c: float | None) -> list[tuple[float, str, str]]:
    """The values of c worth a line: (c, its name, the side of the text that touches the line)."""
    if default_c is None:
        return [(0.0, "by probability", "left")]
    if default_c == 0:
        return [(0.0, "this run's c: by probability", "left")]
    outside = ("right", "left") if default_c > 0 else ("left", "right")
    return [(0.0, "by probability", outside[0]), (default_c, "this run's c", outside[1])]


def sweep(judged: Judged, grid_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each c: the share of every scenario in the top of the blended list [C, S],
    and the pooled AUC [C] (NaN: none).
    """
    rows = np.arange(len(judged.labels))
    if len(rows) > SWEEP_ROWS:
        rows = np.random.default_rng(0).choice(rows, SWEEP_ROWS, replace=False)
    split = Split(judged.split.interest[rows], judged.split.scenario[rows]) if judged.split else Split(rows, rows)
    labels, scenarios = judged.labels[rows], judged.scenarios[rows]
    top = max(1, round(TOP * len(rows)))
    shares_CS = np.empty((len(grid_C), len(judged.names)))
    auc_C = np.full(len(grid_C), np.nan)
    for i, c in enumerate(grid_C):
        scores = split.rescored(float(c))
        shown = scenarios[np.argpartition(scores, len(rows) - top)[len(rows) - top :]]
        shares_CS[i] = np.bincount(shown, minlength=len(judged.names)) / top
        try:
            auc_C[i] = auc(labels, scores)
        except MetricError:
            continue
    return shares_CS, auc_C


def _grid(interest: np.ndarray, default_c: float) -> np.ndarray:
    """c from -r to r, r the size of a usual interest:
    the scale on which c competes with y_m. 0 and default_c are on it.
    """
    reach = max(float(np.median(np.abs(interest))), 1.3 * abs(default_c), 0.1)
    return np.unique(np.append(np.linspace(-reach, reach, 49), [0.0, default_c]))


def _blending_caption(
    judged: Judged, grid: np.ndarray, shares_CS: np.ndarray, auc_C: np.ndarray, default_c: float | None
) -> str:
    traffic = judged.rows_S / judged.rows_S.sum()
    at_zero, at_run = (int(np.flatnonzero(grid == c)[0]) for c in (0.0, default_c or 0.0))
    lead = int(np.argmax(shares_CS[at_zero] - traffic))
    at_top = share(shares_CS[at_zero, lead])
    caption = (
        f"Sorted by probability, {judged.names[lead]} takes {at_top} of the top {share(TOP)} "
        f"with {share(traffic[lead])} of the rows"
    )
    if default_c is None:
        caption += "; this run has a c for each scenario, and none of the lists below is its own."
    else:
        at_c = f"; at this run's c = {signed(default_c)} it takes {share(shares_CS[at_run, lead])}."
        caption += at_c if default_c else "; this run ranks so (c = 0)."
    return f"{caption} {_mix_moved(grid, shares_CS, traffic)} {_auc_moved(grid, auc_C, at_zero)}".strip()


def _mix_moved(grid: np.ndarray, shares_CS: np.ndarray, traffic: np.ndarray) -> str:
    moved = np.ptp(shares_CS, axis=0).max()
    if moved < 0.03:
        return f"Here c hardly matters: over the range shown no scenario's share moves by more than {share(moved)}."
    nearest = int(np.argmin(np.abs(shares_CS - traffic).sum(1)))
    return f"The top is closest to the mix of all rows at c = {signed(grid[nearest])}."


def _auc_moved(grid: np.ndarray, auc_C: np.ndarray, at_zero: int) -> str:
    if np.isnan(auc_C).all():
        return ""
    best = int(np.nanargmax(auc_C))
    if auc_C[best] - auc_C[at_zero] < 0.0005:
        return f"No c shown raises the pooled AUC by 0.0005 or more over that of c = 0 ({auc_C[at_zero]:.4f})."
    return (
        f"Pooled AUC is highest at c = {signed(grid[best])} ({auc_C[best]:.4f}; at c = 0 it is {auc_C[at_zero]:.4f})."
    )


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation without ties."""
    ranks = [np.argsort(np.argsort(v)).astype(np.float64) for v in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
