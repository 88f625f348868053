"""Figures over days: one line a series, with bands for intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import NamedTuple

import plotly.graph_objects as go

from swrec_prod.drawing.style import COLORS, DASHES, INK, NARROW, WIDE, day_axis, styled
from swrec_prod.evaluate.text import short

BANDS = 3  # more series have no bands, which would cover each other
DOTS = 31  # more days are lines without dots


class DayFigure(NamedTuple):
    """low, high: ends of its interval, None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None


Series = Sequence[DayFigure | None]  # one a day, None where there is no figure


def by_day_figure(
    days: Sequence[str], series: Mapping[str, Series], name: str, written: str, level: float | None = None
) -> go.Figure:
    """days: ISO; series: by name; name: of the figure, for the axis; written: d3's format of one; level: a value that
    is worth a line, such as no difference.
    """
    figure = go.Figure()
    for i, (label, values) in enumerate(series.items()):
        color, dash = COLORS[i % len(COLORS)], DASHES[i // len(COLORS) % len(DASHES)]
        if len(series) <= BANDS:
            draw_band(figure, days, values, color)
        _line(figure, days, values, label, {"color": color, "dash": dash, "width": 2.2}, name, written)
    if level is not None:
        figure.add_hline(y=level, line={"color": INK, "dash": "dash", "width": 1.2})
    figure.update_yaxes(title_text=name, tickformat=written, nticks=7)
    day_axis(figure, days)
    return styled(figure, 360).update_layout(showlegend=len(series) > 1, margin={"l": 8, "r": 12})


def bands_note(series: Mapping[str, Series]) -> str:
    """What the bands are, "" where none are drawn."""
    return "Bands are 95\u202f% intervals of each day alone." if len(series) <= BANDS else ""


def least_width(days: Sized) -> int:
    """Pixels that a picture over so many days needs across."""
    return NARROW if len(days) <= DOTS else WIDE


def _line(
    figure: go.Figure,
    days: Sequence[str],
    values: Series,
    label: str,
    line: dict[str, object],
    name: str,
    written: str,
) -> None:
    figure.add_scatter(
        x=list(days),
        y=[None if v is None else v.value for v in values],
        name=short(label),
        mode="lines+markers" if len(days) <= DOTS else "lines",
        line=line,
        customdata=[_interval(v) for v in values],
        hovertemplate=f"%{{x}}: {name} %{{y:{written}}}%{{customdata}}<extra>{short(label)}</extra>",
    )


def _interval(value: DayFigure | None) -> str:
    if value is None or value.low is None or value.high is None:
        return ""
    return f"<br>interval {value.low:.4f} to {value.high:.4f}"


def draw_band(
    figure: go.Figure,
    places: Sequence[str | float],
    values: Series,
    color: str,
    row: int | None = None,
    col: int | None = None,
) -> None:
    """The area between the ends of the intervals, where all of a stretch of days, or of other places, have them.

    row, col: the panel of a figure with several.
    """
    known = [(at, v) for at, v in zip(places, values, strict=True) if v is not None and v.low is not None]
    if len(known) < 2:
        return _stick(figure, known, color, row, col)
    ends = [v.high for _, v in known] + [v.low for _, v in reversed(known)]
    x = [at for at, _ in known] + [at for at, _ in reversed(known)]
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    fill = f"rgba({red},{green},{blue},.14)"
    area = {"fill": "toself", "fillcolor": fill, "mode": "none", "hoverinfo": "skip", "showlegend": False}
    figure.add_scatter(x=x, y=ends, row=row, col=col, **area)


def _stick(
    figure: go.Figure, known: Sequence[tuple[str | float, DayFigure]], color: str, row: int | None, col: int | None
) -> None:
    """The interval of a single day."""
    for at, v in known:
        line = {"mode": "lines", "line": {"color": color, "width": 1.4}, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=[at, at], y=[v.low, v.high], row=row, col=col, **line)
