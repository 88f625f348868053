"""A figure for every scenario on every day, as colours. Many scenarios are drawn twice: the busiest with their names,
and all of them close together, where a day or a scenario that stands out is a stripe.

Shapes: S scenarios, D days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from swrec_prod.drawing.style import GAIN, LOSS, NARROW, WIDE, Picture, absent, day_axis, styled
from swrec_prod.evaluate.text import axis_names

NAMED, AT_ONCE = 40, 60  # scenarios that are drawn with their names where there are many; and how many are not many
WRITTEN = 10  # up to so many days, cells have their figure written in
NO_CELL = "#dfe4e9"
DIVERGING = ((0.0, LOSS), (0.5, "#f7f7f7"), (1.0, GAIN))


class Cells(NamedTuple):
    """values_SD: NaN where there is no figure; rows_SD: the rows behind each."""

    values_SD: np.ndarray
    rows_SD: np.ndarray


class Scale(NamedTuple):
    """How figures become colours. name: of the figure; written: d3's format of one; middle: what is neither good nor
    bad, None where colours go one way only.
    """

    name: str
    written: str
    middle: float | None = None


def heat_maps(
    title: str,
    scenarios: Sequence[str],
    days: Sequence[str],
    layers: Mapping[str, Cells],
    scale: Scale,
    finding: str,
    how: str,
) -> list[Picture]:
    """scenarios: busiest first; layers: by the name that a menu offers, the first is shown at the beginning."""
    if all(np.isnan(cells.values_SD).all() for cells in layers.values()):
        return [absent(title, "Left out: no scenario has a figure on any day.")]
    how += " Busiest scenario first; grey: no figure."
    if len(scenarios) <= AT_ONCE:
        return [Picture(title, finding, how, _figure(scenarios, days, layers, scale), _least_width(days))]
    busiest = {name: Cells(cells.values_SD[:NAMED], cells.rows_SD[:NAMED]) for name, cells in layers.items()}
    named = _figure(scenarios[:NAMED], days, busiest, scale)
    whole = _figure(scenarios, days, layers, scale, close=True)
    return [
        Picture(title, finding, f"{how} The {NAMED} busiest of {len(scenarios)} scenarios.", named, _least_width(days)),
        Picture(
            f"{title}: all {len(scenarios)} scenarios",
            "",
            "One thin line a scenario, busiest on top.",
            whole,
            _least_width(days),
        ),
    ]


def _least_width(days: Sequence[str]) -> int:
    """Pixels across: names of scenarios, the scale, and the days, with figures in them or without."""
    return max(NARROW, min(WIDE, 180 + (38 if len(days) <= WRITTEN else 6) * len(days)))


def _figure(
    scenarios: Sequence[str], days: Sequence[str], layers: Mapping[str, Cells], scale: Scale, close: bool = False
) -> go.Figure:
    """close: thin lines, whose names are not written."""
    names = list(scenarios) if close else axis_names(list(scenarios))
    figure = go.Figure()
    for i, cells in enumerate(layers.values()):
        figure.add_heatmap(
            x=list(days),
            y=names,
            z=cells.values_SD.astype(np.float32),  # twice the digits would only make the page larger
            customdata=cells.rows_SD.astype(np.int32),
            coloraxis="coloraxis",
            visible=i == 0,
            xgap=0 if close else 1,
            ygap=0 if close else 1,
            hoverongaps=False,
            texttemplate=f"%{{z:{scale.written}}}" if len(days) <= WRITTEN and not close else None,
            hovertemplate=f"%{{y}}, %{{x}}<br>{scale.name} %{{z:{scale.written}}}"
            "<br>%{customdata:,} rows<extra></extra>",
        )
    figure = styled(figure, 110 + (max(320, 2 * len(names)) if close else max(150, 24 * len(names))))
    figure.update_yaxes(type="category", autorange="reversed", showticklabels=not close, showgrid=False)
    figure.update_xaxes(showgrid=False)
    day_axis(figure, days)
    figure.update_layout(plot_bgcolor=NO_CELL, coloraxis=_colors(layers, scale), margin={"t": 48, "r": 8})
    if len(layers) > 1:
        figure.update_layout(updatemenus=[_menu(list(layers))])
    return figure


def _colors(layers: Mapping[str, Cells], scale: Scale) -> dict[str, object]:
    """One scale for all layers; the outermost fiftieths of the figures share the end colours."""
    values = np.concatenate([cells.values_SD.ravel() for cells in layers.values()])
    values = values[~np.isnan(values)]
    bar = {"title": {"text": scale.name, "side": "right"}, "thickness": 12, "tickformat": scale.written, "nticks": 6}
    if scale.middle is None:
        low, high = np.quantile(values, [0.02, 0.98])
        return {"colorscale": "Viridis", "cmin": low, "cmax": high, "colorbar": bar}
    reach = max(float(np.quantile(np.abs(values - scale.middle), 0.98)), 1e-9)
    ends = {"cmin": scale.middle - reach, "cmax": scale.middle + reach}
    return {"colorscale": DIVERGING, **ends, "colorbar": bar}


def _menu(names: Sequence[str]) -> dict[str, object]:
    """A list to choose the layer from."""
    choices = [
        {"label": name, "method": "restyle", "args": [{"visible": [other == name for other in names]}]}
        for name in names
    ]
    return {"buttons": choices, "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "pad": {"b": 6}}
