"""One self-contained HTML page: text, pictures and the plotting library inside, nothing fetched when it is opened.

The markup lies in templates/; what is text here is escaped there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from swrec_prod.evaluate.text import Grid
from swrec_prod.pages.style import FAINT, FONT, INK, Picture


class Card(NamedTuple):
    """A headline number. note: a line of small print below it."""

    name: str
    value: str
    note: str = ""


class Table(NamedTuple):
    """A table of figures. note: how to read it."""

    title: str
    grid: Grid
    note: str = ""
    template = "table.html"


class Facts(NamedTuple):
    """Names and values, one pair a line."""

    title: str
    facts: Sequence[tuple[str, str]]
    template = "facts.html"


Section = Picture | Table | Facts


class Page(NamedTuple):
    """What a page says, in the order in which it says it; every string is plain text."""

    title: str
    lead: str
    cards: Sequence[Card]
    sections: Sequence[Section]


def as_html(page: Page) -> str:
    """The whole page, plotting library included."""
    look = {"ink": INK, "faint": FAINT, "font": FONT, "plotly": get_plotlyjs()}
    return _templates().get_template("page.html").render(page=page, sections=list(_numbered(page.sections)), **look)


def _numbered(sections: Sequence[Section]) -> Iterator[tuple[Section, int]]:
    """Each section with how many pictures came before it: a number that only one picture of the page has."""
    pictures = 0
    for section in sections:
        yield section, pictures
        pictures += isinstance(section, Picture)


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("swrec_prod.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"plot": _plot, "with_subscripts": _with_subscripts}
    return templates


def _plot(figure: go.Figure, number: int) -> Markup:
    """The element and script that draw a figure; number: makes the element's id unique on the page."""
    options = {"displayModeBar": False, "responsive": True}
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config=options, div_id=f"picture-{number}")
    return Markup(drawn)


def _with_subscripts(text: str) -> Markup:
    """Escaped text in which only subscripts are markup."""
    marked = str(escape(text)).replace("&lt;sub&gt;", "<sub>").replace("&lt;/sub&gt;", "</sub>")
    return Markup(marked)
