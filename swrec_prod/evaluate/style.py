"""How pictures of a report look: one palette, one layout, one way to write a number."""

from __future__ import annotations

from typing import NamedTuple

import plotly.graph_objects as go

# Okabe & Ito (2008): told apart with every common kind of colour blindness;
# its yellow is left out, being faint on white.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#4D4D4D")
INK, FAINT, GRID = "#1f2933", "#8794a1", "#e4e9ee"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


class Picture(NamedTuple):
    """One picture of a report. finding: what this run's data show; how: how to read it; without a figure, why not."""

    title: str
    finding: str
    how: str
    figure: go.Figure | None


def absent(title: str, reason: str) -> Picture:
    """A picture that cannot be drawn."""
    return Picture(title, reason, "", None)


def styled(figure: go.Figure, height: int) -> go.Figure:
    """`figure` in the report's look. height: pixels."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 64, "r": 24, "t": 40, "b": 56},
        font={"family": FONT, "size": 13, "color": INK},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.04, "x": 0, "font": {"size": 12}},
        hoverlabel={"font": {"family": FONT, "size": 12}},
        paper_bgcolor="white",
        plot_bgcolor="white",
    )
    axes = {
        "gridcolor": GRID,
        "zerolinecolor": GRID,
        "linecolor": FAINT,
        "automargin": True,
        "title_font": {"size": 12},
    }
    figure.update_annotations(font_size=13)
    figure.update_xaxes(**axes)
    figure.update_yaxes(**axes)
    return figure


def share(value: float) -> str:
    """A probability as a percentage with two significant digits or more:
    0.0042 -> 0.42 %, 0.124 -> 12.4 %, 0.1 -> 10 %.
    """
    percent = 100 * value
    if percent == round(percent):
        return f"{percent:.0f}\u202f%"
    digits = 1 if percent >= 1 else min(4, 1 - int(f"{percent:e}".split("e")[1]))
    return f"{percent:.{digits}f}\u202f%"


def signed(value: float, digits: int = 2) -> str:
    """A number that may be negative, with a true minus sign: -3.714 -> −3.71."""
    return f"{value:.{digits}f}".replace("-", "−")


def count(value: float) -> str:
    """A whole number with thousands apart: 1234567 -> 1,234,567."""
    return f"{value:,.0f}"


def several(number: float, noun: str) -> str:
    """A count with its noun: 1 scenario, 2 scenarios."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def short(name: str, limit: int = 24) -> str:
    """A scenario's name, cut to what an axis holds."""
    return name if len(name) <= limit else name[: limit - 1] + "…"
