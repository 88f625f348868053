"""Shares that add up to one, as areas on top of each other: who takes which part of a list.

Shapes: X places on the axis, S names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from swrec_prod.drawing.style import COLORS
from swrec_prod.evaluate.judged import MAX_CURVES
from swrec_prod.evaluate.text import short

OTHERS = "#c3ccd5"
EDGE = {"width": 0.6, "color": "white"}


class Area(NamedTuple):
    """The shares of one name, or of all others. share_X: float64 [X]."""

    name: str
    color: str
    share_X: np.ndarray


def areas_of(names: Sequence[str], share_XS: np.ndarray) -> list[Area]:
    """One area a name, of the first MAX_CURVES, and one for all others. share_XS: float64 [X, S]."""
    shown = zip(names[:MAX_CURVES], COLORS, share_XS.T, strict=False)
    areas = [Area(short(name), color, share_X) for name, color, share_X in shown]
    if len(names) > MAX_CURVES:
        areas.append(Area(f"{len(names) - MAX_CURVES} others", OTHERS, share_XS[:, MAX_CURVES:].sum(1)))
    return areas


def draw_areas(
    figure: go.Figure,
    at_X: Sequence[float] | np.ndarray,
    areas: Sequence[Area],
    what: str,
    row: int | None = None,
    col: int | None = None,
) -> None:
    """what: says in the text below the mouse of what the shares are; row, col: the panel of a figure with several."""
    for area in areas:
        figure.add_scatter(
            x=at_X,
            y=area.share_X,
            name=area.name,
            stackgroup="shares",
            fillcolor=area.color,
            line=EDGE,
            mode="lines",
            hovertemplate=f"{area.name}: %{{y:.1%}} of {what} at c = %{{x:.2f}}<extra></extra>",
            row=row,
            col=col,
        )
