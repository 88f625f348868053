"""Differences with their intervals: a dot with whiskers each, and the view of who gained and who lost (the seesaw)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import plotly.graph_objects as go

from swrec_prod.drawing.style import FAINT, GAIN, INK, LOSS, NARROW, Picture, absent, styled
from swrec_prod.evaluate.text import axis_names, change, several, signed

EACH_SIDE = 20  # of many differences, so many of the highest and of the lowest are drawn
ROW = 26  # pixels of height for one difference


class Unit(NamedTuple):
    """What differences are counted in. name: of the axis; percent: fractions shown as percentages."""

    name: str
    percent: bool = False

    def text(self, value: float) -> str:
        """A difference with its sign: +0.0015, or +1.2 %."""
        return f"{'' if value < 0 else '+'}{signed(100 * value, 2)}\u202f%" if self.percent else change(value)

    @property
    def ticks(self) -> str:
        """How an axis writes it."""
        return "+~%" if self.percent else "+~g"


class Whisker(NamedTuple):
    """A difference of one thing. low, high: ends of its interval, None where it has none; mark: of what is significant,
    "" for what is not.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    mark: Literal["gain", "loss", ""]
    note: str = ""


def draw_whiskers(
    figure: go.Figure,
    whiskers: Sequence[Whisker],
    unit: Unit,
    names: Sequence[str] | None = None,
    row: int | None = None,
    col: int | None = None,
) -> None:
    """One dot with its interval each, filled where it is significant, and a line at no difference.

    names: shorter ones for the axis, one each; row, col: the panel of a figure with several.
    """
    colors = [{"gain": GAIN, "loss": LOSS, "": FAINT}[w.mark] for w in whiskers]
    filled = [color if w.mark else "white" for w, color in zip(whiskers, colors, strict=True)]
    figure.add_scatter(
        x=[w.value for w in whiskers],
        y=list(names or axis_names([w.name for w in whiskers])),
        mode="markers",
        marker={"size": 10, "color": filled, "line": {"color": colors, "width": 2.2}},
        error_x={
            "array": [0 if w.high is None else w.high - w.value for w in whiskers],
            "arrayminus": [0 if w.low is None else w.value - w.low for w in whiskers],
            "color": FAINT,
            "thickness": 1.8,
            "width": 4,
        },
        text=[hover(w, unit) for w in whiskers],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
        row=row,
        col=col,
    )
    figure.add_vline(x=0, line={"color": INK, "dash": "dash", "width": 1.2}, row=row, col=col)


def hover(whisker: Whisker, unit: Unit) -> str:
    """The whole name, the difference and its interval."""
    text = f"{whisker.name}: {unit.text(whisker.value)}"
    if whisker.low is not None and whisker.high is not None:
        text += f"<br>{unit.text(whisker.low)} to {unit.text(whisker.high)}"
    return f"{text}<br>{whisker.note}" if whisker.note else text


def whiskers_picture(title: str, whiskers: Sequence[Whisker], unit: Unit, finding: str, how: str) -> Picture:
    """One line a difference, in the order in which they come."""
    figure = go.Figure()
    draw_whiskers(figure, whiskers, unit)
    figure.update_xaxes(title_text=unit.name, tickformat=unit.ticks, nticks=6)
    figure.update_yaxes(type="category", range=[len(whiskers) - 0.4, -0.6])
    figure = styled(figure, 90 + ROW * max(len(whiskers), 2)).update_layout(margin={"t": 12, "l": 8, "r": 12})
    return Picture(title, finding, how, figure, NARROW)


def seesaw(title: str, whiskers: Sequence[Whisker], unit: Unit, how: str) -> Picture:
    """What every scenario gained or lost, highest first; of many, the highest and the lowest."""
    if not whiskers:
        return absent(title, "Left out: no scenario has a difference with an interval.")
    ordered = sorted(whiskers, key=lambda whisker: -whisker.value)
    if len(ordered) > 2 * EACH_SIDE:
        how += f" Drawn are {EACH_SIDE} from either end; one line is for all that lie between, from lowest to highest."
    return whiskers_picture(title, _ends(ordered), unit, seesaw_finding(ordered, unit), how)


def _ends(ordered: Sequence[Whisker]) -> list[Whisker]:
    """All, or both ends and one line for what lies between: its median and its range."""
    between = ordered[EACH_SIDE:-EACH_SIDE]
    if not between:
        return list(ordered)
    median = float(np.median([whisker.value for whisker in between]))
    line = Whisker(f"… {len(between)} between …", median, between[-1].value, between[0].value, "", "median and range")
    return [*ordered[:EACH_SIDE], line, *ordered[-EACH_SIDE:]]


def seesaw_finding(ordered: Sequence[Whisker], unit: Unit) -> str:
    """How many gained and lost more than chance, and who most."""
    gains, losses = ([w for w in ordered if w.mark == mark] for mark in ("gain", "loss"))
    most = [*_most("most gained", gains, unit), *_most("most lost", losses, unit)]
    return (
        f"Of {several(len(ordered), 'scenario')}, {len(gains)} gained and {len(losses)} lost more than chance explains"
        f"{'; ' if most else ''}{', '.join(most)}."
    )


def _most(words: str, whiskers: Sequence[Whisker], unit: Unit) -> list[str]:
    """The largest of some differences in words; [] where there are none."""
    largest = sorted(whiskers, key=lambda whisker: -abs(whisker.value))[:1]
    return [f"{words} {whisker.name} ({unit.text(whisker.value)})" for whisker in largest]
