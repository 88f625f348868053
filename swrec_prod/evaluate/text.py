"""How reports write figures, names and tables as plain text: for the terminal, Markdown and pages alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from swrec_prod.metrics.ranks import Interval

NONE = "–"  # a figure that does not exist


class Grid(NamedTuple):
    """A table. The first column is text, the others are numbers; `strong` rows are set bold."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: int = 0


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    head, *body = ([_cell(text) for text in row] for row in (header, *rows))
    lines = [head, ["---", *("---:" for _ in head[1:])], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(value: float) -> str:
    """A probability as a percentage with two significant digits or more:
    0.0042 -> 0.42 %, 0.124 -> 12.4 %, 0.1 -> 10 %.
    """
    percent = 100 * value
    if percent == round(percent):
        return f"{percent:.0f}\u202f%"
    digits = 1 if percent >= 1 else min(4, 1 - int(f"{percent:e}".split("e")[1]))
    return f"{percent:.{digits}f}\u202f%"


def number(value: float | None, digits: int = 4) -> str:
    """A figure, or a dash where there is none."""
    return NONE if value is None else f"{value:.{digits}f}"


def signed(value: float, digits: int = 2) -> str:
    """A number that may be negative, with a true minus sign: -3.714 -> −3.71."""
    return f"{value:.{digits}f}".replace("-", "−")


def change(value: float, digits: int = 4) -> str:
    """A difference, with its sign: 0.0015 -> +0.0015."""
    return ("" if value < 0 else "+") + signed(value, digits)


def interval(estimate: Interval) -> str:
    """An estimate and half its interval: 0.8150 ± 0.0040."""
    return f"{estimate.value:.4f} ± {(estimate.high - estimate.low) / 2:.4f}"


def count(value: float) -> str:
    """A whole number with thousands apart: 1234567 -> 1,234,567."""
    return f"{value:,.0f}"


def several(items: float, noun: str) -> str:
    """A count with its noun: 1 scenario, 2 scenarios."""
    return f"{count(items)} {noun}" + ("" if items == 1 else "s")


def axis_names(names: Sequence[str]) -> list[str]:
    """Names short enough for an axis, unless that would make two of them equal."""
    for cut in ([short(name) for name in names], [_middle_cut(name) for name in names]):
        if len(set(cut)) == len(set(names)):
            return cut
    return list(names)


def short(name: str, limit: int = 24) -> str:
    """A scenario's name, cut to what an axis holds."""
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _middle_cut(name: str, limit: int = 24) -> str:
    """The same for names that differ at their ends: the middle is cut out."""
    return name if len(name) <= limit else f"{name[: limit // 2]}…{name[-(limit // 2 - 1) :]}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
