"""How pictures of a report look: one palette, one layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import plotly.graph_objects as go

# Okabe & Ito (2008): told apart with every common kind of colour blindness;
# its yellow is left out, being faint on white.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#4D4D4D")
INK, FAINT, GRID = "#1f2933", "#8794a1", "#e4e9ee"
DASHES = ("solid", "dash", "dot", "dashdot")  # of lines, where there are more than colours
CLEAR = "rgba(0,0,0,0)"  # what is behind a picture shows
GAIN, LOSS = COLORS[0], COLORS[3]
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


DAY_NAMES = 10  # at most about so many days are named on an axis
WIDE = 600  # pixels across that a picture of several panels needs
NARROW = 300  # and one that a phone's screen holds
ON_A_PHONE = 344  # what a screen of 390 leaves to a picture


class Picture(NamedTuple):
    """One picture of a page. finding: what these data show; how: how to read it; without a figure, why not.

    least: pixels that it needs across; a narrower screen scrolls it sideways. data: the figures that
    it shows, for JSON.
    """

    title: str
    finding: str
    how: str
    figure: go.Figure | None
    least: int = WIDE
    data: Mapping[str, Any] | None = None


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
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
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


def day_axis(figure: go.Figure, days: Sequence[str]) -> None:
    """Days (ISO) on the x axis, one column each, of which about ten are named."""
    named = days[:: -(-len(days) // DAY_NAMES)]
    figure.update_xaxes(
        type="category",
        categoryorder="array",
        categoryarray=list(days),
        tickvals=list(named),
        ticktext=[f"{date.fromisoformat(day):%-d %b}" for day in named],
        tickangle=0,
    )
